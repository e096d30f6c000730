from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import SearchRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.options import SearchOptions
from moe_pipeline.inference.search import search
from moe_pipeline.inference.search.experts import class_searches
from moe_pipeline.inference.search.search import search_case
from moe_pipeline.inference.windows import decode
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.click_proposer import ExpertClickProposer
from moe_pipeline.mixture.model import Expert, Mixture
from moe_pipeline.model.moe.click_proposer import ClickProposer, ClickProposerConfig
from moe_pipeline.model.moe.gate import Gate, GateConfig, OODDetector
from moe_pipeline.model.moe.router import Router
from moe_pipeline.model.moe.selector import GENERAL, Route
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=2.0, size_voxels=16, normalisation="zscore_positive")
SHAPE = (90, 60, 40)
CENTRE = (70, 20, 25)
Routing = Callable[[int], Route]


@dataclass(frozen=True, slots=True)
class Bright(ExpertClickProposer):
    """Finds what is bright; all its classes are the same to it."""

    def look(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        inside = (embedding[0, 0] > 3).float()  # (16, 16, 16)
        voxels = torch.nn.functional.avg_pool3d(inside[None, None], 4)[0]  # (1, 4, 4, 4)
        heat = voxels / voxels.sum().clamp(min=1e-6)
        chance = float(inside.sum() > 20)
        n = len(self.classes)
        return (heat * chance).repeat(n, 1, 1, 1), torch.full((n,), chance)


class PlainBank(CropBank):
    """Its embeddings are the images themselves."""

    def _encode(self, cubes: np.ndarray, flipped: tuple[int, ...]) -> Tensor:
        assert not flipped
        return torch.from_numpy(cubes)[:, None]


def bright(classes: dict[int, str], objects: dict[int, int] | None = None) -> Bright:
    net = ClickProposer(ClickProposerConfig(width=48, n_classes=len(classes), hidden=8, depth=0, upscaling=2))
    return Bright(net, classes, objects or {})


def model_of(foundation: SamFoundation, *click_proposers: ExpertClickProposer | None) -> Mixture:
    names = ("Dataset001_One", "Dataset022_Two")
    experts = tuple(
        Expert(name, VIEW, foundation.decoder, click_proposer)
        for name, click_proposer in zip(names, click_proposers, strict=False)
    )
    return Mixture(foundation, VIEW, experts, None, 0.0, "weighted", torch.device("cpu"), {})


def image_with(*centres: tuple[int, int, int]) -> Volume:
    places = np.indices(SHAPE)
    image = np.random.default_rng(0).uniform(0.5, 1.5, SHAPE).astype(np.float32)
    for centre in centres:
        image[((places - np.array(centre)[:, None, None, None]) ** 2).sum(0) <= 36] = 20.0
    return Volume(image, Geometry(SHAPE, (1.0, 1.0, 1.0), (-20.0, 4.0, 9.0)))


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Routing], None]:
    """Let the gate answer what the function says for the number of the question."""

    def set_routes(routing: Routing) -> None:
        asked = iter(range(1000))
        monkeypatch.setattr(decode, "route_of", lambda *_: routing(next(asked)))

    return set_routes


def to(output: int, weight: float = 0.9, *, out_of_distribution: bool = False) -> Route:
    return Route(output, weight if output else 0.0, output, weight, out_of_distribution)


def bank_of(model: Mixture, image: Volume) -> CropBank:
    return PlainBank(image, model.foundation, model.device)


def test_a_class_is_found_wherever_it_is(tiny_foundation: SamFoundation, routed: Callable[[Routing], None]) -> None:
    routed(lambda _: to(1))
    model = model_of(tiny_foundation, bright({4: "ball"}))
    image = image_with(CENTRE)
    found = search_case(model, bank_of(model, image), SearchOptions())
    assert [(p.class_id, p.class_name, p.source, p.labels.tolist()) for p in found.prompts] == [
        (4, "ball", "automatic", [1])
    ]
    centre_mm = image.geometry.voxel_to_world(np.array(CENTRE, dtype=float))
    assert np.linalg.norm(found.prompts[0].clicks_mm[0] - centre_mm) < 3
    assert found.missing == ()


