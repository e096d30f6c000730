"""Tables and pictures that people read."""
