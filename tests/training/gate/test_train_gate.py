"""Rules, targets and interruptions of the gate's training."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.mixture.gate_files import draw_gate
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.records.moe import GateCard
from moe_pipeline.training.claims.learn_claims import BACKGROUND_CLICKS, ClaimSettings
from moe_pipeline.training.gate import features as gate_features
from moe_pipeline.training.gate.fit import GateTask
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace

ONE, TWO, THREE = "Dataset001_One", "Dataset002_Two", "Dataset003_Three"


def both(place: Workspace) -> list[Path]:
    return [place.raw(ONE), place.raw(TWO)]


def gate_files(place: Workspace) -> dict[str, bytes]:
    names = ("gate.safetensors", "gate.json", "moe.json", "features/Dataset001_One.safetensors")
    return {name: (place.model / name).read_bytes() for name in names}


@pytest.mark.parametrize("phase", ["prompts", "steps"])
def test_a_killed_training_repeated_gives_the_same_gate(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, phase: str, cheap_claims: ClaimSettings
) -> None:
    before = gate_files(place)
    shutil.rmtree(place.model)
    shutil.rmtree(place.embeddings("synthetic"))
    with monkeypatch.context() as patch:
        if phase == "steps":
            whole = GateTask.loss

            def killed(task: GateTask, step: int) -> torch.Tensor:
                if step == 200:  # after the checkpoint of step 150
                    raise MemoryError
                return whole(task, step)

            patch.setattr(GateTask, "loss", killed)
        else:
            calls: list[int] = []
            features = prompt_features

            def killed_late(*arguments: object) -> torch.Tensor:
                calls.append(0)
                if len(calls) == 3:
                    raise MemoryError
                return features(*arguments)  # type: ignore[arg-type]

            patch.setattr(gate_features, "prompt_features", killed_late)
        with pytest.raises(MemoryError):
            train_gate(place, both(place), [], GateOptions(synthetic=4, claims=cheap_claims))
    assert not place.model.exists()
    train_gate(place, both(place), [], GateOptions(synthetic=4, claims=cheap_claims))
    assert gate_files(place) == before


def test_dice_decides_who_should_answer(place: Workspace, cheap_claims: ClaimSettings) -> None:
    card = train_gate(
        place, both(place), [], GateOptions(synthetic=4, claims=cheap_claims, targets="dice", margin=0.05)
    )
    assert (card.targets, card.margin) == ("dice", 0.05)
    assert set(card.better_expert) == {ONE, TWO}
    assert all(0 <= share <= 1 for share in card.better_expert.values())
    never = train_gate(
        place, both(place), [], GateOptions(synthetic=4, claims=cheap_claims, targets="dice", margin=1.0)
    )
    assert set(never.better_expert.values()) == {0.0}
    assert json.loads((place.model / "run.json").read_text())["settings"]["targets"] == "dice"


def test_the_papers_rule_has_no_ood_detectors_no_background_and_no_temperature(place: Workspace) -> None:
    card = train_gate(place, [place.raw(ONE)], [place.raw(THREE)], GateOptions(rule="paper"))
    assert (card.rule, card.targets, card.out_of_distribution, card.temperature, card.tau) == (
        "paper",
        "dataset",
        False,
        1.0,
        0.5,
    )
    assert card.general_datasets == (THREE,)
    assert card.known == {}
    router = load_mixture(place.model, weights_root=place.weights).router
    assert router is not None
    assert all(ood_detector.limit == math.inf for ood_detector in router.ood_detectors)


def test_the_papers_rule_needs_general_data_and_plain_targets(place: Workspace) -> None:
    with pytest.raises(DatasetError, match="name some with --general"):
        train_gate(place, [place.raw(ONE)], [], GateOptions(rule="paper"))
    with pytest.raises(PipelineError, match="leave out --targets"):
        train_gate(place, [place.raw(ONE)], [place.raw(THREE)], GateOptions(rule="paper", targets="dice"))


def test_the_card_tells_thresholds_reliability_and_coverage(trained_workspace: Workspace, tmp_path: Path) -> None:
    card = GateCard.load(trained_workspace.model / "gate.json")
    assert card.sweep[0].tau == 0
    assert all((a.coverage or 0) >= (b.coverage or 0) for a, b in zip(card.sweep, card.sweep[1:], strict=False))
    assert sum(row.n for row in card.reliability) > 0
    gaps = [row.n * abs(row.confidence - row.accuracy) for row in card.reliability]
    assert card.calibration_error == pytest.approx(sum(gaps) / sum(row.n for row in card.reliability))
    background_clicks = {name + BACKGROUND_CLICKS for name in (ONE, TWO)}
    assert set(card.coverage) == set(card.known) == {ONE, TWO, "synthetic", *background_clicks}
    for name, row in card.confusion.items():
        assert card.coverage[name] == pytest.approx(1 - row["general"])
    draw_gate(card.sweep, card.reliability, card.tau, tmp_path / "gate.png")
    with Image.open(tmp_path / "gate.png") as picture:
        assert picture.size == (640, 600)


def test_the_card_states_the_guarantee_and_when_each_expert_answers(
    trained_workspace: Workspace, cheap_claims: ClaimSettings
) -> None:
    card = GateCard.load(trained_workspace.model / "gate.json")
    assert card.claims is not None
    guarantee = card.claims.guarantee
    assert (guarantee.risk, guarantee.confidence) == (cheap_claims.risk, cheap_claims.confidence)
    assert guarantee.prompts == guarantee.synthetic == cheap_claims.scans == 4
    assert guarantee.mean_loss <= guarantee.bound
    assert guarantee.held == (guarantee.bound <= guarantee.risk)
    assert "learn then test" in guarantee.rests_on
    assert set(card.claims.experts) == {ONE, TWO}
    for name, claim in card.claims.experts.items():
        assert card.confusion[name][name] == pytest.approx(claim.answered)
        assert 0.5 <= claim.threshold <= 1.0
        assert claim.prompts > 0


def test_thresholds_given_by_the_user_take_the_place_of_all_others(trained_workspace: Workspace) -> None:
    loaded = load_mixture(trained_workspace.model, weights_root=trained_workspace.weights, tau=0.7)
    assert [float(head.threshold) for head in loaded.claims if head is not None] == pytest.approx([0.7, 0.7])


def test_a_card_of_an_earlier_version_can_be_read(place: Workspace) -> None:
    path = place.model / "gate.json"
    fields = json.loads(path.read_text())
    for name in (
        "rule",
        "targets",
        "margin",
        "better_expert",
        "out_of_distribution",
        "reliability",
        "known",
        "coverage",
        "claims",
    ):
        del fields[name]
    for row in fields["sweep"]:
        del row["coverage"]
    path.write_text(json.dumps(fields))
    assert load_mixture(place.model, weights_root=place.weights).experts[0].name == ONE
