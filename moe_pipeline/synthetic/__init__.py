"""Synthetic volumes with masks to segment: what the nano foundation is pretrained on."""

from moe_pipeline.synthetic.volumes import SyntheticBatch, make_batch

__all__ = ["SyntheticBatch", "make_batch"]
