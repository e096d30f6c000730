"""Reading and checking cases of a source before they are written, and repairing what is safe to repair."""
