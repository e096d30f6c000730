"""Which clicks the gate is shown."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from moe_pipeline.training.gate import features
from moe_pipeline.training.gate.features import PromptFeatures, collect_features
from moe_pipeline.training.interactive.click_sequences import PromptBatch

SIZE = 20


@dataclass
class LabelledCubes:
    """Stands for a cache: sample n is a cube with label 1 in its first n slabs."""

    manifest: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(dataset="Dataset001_One"))

    def classes_of(self, _number: int) -> tuple[int, ...]:
        return (1,)

    def case_of(self, number: int) -> str:
        return f"case_{number}"

    def prompts(self, _cache: object, chosen: list[tuple[int, int]], _device: torch.device) -> PromptBatch:
        labels = torch.zeros(len(chosen), 1, SIZE, SIZE, SIZE, dtype=torch.long)
        for row, (number, _) in enumerate(chosen):
            labels[row, 0, :number] = 1
        wanted = torch.tensor([class_id for _, class_id in chosen])[:, None, None, None, None]
        return PromptBatch(torch.zeros(len(chosen), 1, 1, 1, 1), labels == wanted)


@pytest.fixture
def collect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PromptFeatures]:
    def first_click(_foundation: object, _embedding: Tensor, coordinates: Tensor, labels: Tensor) -> Tensor:
        assert (labels[:, 0] == 1).all()
        return coordinates[:, 0]

    cache: Any = LabelledCubes()
    nobody: Any = None
    monkeypatch.setattr(features, "load_prompts", cache.prompts)
    monkeypatch.setattr(features, "prompt_features", first_click)

    def collected(numbers: list[int], *, background_clicks: bool) -> PromptFeatures:
        return collect_features(cache, numbers, 40, nobody, 0, torch.device("cpu"), background_clicks=background_clicks)

    return collected


def test_the_first_click_lies_in_the_object(collect: Callable[..., PromptFeatures]) -> None:
    found = collect([3, 5, 20], background_clicks=False)
    assert len(found.rows) == 12  # four for each sample
    for case, row in zip(found.cases, found.rows[:, 0].tolist(), strict=True):
        assert row < int(case.split("_")[1])


def test_clicks_in_the_background_keep_away_from_the_object(collect: Callable[..., PromptFeatures]) -> None:
    found = collect([3, 5], background_clicks=True)
    assert {class_id for _, class_id in found.objects} == {0}
    for case, row in zip(found.cases, found.rows[:, 0].tolist(), strict=True):
        assert row >= int(case.split("_")[1]) + 4


def test_an_object_that_leaves_no_room_gives_no_click_in_the_background(collect: Callable[..., PromptFeatures]) -> None:
    found = collect([3, 17, 20], background_clicks=True)  # three slabs are too few to keep away
    assert set(found.cases) == {"case_3"}
    assert len(found.rows) == len(found.objects) == 4
    nothing = collect([17, 20], background_clicks=True)
    assert len(nothing.rows) == len(nothing.objects) == 0
