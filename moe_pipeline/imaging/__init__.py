"""Images and their place in the patient: arrays (x, y, z), RAS+, boxes half-open. Other axis orders end here."""
