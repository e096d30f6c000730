"""What is finished and from what, and which files are ours: how runs resume without touching anybody else's."""
