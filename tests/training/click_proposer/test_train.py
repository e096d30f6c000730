from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_pipeline.model.moe.click_proposer import ClickProposer
from moe_pipeline.records.foundation import View
from moe_pipeline.training.click_proposer.samples import Samples, SeenCrop, make_samples
from moe_pipeline.training.click_proposer.train import ClickProposerSettings, ClickProposerTask
from moe_pipeline.training.engine.loop import LoopResult, LoopSettings, run_loop

VIEW = View(spacing_mm=2.0, size_voxels=32)
SETTINGS = ClickProposerSettings(steps=90, batch_size=8, hidden=16, depth=1)
CPU = torch.device("cpu")


def made_up(count: int, seed: int) -> list[SeenCrop]:
    """Crops of 32 voxels in which channel c of the embedding is hot where class c is; class 2 is seldom there."""
    random = np.random.default_rng(seed)
    crops: list[SeenCrop] = []
    for number in range(count):
        embedding, labels = 0.1 * torch.randn(8, 4, 4, 4), np.zeros((32, 32, 32), np.uint8)
        for class_id in (1, 2) if number % 2 else (1,):
            token = random.integers(0, 4, 3)
            embedding[class_id, *token] += 4
            labels[tuple(slice(8 * t + 1, 8 * t + 7) for t in token)] = class_id
        crops.append((embedding.half(), labels))
    return crops


def samples(count: int, seed: int, *, with_voxels: bool = False) -> Samples:
    torch.manual_seed(seed)
    return make_samples(iter(made_up(count, seed)), (1, 2), 8, (8, 8, 8), 2.0, with_voxels=with_voxels)


def task() -> ClickProposerTask:
    return ClickProposerTask([samples(48, 0), samples(6, 1)], samples(12, 2, with_voxels=True), SETTINGS, VIEW, {}, CPU)


def train(folder: Path, one: ClickProposerTask, steps: int = SETTINGS.steps) -> LoopResult:
    return run_loop(one, LoopSettings(steps, 5e-3, 5, min(steps // 3, 30)), folder, CPU)


def test_it_learns_where_things_are_and_what_is_not_there(tmp_path: Path) -> None:
    before = task().validate()
    row = train(tmp_path, task()).rows[-1]
    assert before["hit"] < 0.5
    assert row["hit"] > 0.9
    assert row["distance_mm"] < 1
    assert row["found"] > 0.9
    assert row["left_out"] > 0.8


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole", task(), steps=12)
    loss = ClickProposerTask.loss

    def killed(one: ClickProposerTask, step: int) -> Tensor:
        if step == 8:
            raise MemoryError
        return loss(one, step)

    with monkeypatch.context() as patch:
        patch.setattr(ClickProposerTask, "loss", killed)
        with pytest.raises(MemoryError):
            train(tmp_path / "parts", task(), steps=12)
    resumed = train(tmp_path / "parts", task(), steps=12)
    for name, tensor in whole.best.items():
        assert torch.equal(tensor, resumed.best[name])


def test_a_proposal_beside_the_object_is_measured_in_mm(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = task()
    corner = torch.zeros(2, 8**3 + 1)
    corner[:, 0] = 1.0  # always the first low-resolution voxel, its centre at voxel 1.5
    monkeypatch.setattr(
        ClickProposer, "forward", lambda _, embedding: corner.log()[None].expand(len(embedding), -1, -1)
    )
    labels = np.zeros((32, 32, 32), np.uint8)
    labels[4:6, 0:6, 0:6] = 1  # begins at 3.5 along x: 2 voxels, 4 mm, from the click
    empty = torch.zeros(8, 4, 4, 4, dtype=torch.half)
    measured.validation = make_samples(iter([(empty, labels)]), (1, 2), 8, (8, 8, 8), 2.0, with_voxels=True)
    measured.validation_known = torch.ones(1, 2, dtype=torch.bool)
    row = measured.validate()
    assert row["distance_mm"] == 4.0
    assert (row["hit"], row["found"], row["left_out"]) == (0.0, 1.0, 0.0)


def test_slivers_count_neither_as_there_nor_as_missing() -> None:
    some = samples(20, 0)
    some.counts[0, 0] = 5  # of usually 216 voxels
    assert not some.known(some.usual_counts())[0, 0]
    assert some.known(some.usual_counts())[1:].all()
