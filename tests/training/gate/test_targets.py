import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.model.foundation import Candidates
from moe_pipeline.training.gate.targets import Judgement, dice_targets, object_dice
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import load_sam

CPU = torch.device("cpu")
ONE = "Dataset001_One"


def test_an_expert_must_be_better_by_the_margin() -> None:
    judged = Judgement(
        general={("a", 1): 0.50, ("a", 2): 0.50, ("b", 1): 0.50, ("c", 1): 0.1},
        expert={("a", 1): 0.60, ("a", 2): 0.51, ("b", 1): 0.40},
    )
    assert judged.better(0.05) == {("a", 1): True, ("a", 2): False, ("b", 1): False}
    assert judged.better(0.0)["a", 2]


def test_who_cannot_be_judged_stays_with_the_general_expert() -> None:
    better = {("a", 1): True, ("a", 2): False}
    targets = dice_targets([("a", 1), ("a", 2), ("z", 1)], better, output=3)
    assert targets.tolist() == [3, 0, 0]
    assert targets.dtype == torch.int64


@pytest.fixture(scope="module")
def cache(trained_workspace: Workspace) -> EmbeddingCache:
    folder = next(path for path in trained_workspace.embeddings(ONE).iterdir() if (path / "manifest.json").is_file())
    return EmbeddingCache.open(folder)


def test_every_object_of_the_cases_is_judged_once(trained_workspace: Workspace, cache: EmbeddingCache) -> None:
    foundation = load_sam("tiny", weights_root=trained_workspace.weights)
    cases = [entry.case for entry in cache.manifest.entries][:2]
    scores = object_dice(cache, cases, foundation, foundation.mask_decoder, 0, CPU)
    expected = {
        (entry.case, class_id)
        for entry in cache.manifest.entries
        if entry.case in cases and entry.copy_index == 0
        for classes in entry.classes
        for class_id in classes
    }
    assert set(scores) == expected
    assert all(0 <= value <= 1 for value in scores.values())
    assert scores == object_dice(cache, cases, foundation, foundation.mask_decoder, 0, CPU)


def test_a_decoder_that_answers_nothing_is_never_better(
    trained_workspace: Workspace, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    foundation = load_sam("tiny", weights_root=trained_workspace.weights)
    mute = copy.deepcopy(foundation.mask_decoder)

    def nothing(*prompt: Any) -> Candidates:
        found = foundation.mask_decoder.candidates(*prompt)
        return replace(found, logits=torch.full_like(found.logits, -10.0))

    monkeypatch.setattr(mute, "candidates", nothing)
    cases = sorted({entry.case for entry in cache.manifest.entries})
    general = object_dice(cache, cases, foundation, foundation.mask_decoder, 0, CPU)
    silent = object_dice(cache, cases, foundation, mute, 0, CPU)
    assert set(silent.values()) == {0.0}
    assert not any(Judgement(general, silent).better(0.0).values())
