import torch

from moe_pipeline.model.gate import N_IMAGE_GROUPS, Gate, GateConfig, Guard
from moe_pipeline.training.gate import DatasetFeatures, choose_tau, expected_calibration_error


def test_calibration_error_by_hand() -> None:
    weights = torch.tensor([[0.05, 0.95], [0.05, 0.95], [0.35, 0.65], [0.35, 0.65]])
    outputs = torch.tensor([1, 1, 1, 0])  # sure and right twice; 0.65 and right half the time
    expected = (2 * abs(0.95 - 1.0) + 2 * abs(0.65 - 0.5)) / 4
    assert abs(expected_calibration_error(weights, outputs) - expected) < 1e-6


def test_tau_keeps_general_prompts_with_the_general_expert() -> None:
    gate, guard = constant_gate(0.42)
    users = DatasetFeatures("theirs", 0, torch.zeros(4, 10), torch.zeros(4, 10))
    assert choose_tau(gate, [guard], [users]) == 0.45
    assert choose_tau(gate, [guard], []) == 0.5


def test_what_nobody_misses_may_be_lost() -> None:
    gate, guard = constant_gate(0.42)
    synthetic = DatasetFeatures("synthetic", 0, torch.zeros(4, 10), torch.zeros(4, 10), may_lose=1.0)
    assert choose_tau(gate, [guard], [synthetic]) == 0.0


def constant_gate(weight: float) -> tuple[Gate, Guard]:
    """A gate that gives its only expert the same weight always, behind a guard that lets all pass."""
    gate = Gate(GateConfig(width=2, n_experts=1, hidden=1)).requires_grad_(False)
    gate.out.weight.zero_()
    gate.out.bias.copy_(torch.tensor([1 - weight, weight]).log())
    guard = Guard(N_IMAGE_GROUPS * 2, 1)
    guard.limit.fill_(torch.inf)
    return gate, guard
