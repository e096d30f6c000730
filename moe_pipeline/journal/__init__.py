"""What is finished, from what, and which files are ours: how runs resume, and why nobody else's file is ever replaced."""
