"""Whole folders: schedule, files of each case, resuming."""
