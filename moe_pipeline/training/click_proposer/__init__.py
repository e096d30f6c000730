"""Training of the head that finds an expert's classes without a human."""
