from dataclasses import replace

import pytest
import torch

from moe_pipeline.synthetic import SyntheticBatch
from moe_pipeline.synthetic.painter import OwnPainter, Painter, PainterSettings
from moe_pipeline.synthetic.replay import Replay, ReplaySettings

CPU = torch.device("cpu")
SETTINGS = ReplaySettings(seed=3, volumes=2, targets=2, painted_targets=3, shows=2)


def painter(seed: int = 3) -> Painter:
    return OwnPainter(PainterSettings(seed, volumes=2, size=32, targets=3), CPU)


def replay() -> Replay:
    return Replay(SETTINGS, painter(), CPU)


def equal(left: SyntheticBatch, right: SyntheticBatch) -> bool:
    return torch.equal(left.image, right.image) and torch.equal(left.target, right.target)


def test_a_step_sees_the_same_however_the_run_came_there() -> None:
    undisturbed = replay()
    seen = [undisturbed.batch(step) for step in range(4)]
    assert equal(replay().batch(3), seen[3])
    assert equal(undisturbed.batch(1), seen[1])
    assert not equal(seen[2], seen[3])
    assert seen[3].image.shape == (2, 1, 32, 32, 32)
    assert seen[3].target.shape == (2, 2, 32, 32, 32)


def test_a_shown_volume_is_a_painted_one_turned() -> None:
    shown, painted = replay().batch(0), painter().paint(0).batch
    for image, targets in zip(shown.image, shown.target, strict=True):
        values = image.flatten().sort().values
        (row,) = [r for r in range(2) if torch.equal(painted.image[r].flatten().sort().values, values)]
        means = {round(float(painted.image[row, 0][mask].mean()), 4) for mask in painted.target[row]}
        assert {round(float(image[0][mask].mean()), 4) for mask in targets} <= means


def test_the_largest_objects_are_shown_on_request() -> None:
    painted = painter().paint(0).batch
    sizes = sorted(sorted(mask.sum().item() for mask in masks)[-2:] for masks in painted.target)
    shown = sorted(sorted(mask.sum().item() for mask in masks) for masks in replay().batch(0, largest=True).target)
    assert shown == sizes


@pytest.mark.parametrize("step", [0, 1])
def test_other_seeds_see_other_volumes(step: int) -> None:
    other = Replay(replace(SETTINGS, seed=4), painter(seed=4), CPU)
    assert not equal(other.batch(step), replay().batch(step))