def test_an_absent_class_gets_no_click(tiny_foundation: SamFoundation, routed: Callable[[Routing], None]) -> None:
    routed(lambda _: to(1))
    model = model_of(tiny_foundation, bright({4: "ball"}))
    found = search_case(model, bank_of(model, image_with()), SearchOptions())
    assert found.prompts == ()
    assert found.missing[0].message.startswith("not found")


def test_several_objects_where_a_scan_usually_has_several(
    tiny_foundation: SamFoundation, routed: Callable[[Routing], None]
) -> None:
    routed(lambda _: to(1))
    centres = (CENTRE, (15, 40, 12))
    image = image_with(*centres)
    for usual, expected in ((2, 2), (1, 1)):
        model = model_of(tiny_foundation, bright({4: "ball"}, {4: usual}))
        found = search_case(model, bank_of(model, image), SearchOptions())
        assert len(found.prompts) == expected
        for prompt in found.prompts:
            gaps = image.geometry.voxel_to_world(np.array(centres, dtype=float)) - prompt.clicks_mm[0]
            assert np.linalg.norm(gaps, axis=1).min() < 3


@pytest.mark.parametrize(("ood_scores", "looks"), [(0.4, True), (1.9, True), (2.1, False)])
def test_an_expert_does_not_look_where_everything_is_strange(
    tiny_foundation: SamFoundation,
    routed: Callable[[Routing], None],
    monkeypatch: pytest.MonkeyPatch,
    ood_scores: float,
    looks: bool,
) -> None:
    routed(lambda _: to(1))
    monkeypatch.setattr(search, "_ood_scores", lambda *_: [ood_scores])
    model = model_of(tiny_foundation, bright({4: "ball"}))
    bank = bank_of(model, image_with(CENTRE))
    found = search_case(model, bank, SearchOptions())
    assert bool(found.prompts) == looks
    assert bool(bank.n_encoded) == looks
    assert [gap.out_of_distribution for gap in found.missing] == ([] if looks else [True])


def test_a_scan_is_as_strange_as_its_most_familiar_window(tiny_foundation: SamFoundation) -> None:
    width = tiny_foundation.config.encoder.out_chans
    ood_detectors = [OODDetector(2 * width, 1) for _ in range(2)]
    for in_distribution, limit in zip(ood_detectors, (0.5, torch.inf), strict=True):
        in_distribution.limit.fill_(limit)
    router = Router(Gate(GateConfig(width=width, n_experts=2, hidden=4)), ood_detectors)
    model = replace(model_of(tiny_foundation, None, None), router=router)
    bank = CropBank(image_with(CENTRE), tiny_foundation, torch.device("cpu"))
    first, second = search._ood_scores(model, bank)
    means = [
        ood_detectors[0].distance(
            torch.cat((crop.embedding.flatten(2).mean(2), crop.embedding.flatten(2).std(2)), dim=1)
        )
        for crop in bank
    ]
    assert first == pytest.approx(2 * float(torch.stack(means).min()), rel=1e-5)
    assert second == 0.0


@pytest.mark.parametrize(
    ("route", "out_of_distribution", "reason"),
    [
        (to(GENERAL, out_of_distribution=True), True, "the image is unlike those of Dataset001_One"),
        (to(GENERAL), False, "the gate leaves this place"),
        (to(2), False, "the gate leaves this place"),
    ],
)
def test_nothing_is_proposed_where_the_expert_may_not_answer(
    tiny_foundation: SamFoundation,
    routed: Callable[[Routing], None],
    route: Route,
    out_of_distribution: bool,
    reason: str,
) -> None:
    routed(lambda _: route)
    model = model_of(tiny_foundation, bright({4: "ball"}), None)
    found = search_case(model, bank_of(model, image_with(CENTRE)), SearchOptions())
    assert found.prompts == ()
    assert found.missing[0].out_of_distribution == out_of_distribution
    assert found.missing[0].message.startswith(reason)


