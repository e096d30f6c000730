"""Presets as data: foundations and plan defaults (JSON), read through importlib.resources."""
