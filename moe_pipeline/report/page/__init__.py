"""A page as records, and how it becomes one HTML file."""
