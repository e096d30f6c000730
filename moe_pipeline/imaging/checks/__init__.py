"""What can be wrong with images and labels, and what of it can be repaired."""
