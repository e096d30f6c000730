"""Synthetic volumes with masks to segment: what the nano foundation is pretrained on."""

from moe_pipeline.synthetic.volumes import GENERATOR_VERSION, SyntheticBatch, make_batch

__all__ = ["GENERATOR_VERSION", "SyntheticBatch", "make_batch"]
