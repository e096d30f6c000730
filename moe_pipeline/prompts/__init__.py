"""Prompts from files: ours, those of 3D Slicer and napari, challenge archives, and masks. One format, one module."""
