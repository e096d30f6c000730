"""The only place that loads or saves tensors."""
