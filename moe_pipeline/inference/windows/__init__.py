"""Where a view's cubes stand in the patient, what is seen in them, and how their logits become one mask."""
