"""Claims at prediction: the same evidence as in training, and what a refusal means."""

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.inference.windows.decode import decided_route, route_of, routes_of
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture, load_mixture
from moe_pipeline.model.moe.selector import GENERAL, Route
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.interactive.case_windows import CaseWindows, clicks_in
from moe_pipeline.workspace import Workspace

ONE = "Dataset001_One"
CPU = torch.device("cpu")
KNOWN = np.array([1])


@pytest.fixture(scope="module")
def model(trained_workspace: Workspace) -> Mixture:
    return load_mixture(trained_workspace.model, weights_root=trained_workspace.weights)


@pytest.fixture
def case(trained_workspace: Workspace, model: Mixture) -> CaseWindows:
    first = open_dataset(trained_workspace.raw(ONE)).cases[0]
    assert first.label is not None
    return CaseWindows(read_volume(first.images[0]), read_label_map(first.label), model.foundation, CPU)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The evidence of every decision."""
    found: list[Tensor] = []
    whole = Mixture.decided

    def noted(self: Mixture, named: Route, evidence: Tensor) -> Route:
        found.append(evidence)
        return whole(self, named, evidence)

    monkeypatch.setattr(Mixture, "decided", noted)
    return found


def test_prediction_sees_the_evidence_that_training_saw(model: Mixture, case: CaseWindows, seen: list[Tensor]) -> None:
    assert model.router is not None
    detectors = tuple(head.ood_detector for head in model.claims if head is not None)
    panel = Panel(model.foundation, model.view, model.router, model.experts, detectors, CPU)
    bank = CropBank(case.image, model.foundation, CPU)
    for click in clicks_in(case.labels, (1, 2), 2, np.random.default_rng(0)):
        features = panel.features(case, click)
        nominee = panel.named(features)
        general, _ = case.answer(model.foundation.decoder, model.view, click)
        learnt, _ = panel.outcome(case, click, 1, general, features)
        windows = tuple(bank.crop_grid(view).around(click.place_mm) for view in (model.view, model.experts[0].view))
        known = (click.place_mm[None], KNOWN)
        assert route_of(model, bank, windows[0], known).expert == nominee
        decided_route(model, bank, Route(1, 1.0, 1, 1.0, out_of_distribution=False), (windows[0], windows[1]), known)
        torch.testing.assert_close(seen[-1], learnt, equal_nan=True, rtol=1e-4, atol=1e-4)


def test_a_claim_that_does_not_hold_leaves_the_prompt_to_the_general_expert(model: Mixture, case: CaseWindows) -> None:
    (click,) = clicks_in(case.labels, (1,), 1, np.random.default_rng(0))
    bank = CropBank(case.image, model.foundation, CPU)
    window, known = bank.crop_grid(model.view).around(click.place_mm), (click.place_mm[None], KNOWN)
    named = route_of(model, bank, window, known).expert
    assert named != GENERAL, "the fixture's OOD detectors know their own training case"
    head = model.claim_head(named)
    assert head is not None
    before = float(head.threshold)
    try:
        head.threshold.fill_(1.0)
        ((route, own),) = routes_of(model, bank, [window], [known], [click.place_mm[None]])
        assert (route.expert, route.weight, route.best_expert, own) == (GENERAL, 0.0, named, None)
        head.threshold.fill_(0.0)
        ((route, own),) = routes_of(model, bank, [window], [known], [click.place_mm[None]])
        assert (route.expert, route.best_weight) == (named, route.weight)
        assert own is not None
    finally:
        head.threshold.fill_(before)
