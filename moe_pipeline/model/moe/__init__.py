"""The mixture's own networks: gate, OOD detectors, router, selector, click proposer."""
