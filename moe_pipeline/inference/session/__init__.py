"""Interactive work on one image: prompts in, masks out, every step can be undone."""
