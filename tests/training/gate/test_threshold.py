import math

import pytest
import torch

from moe_pipeline.mixture.gate_files import DatasetFeatures
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, Gate, GateConfig, OODDetector
from moe_pipeline.model.moe.router import Router
from moe_pipeline.training.gate.threshold import (
    TAUS,
    choose_tau,
    confusion,
    expected_calibration_error,
    known,
    reliability_table,
    sweep,
)

PROMPTS = torch.zeros(4, 10)


def constant_router(weight: float, limit: float = torch.inf) -> Router:
    """A gate that always gives its only expert the same weight, behind a detector that lets all or nothing pass."""
    gate = Gate(GateConfig(width=2, n_experts=1, hidden=1)).requires_grad_(False)
    gate.out.weight.zero_()
    gate.out.bias.copy_(torch.tensor([1 - weight, weight]).log())
    ood_detector = OODDetector(N_IMAGE_GROUPS * 2, 1)
    ood_detector.limit.fill_(limit)
    return Router(gate, [ood_detector])


def test_reliability_and_calibration_error_by_hand() -> None:
    weights = torch.tensor([[0.05, 0.95], [0.05, 0.95], [0.35, 0.65], [0.35, 0.65]])
    wanted = torch.tensor([1, 1, 1, 0])  # sure and right twice; 0.65 and right half the time
    table = reliability_table(weights, wanted)
    assert [(row.low, row.high, row.n, row.accuracy) for row in table] == [(0.6, 0.7, 2, 0.5), (0.9, 1.0, 2, 1.0)]
    assert [row.confidence for row in table] == pytest.approx([0.65, 0.95])
    assert expected_calibration_error(table) == pytest.approx((2 * 0.05 + 2 * 0.15) / 4)


def test_tau_keeps_general_prompts_with_the_general_expert() -> None:
    users = DatasetFeatures("theirs", 0, PROMPTS, PROMPTS)
    assert choose_tau(constant_router(0.42), [users]) == 0.45
    assert choose_tau(constant_router(0.42), []) == 0.5
    assert choose_tau(constant_router(0.42), [users], lowest=0.5) == 0.5
    assert choose_tau(constant_router(0.9999), [users]) == TAUS[-1]


def test_what_nobody_misses_may_be_lost() -> None:
    synthetic = DatasetFeatures("synthetic", 0, PROMPTS, PROMPTS, may_lose=1.0)
    assert choose_tau(constant_router(0.42), [synthetic]) == 0.0


def test_a_sweep_shows_where_the_expert_falls_silent() -> None:
    datasets = [DatasetFeatures("theirs", 0, PROMPTS, PROMPTS), DatasetFeatures("own", 1, PROMPTS, PROMPTS)]
    rows = {row.tau: row for row in sweep(constant_router(0.42), datasets)}
    low, high = rows[0.4], rows[0.45]
    assert (low.general_kept, low.own_expert, low.wrong_expert, low.coverage) == (0, 1, 0, 1)
    assert (high.general_kept, high.own_expert, high.wrong_expert, high.coverage) == (1, 0, 0, 0)


def test_a_sweep_without_general_prompts_says_so() -> None:
    (row, *_) = sweep(constant_router(0.42), [DatasetFeatures("own", 1, PROMPTS, PROMPTS)])
    assert row.general_kept is None
    (row, *_) = sweep(constant_router(0.42), [DatasetFeatures("theirs", 0, PROMPTS, PROMPTS)])
    assert row.own_expert is None


def test_confusion_and_knowledge_are_shares_of_each_dataset() -> None:
    datasets = [DatasetFeatures("theirs", 0, PROMPTS, PROMPTS), DatasetFeatures("own", 1, PROMPTS, PROMPTS)]
    open_door, closed_door = constant_router(0.9), constant_router(0.9, limit=-1)
    assert confusion(open_door, datasets, 0.5, ("general", "own"))["theirs"] == {"general": 0.0, "own": 1.0}
    assert confusion(closed_door, datasets, 0.5, ("general", "own"))["own"] == {"general": 1.0, "own": 0.0}
    assert known(open_door, datasets) == {"theirs": 1.0, "own": 1.0}
    assert known(closed_door, datasets) == {"theirs": 0.0, "own": 0.0}


def test_a_perfect_gate_has_no_calibration_error() -> None:
    table = reliability_table(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0]))
    assert math.isclose(expected_calibration_error(table), 0.0)
