"""Clicks, losses, the one training loop, and what it trains: foundation, experts, gate."""
