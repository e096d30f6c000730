"""The files that prompts come in: one format, one module."""
