"""The one training loop and what it stands on: checkpoints, averaged weights, optimisers, losses, processes."""
