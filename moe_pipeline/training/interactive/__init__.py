"""Training by simulated clicks."""
