"""A raw dataset as nnU-Net lays it out: cases and classes."""
