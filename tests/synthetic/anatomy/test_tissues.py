from pathlib import Path

import numpy as np

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.label_maps import read_atlas
from moe_pipeline.synthetic.anatomy.tissues import draw_look

LEFT, FOLDED, RIGHT = 2, 3, 4  # in memory


def test_left_and_right_look_alike_and_mostly_share_a_texture(label_maps: Path) -> None:
    one = read_atlas(label_maps, held_out=False).sources[0][0]
    looks = [draw_look(np.random.default_rng(seed), one) for seed in range(60)]
    alike = [abs(look.means[LEFT] - look.means[RIGHT]) < 0.05 for look in looks]
    assert sum(alike) > 45
    assert sum(look.textured_as[RIGHT] == LEFT for look in looks) > 45
    assert all(np.isnan(look.means[FOLDED]) for look in looks), "in no tissue and no pair: as it is drawn"
    assert all(look.textured_as[labels.OTHER_ORGANS.start] == labels.CELLS.start for look in looks)


def test_tissues_differ_from_volume_to_volume(label_maps: Path) -> None:
    one = read_atlas(label_maps, held_out=False).sources[0][0]
    means = [draw_look(np.random.default_rng(seed), one).means[LEFT] for seed in range(20)]
    assert np.nanstd(means) > 0.1
