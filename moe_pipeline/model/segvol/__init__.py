"""SegVol: a transformer on flat patches, prompts by points, boxes and words."""
