"""Charts of the pages, each a function from numbers to SVG."""
