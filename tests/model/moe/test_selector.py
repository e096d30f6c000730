import torch

from moe_pipeline.model.moe.selector import choose_route, in_distribution_weights, mix


def weights(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def known(*values: bool) -> torch.Tensor:
    return torch.tensor(values)


def test_a_out_of_distribution_expert_gives_its_weight_to_the_general_one() -> None:
    allowed = in_distribution_weights(weights(0.2, 0.5, 0.3)[None], known(False, True)[None])
    assert torch.allclose(allowed, weights(0.7, 0.0, 0.3)[None])


def test_an_expert_above_tau_speaks_with_its_weight() -> None:
    route = choose_route(weights(0.3, 0.7), known(True), tau=0.5)
    assert (route.expert, round(route.weight, 4), route.out_of_distribution) == (1, 0.7, False)


def test_specific_speaks_alone_and_general_always_keeps_silent() -> None:
    assert choose_route(weights(0.3, 0.7), known(True), 0.5, "specific").weight == 1.0
    route = choose_route(weights(0.3, 0.7), known(True), 0.5, "general")
    assert (route.expert, route.weight) == (0, 0.0)


def test_at_tau_the_general_expert_answers() -> None:
    assert choose_route(weights(0.5, 0.5), known(True), tau=0.5).expert == 0


def test_a_unlike_image_goes_to_the_general_expert_and_is_reported() -> None:
    route = choose_route(weights(0.01, 0.99), known(False), tau=0.5)
    assert (route.expert, route.out_of_distribution) == (0, True)


def test_the_next_expert_may_speak_where_the_first_is_out_of_distribution() -> None:
    route = choose_route(weights(0.0, 0.4, 0.6), known(True, False), tau=0.3)
    assert (route.expert, route.out_of_distribution) == (1, True)


def test_mix_by_hand() -> None:
    mixed = mix(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.75)
    assert mixed.tolist() == [0.75, 0.25]
