"""Training of one dataset's expert, or of the whole network to compare."""