def test_a_label_value_belongs_to_one_expert_in_an_image(
    tiny_foundation: SamFoundation, routed: Callable[[Routing], None]
) -> None:
    routed(lambda n: to(1, 0.6) if n == 0 else to(2, 0.9))  # the first proposal is the first expert's
    model = model_of(tiny_foundation, bright({4: "ball"}), bright({4: "pear"}))
    found = search_case(model, bank_of(model, image_with(CENTRE)), SearchOptions())
    assert [prompt.class_name for prompt in found.prompts] == ["pear"]
    (lost,) = found.missing
    assert lost.class_name == "ball"
    assert "pear of Dataset022_Two" in lost.message


def test_the_same_class_of_two_experts_is_found_once(
    tiny_foundation: SamFoundation, routed: Callable[[Routing], None]
) -> None:
    routed(lambda n: to(1, 0.6) if n == 0 else to(2, 0.9))
    model = model_of(tiny_foundation, bright({4: "ball"}), bright({4: "ball"}))
    found = search_case(model, bank_of(model, image_with(CENTRE)), SearchOptions())
    assert len(found.prompts) == 1
    assert found.missing == ()


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (SearchOptions(classes=("ball",)), {"ball"}),
        (SearchOptions(classes=("5",)), {"cone"}),
        (SearchOptions(experts=("22",)), {"cone"}),
        (SearchOptions(experts=("One",)), {"ball", "bar"}),
        (SearchOptions(experts=("Dataset001_One",), classes=("6", "ball")), {"ball", "bar"}),
    ],
)
def test_the_search_can_be_restricted(
    tiny_foundation: SamFoundation, routed: Callable[[Routing], None], search: SearchOptions, expected: set[str]
) -> None:
    routed(lambda _: to(GENERAL))
    model = model_of(tiny_foundation, bright({4: "ball", 6: "bar"}), bright({5: "cone"}))
    found = search_case(model, bank_of(model, image_with()), search)
    assert {gap.class_name for gap in found.missing} == expected


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (SearchOptions(classes=("liver",)), "--classes liver: no expert knows that; there are: Dataset001_One: 4 ball"),
        (SearchOptions(experts=("Three",)), "--experts Three: no such expert .* there are: Dataset001_One"),
    ],
)
def test_what_nobody_knows_is_refused_before_the_first_case(
    tiny_foundation: SamFoundation, search: SearchOptions, message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        class_searches(model_of(tiny_foundation, bright({4: "ball"})), search)


def test_a_model_without_click_proposers_says_how_to_get_one(tiny_foundation: SamFoundation) -> None:
    with pytest.raises(PromptError, match=r"no expert of this model can propose .*`moe finetune`"):
        class_searches(model_of(tiny_foundation, None), SearchOptions())


def test_a_search_gives_a_row_for_every_class(
    tiny_foundation: SamFoundation, routed: Callable[[Routing], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    routed(lambda _: to(1))
    model = model_of(tiny_foundation, bright({4: "ball"}))
    monkeypatch.setattr(search, "_found", lambda *_: {4: []})
    result = segment_case(model, SearchRequest("scan", image_with(CENTRE), SearchOptions()))
    (row,) = result.rows
    assert (row.status, row.prompt_source, row.expert, row.class_id) == ("absent", "automatic", "Dataset001_One", 4)
    assert not result.labels.array.any()


def test_the_general_selector_answers_at_the_experts_clicks(
    tiny_foundation: SamFoundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(model: Mixture, *_: object) -> Route:
        asked.append(model.selector)
        return to(1)

    monkeypatch.setattr(decode, "route_of", note)
    model = replace(model_of(tiny_foundation, bright({4: "ball"})), selector="general")
    assert search_case(model, bank_of(model, image_with(CENTRE)), SearchOptions()).prompts
    assert asked == ["weighted"]
