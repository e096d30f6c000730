"""nnInteractive's remote protocol, 2.6: what 3D Slicer's and napari's extensions speak. Its arrays are (k, j, i)."""
