"""What experts made of prompts is not computed twice, and not taken from anybody else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moe_pipeline.mixture.gate_files import load_gate
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.training.interactive.case_windows import CaseWindows
from moe_pipeline.workspace import Workspace

ONE, TWO = "Dataset001_One", "Dataset002_Two"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Who was asked to decode a prompt."""
    asked: list[object] = []
    whole = CaseWindows.answer

    def counted(self: CaseWindows, decoder: object, *rest: object) -> object:
        asked.append(decoder)
        return whole(self, decoder, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(CaseWindows, "answer", counted)
        yield asked


def kept(place: Workspace) -> list[Path]:
    return sorted((place.embeddings("synthetic") / "claims").iterdir())


def retrained(place: Workspace, names: tuple[str, ...], claims: ClaimSettings) -> dict[str, torch.Tensor]:
    train_gate(place, [place.raw(name) for name in names], [], GateOptions(synthetic=4, claims=claims))
    heads = load_gate(place.model, ModelCard.load(place.model / "moe.json").gate_sha256)[0].claims
    return {f"{k}.{name}": value for k, head in enumerate(heads) for name, value in head.state_dict().items()}


def test_a_repeated_training_decodes_nothing_and_gives_the_same(
    place: Workspace, cheap_claims: ClaimSettings, answers: list[object]
) -> None:
    first = retrained(place, (ONE, TWO), cheap_claims)
    assert not answers, "the fixture's training kept everything"
    kept(place)[0].write_bytes(b"damaged")
    for path in kept(place)[1:]:
        path.unlink()
    again = retrained(place, (ONE, TWO), cheap_claims)
    assert answers
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_gate_over_fewer_experts_takes_what_its_expert_said_before(
    place: Workspace, cheap_claims: ClaimSettings, answers: list[object]
) -> None:
    before = len(kept(place))
    retrained(place, (TWO,), cheap_claims)
    own_and_synthetic = len(kept(place)) - before
    assert own_and_synthetic <= 2, "only scans for which it was not named before"
    assert len(answers) <= 2 * own_and_synthetic


def test_other_prompts_are_decoded(place: Workspace, cheap_claims: ClaimSettings, answers: list[object]) -> None:
    retrained(place, (ONE, TWO), replace(cheap_claims, seed=1))
    assert answers
