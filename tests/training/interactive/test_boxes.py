"""Boxes and names that a click sequence is told beside clicks."""

from typing import Any

import torch

from moe_pipeline.model.foundation import Points, PromptEmbedding
from moe_pipeline.training.interactive.click_sequences import PromptBatch, hints_of
from moe_pipeline.training.interactive.simulated_clicks import (
    BatchPart,
    SequenceHints,
    boxes_around,
    click_sequence,
)
from tests.phantoms.foundations import build_tiny
from tests.phantoms.segvol import build_segvol

CROP = (80, 32, 12)


def targets() -> torch.Tensor:
    target = torch.zeros(3, 1, *CROP, dtype=torch.bool)
    target[0, 0, 10:51, 4:15, 2:7] = True
    target[1, 0, 79, 31, 11] = True
    return target


def test_boxes_lie_around_their_objects() -> None:
    exact = boxes_around(targets(), 0.0, torch.Generator())
    assert exact.tolist() == [[[10, 4, 2], [50, 14, 6]], [[79, 31, 11]] * 2, [[-1, -1, -1]] * 2]
    drawn = torch.stack([boxes_around(targets(), 0.1, torch.Generator().manual_seed(s)) for s in range(40)])
    assert (drawn[:, 0] - exact[0]).abs().amax(0).tolist() == [[4, 1, 0]] * 2  # a tenth of 40, 10 and 4 voxels
    assert (drawn[:, 1:] == exact[1:]).all()


def test_half_of_the_sequences_are_told_boxes_and_names_by_those_who_take_them() -> None:
    foundation = build_segvol()
    batch = PromptBatch(torch.zeros(3, 1), targets(), torch.ones(3, 48))
    told = [hints_of(foundation, batch, (0, began, 3), BatchPart(0, 3)) for began in range(60)]
    again = hints_of(foundation, batch, (0, 7, 3), BatchPart(0, 3))
    assert all(20 < sum(getattr(one, what) is not None for one in told) < 40 for what in ("boxes", "text"))
    assert (again.boxes is None) == (told[7].boxes is None)
    before = told[7].boxes
    assert again.boxes is None or (before is not None and torch.equal(again.boxes, before))
    for began in range(10):
        assert hints_of(build_tiny(16), batch, (0, began, 3), BatchPart(0, 3)) == SequenceHints()


def test_the_box_stands_for_the_first_click(monkeypatch: Any) -> None:
    foundation = build_segvol().eval().requires_grad_(False)
    asked = []
    told = foundation.embed_turn

    def noted(points: Points, *others: Any) -> PromptEmbedding:
        asked.append(points[0].shape[1])
        return told(points, *others)

    monkeypatch.setattr(foundation, "embed_turn", noted)
    embedding = torch.randn(1, 48, 5, 4, 3)
    for hints, expected in (
        (SequenceHints(), [1, 2]),
        (SequenceHints(boxes_around(targets(), 0, torch.Generator())), [0, 1]),
    ):
        asked.clear()
        steps = list(
            click_sequence(
                foundation, foundation.decoder, embedding, targets(), 2, torch.Generator().manual_seed(0), hints=hints
            )
        )
        assert asked == expected
        assert [step.coordinates.shape[1] for step in steps] == [1, 2]
        assert steps[-1].logits.shape == (3, 1, 20, 16, 12)
