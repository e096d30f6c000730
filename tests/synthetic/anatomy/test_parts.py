from pathlib import Path

import numpy as np
import torch

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.label_maps import read_atlas
from moe_pipeline.synthetic.anatomy.parts import choices_of, cut_some


def test_a_part_is_behind_a_plane_and_between_a_third_and_two_thirds() -> None:
    whole = torch.zeros(1, 24, 24, 24, dtype=torch.bool)
    whole[0, 3:21, 8:14, 9:13] = True
    parts = [cut_some(np.random.default_rng(seed), whole) for seed in range(60)]
    assert all((part & ~whole).sum() == 0 for part in parts)
    shares = [float(part.sum() / whole.sum()) for part in parts]
    cut = [part for part, share in zip(parts, shares, strict=True) if share < 1]
    assert 8 < len(cut) < 35
    assert all(0.25 < share < 0.75 for share in shares if share < 1)
    for part in cut:
        kept, gone = (mask[0].nonzero().double().mean(0) for mask in (part, whole & ~part))
        normal = kept - gone
        inside, outside = (mask[0].nonzero().double() @ normal for mask in (part, whole & ~part))
        assert inside.mean() > outside.mean()


def test_small_objects_stay_whole() -> None:
    small = torch.zeros(1, 32, 32, 32, dtype=torch.bool)
    small[0, 4, 4, 4:11] = True
    assert all(torch.equal(cut_some(np.random.default_rng(seed), small), small) for seed in range(20))


def test_solid_structures_and_lesions_are_chosen_most(label_maps: Path) -> None:
    one = read_atlas(label_maps, held_out=False).sources[0][0]
    choices = choices_of(one)
    weight = {
        tuple(row.nonzero().flatten().tolist()): float(of_row)
        for row, of_row in zip(choices.membership, choices.weights, strict=True)
    }
    organ, sheet = 2, 3
    assert weight[(labels.LESION,)] > weight[(organ,)] > weight[(sheet,)] > 0
    assert weight[(2, 4)] > 0, "a tissue, or a pair, as a whole"
