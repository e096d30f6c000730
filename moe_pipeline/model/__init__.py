"""The networks: pure torch, no files."""
