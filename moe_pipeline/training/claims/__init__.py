"""When experts may answer: evidence with its outcome, claim heads, thresholds that hold a risk."""
