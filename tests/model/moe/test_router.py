import pytest
import torch

from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, Gate, GateConfig, OODDetector
from moe_pipeline.model.moe.router import AddedExpert, Router

WIDTH = 2
FEATURES = torch.randn(7, 5 * WIDTH, generator=torch.Generator().manual_seed(0))


def random_gate(n_experts: int, seed: int) -> Gate:
    torch.manual_seed(seed)
    gate = Gate(GateConfig(width=WIDTH, n_experts=n_experts, hidden=4)).requires_grad_(False)
    gate.out.weight.mul_(6)
    return gate


def ood_detector(limit: float) -> OODDetector:
    made = OODDetector(N_IMAGE_GROUPS * WIDTH, 1)
    made.limit.fill_(limit)
    return made


def constant_gate(weight: float) -> Gate:
    gate = random_gate(1, 0)
    gate.out.weight.zero_()
    gate.out.bias.copy_(torch.tensor([1 - weight, weight]).log())
    return gate


def open_doors(n: int) -> list[OODDetector]:
    return [ood_detector(torch.inf) for _ in range(n)]


def test_a_router_without_added_experts_is_its_gate() -> None:
    gate = random_gate(2, 1)
    router = Router(gate, open_doors(2))
    assert torch.equal(router.weights(FEATURES), gate.weights(FEATURES))
    assert router.knows(FEATURES).shape == (7, 2)


@pytest.mark.parametrize(
    "silent", [constant_gate(0.55), constant_gate(0.9)], ids=["below threshold", "out_of_distribution"]
)
def test_who_does_not_claim_changes_no_bit(silent: Gate) -> None:
    before = Router(random_gate(3, 2), open_doors(3))
    added_expert = AddedExpert(
        silent, ood_detector(-1.0 if silent.out.bias[1] > silent.out.bias[0] + 1 else torch.inf), 0.6
    )
    after = Router(random_gate(3, 2), open_doors(3), added_experts=[added_expert])
    assert torch.equal(after.weights(FEATURES)[:, :4], before.weights(FEATURES))
    assert not after.weights(FEATURES)[:, 4].any()
    for tau in (0.0, 0.3, 0.5, 0.9):
        assert torch.equal(after.answering(FEATURES, tau), before.answering(FEATURES, tau))
        for row in FEATURES:
            old, new = before.route(row[None], tau), after.route(row[None], tau)
            assert (old.expert, old.weight) == (new.expert, new.weight)


def test_who_claims_outweighs_all_others() -> None:
    added_expert = AddedExpert(constant_gate(0.8), ood_detector(torch.inf), 0.5)
    router = Router(random_gate(3, 2), open_doors(3), added_experts=[added_expert])
    weights = router.weights(FEATURES)
    assert torch.allclose(weights.sum(1), torch.ones(7))
    assert torch.allclose(weights[:, 4], torch.full((7,), 0.8))
    assert (router.answering(FEATURES, 0.5) == 4).all()
    route = router.route(FEATURES[:1], 0.5)
    assert (route.expert, route.out_of_distribution) == (4, False)
    assert route.weight == pytest.approx(0.8)


def test_the_later_added_expert_asks_first() -> None:
    first, second = (AddedExpert(constant_gate(w), ood_detector(torch.inf), 0.5) for w in (0.9, 0.7))
    router = Router(random_gate(1, 2), open_doors(1), added_experts=[first, second])
    weights = router.weights(FEATURES)[0]
    assert weights[3] == pytest.approx(0.7)
    assert weights[2] == pytest.approx(0.9 * 0.3)


def test_a_removed_expert_leaves_its_weight_to_the_general_one_and_changes_no_other() -> None:
    gate = random_gate(3, 3)
    gate.out.bias.copy_(torch.tensor([0.0, 0.0, 0.5, 0.0]))
    whole, without = Router(gate, open_doors(3)), Router(gate, open_doors(3), kept=(1, 3))
    before, after = whole.weights(FEATURES), without.weights(FEATURES)
    assert torch.equal(after[:, 1:], before[:, [1, 3]])
    assert torch.allclose(after[:, 0], before[:, 0] + before[:, 2])
    owned = whole.answering(FEATURES, 0.3) == 2
    assert owned.any()
    assert torch.equal(without.answering(FEATURES, 0.3)[~owned] > 0, whole.answering(FEATURES, 0.3)[~owned] > 0)


def test_a_added_expert_turned_away_by_its_ood_detector_is_reported() -> None:
    added_expert = AddedExpert(constant_gate(0.9), ood_detector(-1.0), 0.5)
    router = Router(constant_gate(0.1), open_doors(1), added_experts=[added_expert])
    route = router.route(FEATURES[:1], 0.5)
    assert (route.expert, route.out_of_distribution) == (0, True)


def test_a_threshold_under_a_half_or_too_few_ood_detectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a threshold >= 0\.5"):
        AddedExpert(constant_gate(0.8), ood_detector(1.0), 0.4)
    with pytest.raises(ValueError, match="an OOD detector for each of 2 experts, got 1"):
        Router(random_gate(2, 0), open_doors(1))
