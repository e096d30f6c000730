"""One short module per raw source, a registry, and the steps they share."""
