"""From finished experts to a model folder: prompts' features, the gate, its threshold, added experts."""
