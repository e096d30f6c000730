"""Sessions over HTTP: nnInteractive's protocol, a JSON API, and the annotator page."""
