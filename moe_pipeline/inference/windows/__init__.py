"""Where a view's crops stand in the patient, what is seen in them, and how their logits become one mask."""
