from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.label_maps import read_atlas
from moe_pipeline.synthetic.anatomy.pose import draw_pose, host_box, look_up, paint_lesion, voxel_of_lesion


def test_up_and_forward_are_kept_and_half_are_mirrored(label_maps: Path) -> None:
    one = read_atlas(label_maps, held_out=False).sources[0][0]
    poses = [draw_pose(np.random.default_rng(seed), 64, one, np.zeros(3)) for seed in range(60)]
    assert all(pose.matrix[1, 1] > 0 and pose.matrix[2, 2] > 0 for pose in poses)
    across = [pose.matrix[0, 0] > 0 for pose in poses]
    assert 15 < sum(across) < 45


def test_voxels_are_between_six_tenths_and_three_mm(label_maps: Path) -> None:
    one = read_atlas(label_maps, held_out=False).sources[0][0]
    for seed in range(30):
        pose = draw_pose(np.random.default_rng(seed), 64, one, np.zeros(3))
        mm = np.linalg.norm(pose.matrix * np.array(one.spacing_mm)[:, None], axis=0) / 32  # of a voxel's edges
        assert ((mm > 0.6 * 0.7) & (mm < 3 * 1.4)).all()
        assert np.abs(np.log(mm / mm.mean())).max() < 0.5


def test_the_nearest_voxel_is_found_and_nothing_outside() -> None:
    grid = torch.arange(1, 25, dtype=torch.uint8).reshape(2, 3, 4)
    places = torch.tensor([[0.4, 1.2, -0.6, 1.0], [0.0, 1.6, 0.0, 2.0], [0.0, 2.6, 0.0, 4.0]])
    assert look_up(grid, places).tolist() == [1, 24, 0, 0]


def test_a_lesion_lies_in_its_host_alone(label_maps: Path) -> None:
    atlas = read_atlas(label_maps, held_out=False)
    one, lesion = atlas.sources[0][0], atlas.lesions[0]
    (low, high), rest = host_box(lesion.host, one), 1
    assert (high - low).tolist() == pytest.approx([31, 47, 21]), "the box of the tissue"
    sides = one.voxels.shape
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in sides), indexing="ij")).reshape(3, -1).float()
    cube = torch.zeros(max(sides), max(sides), max(sides), dtype=torch.uint8)
    cube[: sides[0], : sides[1], : sides[2]] = one.voxels
    painted = paint_lesion(cube[: sides[0], : sides[1], : sides[2]], places, lesion, one)
    covered = painted == labels.LESION
    assert covered.any()
    assert (one.voxels[covered] == rest).all()
    middle = covered.nonzero().double().mean(0).numpy()
    voxel = voxel_of_lesion(np.random.default_rng(0), lesion, one)
    assert np.abs((middle - low) / (high - low) - 0.475).max() < 0.1
    assert np.abs((voxel - low) / (high - low) - 0.475).max() < 0.1
