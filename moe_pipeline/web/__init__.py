"""What the pages for a browser have in common: the viewer for volumes."""
