"""Scans small enough to travel inside a page."""
