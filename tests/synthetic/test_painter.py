from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.synthetic.painter import OwnPainter, PainterSettings, Painting, PaintingProcesses, held_out_volumes
from moe_pipeline.synthetic.replay import Replay, ReplaySettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def settings(label_maps: Path) -> PainterSettings:
    return PainterSettings(seed=2, volumes=3, size=32, targets=2, label_maps=label_maps)


def equal(left: Painting, right: Painting) -> bool:
    return (
        torch.equal(left.batch.image, right.batch.image)
        and torch.equal(left.batch.target, right.batch.target)
        and left.upright == right.upright
    )


def test_other_processes_paint_the_same_bit_for_bit(settings: PainterSettings) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    own = OwnPainter(settings, CPU)
    others = PaintingProcesses(settings, 1)
    try:
        for number in (4, 5, 0):
            assert equal(others.paint(number), own.paint(number))
    finally:
        others.close()
        torch.set_num_threads(threads)


def test_what_is_wrong_with_label_maps_is_said_by_whoever_asked(settings: PainterSettings, tmp_path: Path) -> None:
    others = PaintingProcesses(replace(settings, label_maps=tmp_path), 1)
    try:
        with pytest.raises(PipelineError, match=r"no label_maps\.json"):
            others.paint(0)
    finally:
        others.close()


def test_so_large_a_share_is_painted_on_label_maps(settings: PainterSettings) -> None:
    painter = OwnPainter(replace(settings, volumes=1, size=32, targets=1), CPU)
    upright = [painter.paint(number).upright[0] for number in range(30)]
    assert 12 < sum(upright) < 27
    assert not any(OwnPainter(replace(settings, label_maps=None, volumes=1), CPU).paint(0).upright)


def test_label_maps_are_shown_upright(settings: PainterSettings) -> None:
    painter = OwnPainter(replace(settings, anatomy=1.0, volumes=1), CPU)
    replay = Replay(ReplaySettings(seed=0, volumes=1, targets=1, painted_targets=2, shows=1), painter, CPU)
    painted = {number: painter.paint(number).batch.image[0] for number in range(3)}
    for step in range(3):
        shown = replay.batch(step).image[0]
        known = [image for number, image in painted.items() for image in (image, image.flip(1)) if number <= step]
        assert any(torch.equal(shown, image) for image in known)


def test_held_out_volumes_are_painted_on_other_maps(settings: PainterSettings) -> None:
    assert settings.label_maps is not None
    volumes = held_out_volumes(settings.label_maps, 7, 2, 32, CPU, targets=2)
    assert [volume.target.shape for volume in volumes] == [(1, 2, 32, 32, 32)] * 2
