"""Predictions against references: metrics, whole folders, and what was forgotten."""
