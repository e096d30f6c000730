"""A mixture in memory and as a model folder."""
