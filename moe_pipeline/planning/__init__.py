"""From a raw dataset to a plan: check, fingerprint, choices with their reasons, folds. Nothing here imports torch."""
