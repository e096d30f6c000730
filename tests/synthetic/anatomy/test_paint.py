from pathlib import Path

import torch

from moe_pipeline.synthetic.anatomy.label_maps import read_atlas
from moe_pipeline.synthetic.anatomy.paint import paint_anatomy

CPU = torch.device("cpu")


def test_a_volume_depends_on_seed_and_index_alone(label_maps: Path) -> None:
    atlas = read_atlas(label_maps, held_out=False)
    first = paint_anatomy(3, 5, 32, atlas, CPU, targets=3)
    paint_anatomy(3, 6, 32, atlas, CPU, targets=3)
    again = paint_anatomy(3, 5, 32, read_atlas(label_maps, held_out=False), CPU, targets=3)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.target, again.target)
    assert first.image.shape == (1, 1, 32, 32, 32)
    assert first.target.shape == (1, 3, 32, 32, 32)
    assert not torch.equal(first.image, paint_anatomy(4, 5, 32, atlas, CPU, targets=3).image)


def test_every_target_is_there_and_every_image_normalised(label_maps: Path) -> None:
    atlas = read_atlas(label_maps, held_out=False)
    volumes = [paint_anatomy(1, index, 32, atlas, CPU, targets=2) for index in range(12)]
    assert all(volume.target.flatten(2).any(2).all() for volume in volumes)
    assert all(volume.image.isfinite().all() for volume in volumes)
    assert all(0.5 < float(volume.image.amax() - volume.image.amin()) < 100 for volume in volumes)
