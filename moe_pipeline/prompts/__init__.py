"""Prompts: reading, converting and simulating them."""
