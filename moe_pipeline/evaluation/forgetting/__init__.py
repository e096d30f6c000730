"""The forgetting matrix: what was learnt, and what was forgotten, model by model and dataset by dataset."""
