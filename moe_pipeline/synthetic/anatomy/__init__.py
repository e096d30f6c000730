"""Volumes painted on real label maps: where organs lie, which shape they have, what is beside them."""
