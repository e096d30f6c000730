"""One short module per raw source."""
