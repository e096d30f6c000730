"""One image, its prompts, one label map."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from moe_pipeline.imaging.crop_grid import WindowIndex
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.interact import interact
from moe_pipeline.inference.interactive.label_map import LabelMapBuilder, probability_map
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.inference.interactive.objects import CaseObject, SimulatedUser, given_object, simulated_object
from moe_pipeline.inference.interactive.rows import absent_row, answered_row, missing_row, with_volumes
from moe_pipeline.inference.search.experts import SearchOptions
from moe_pipeline.inference.search.proposals import Missing
from moe_pipeline.inference.search.search import search_case
from moe_pipeline.inference.windows.decode import routes_of
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.inference.windows.placement import plan_windows
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.moe.selector import Route
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.cases import CaseRow


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of one case: given prompts, a simulated user that clicks by a reference, or a search.

    Attributes:
        case: case id.
        image: in canonical orientation.
        prompts: clicks of people or tools.
        reference: label map for the simulated user; None in every real prediction.
        classes: class ids and names that the simulated user prompts.
        n_clicks: turns of the simulated user.
        seed: of the simulated user.
        uncertainty: also make a map of how far the answers can be trusted.
        keep_answers: also return what the decoders said, for probabilities.
        search: what the experts shall look for by themselves; their prompts take the place of given ones.
    """

    case: str
    image: Volume
    prompts: tuple[Prompt, ...] = ()
    reference: Volume | None = None
    classes: dict[int, str] | None = None
    n_clicks: int = 1
    seed: int = 0
    uncertainty: bool = False
    keep_answers: bool = False
    search: SearchOptions | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A label map on the image's canonical grid, and a row per class.

    Attributes:
        labels: uint8, or uint16 where a class id needs it.
        rows: in the order of the request.
        uncertainty: uint8, 255 the most doubtful; None if it was not asked for.
        answers: per class id those of its objects, on the decoders' low-resolution voxels; empty unless they were
            asked for.
    """

    labels: Volume
    rows: tuple[CaseRow, ...]
    uncertainty: Volume | None = None
    answers: dict[int, tuple[MixtureMask, ...]] = field(default_factory=dict)

    def probability(self, class_id: int) -> Volume:
        """0 to 255 for 0 to 1, of a class whose answers were kept; of several objects the highest counts."""
        return probability_map(self.labels.geometry, self.answers[class_id])


def segment_case(model: Mixture, request: Request) -> CaseResult:
    """Segment every object asked for; where masks overlap the higher probability wins.

    Crops are planned for all clicks that are known at the start, so that few encodings answer many prompts. Objects are
    answered one after the other, and brought to the image's grid piece by piece: however many there are, no more than
    label map and highest probability are held at the image's size.

    Args:
        model: the mixture.
        request: image and prompts.
    """
    bank = CropBank(request.image, model.foundation, model.device, flips=model.settings.flips)
    missing: tuple[Missing, ...] = ()
    if request.search is not None:
        plain = CropBank(request.image, model.foundation, model.device) if model.settings.flips else bank
        findings = search_case(model, plain, request.search)
        request, missing = replace(request, prompts=findings.prompts), findings.missing
    objects = _objects(request)
    highest = max((wanted.class_id for wanted in objects), default=0)
    label_map = LabelMapBuilder(request.image.geometry, highest, uncertainty=request.uncertainty)
    plan = _plan(model, bank, objects)
    rows = []
    answers: dict[int, tuple[MixtureMask, ...]] = {}
    for wanted in objects:
        began = time.monotonic()
        if wanted.known is None:
            rows.append(absent_row(request.case, wanted))
            continue
        route, initial_windows = next(plan)
        reply = interact(
            model, bank, route, initial_windows, wanted.known, wanted.turns, wanted.next_click, wanted.dense
        )
        label_map.add(wanted.class_id, reply.answer)
        if request.keep_answers:
            answers[wanted.class_id] = (*answers.get(wanted.class_id, ()), reply.answer)
        rows.append(answered_row(request.case, wanted, model, reply, time.monotonic() - began))
    rows += [missing_row(request.case, gap) for gap in missing]
    labels = label_map.labels()
    return CaseResult(labels, tuple(with_volumes(rows, labels)), label_map.uncertainty(), answers)


def _objects(request: Request) -> list[CaseObject]:
    objects = [given_object(prompt) for prompt in request.prompts]
    for class_id, class_name in (request.classes or {}).items():
        assert request.reference is not None, "classes without a reference"
        user = SimulatedUser(request.reference, class_id, request.seed)
        objects.append(simulated_object(user, request.case, class_name, request.n_clicks))
    return objects


def _plan(
    model: Mixture, bank: CropBank, objects: list[CaseObject]
) -> Iterator[tuple[Route, tuple[WindowIndex, WindowIndex | None]]]:
    """Route and first crops of every object with clicks: as few crops as will do, per view."""
    clicked = [(wanted.known, wanted.shown_mm) for wanted in objects if wanted.known is not None]
    known, shown = [clicks for clicks, _ in clicked], [points for _, points in clicked]
    initial_windows = plan_windows(bank.crop_grid(model.view), shown)
    bank.encode(model.view, initial_windows)
    routes = routes_of(model, bank, initial_windows, known, shown)
    return iter([(route, (initial, own)) for initial, (route, own) in zip(initial_windows, routes, strict=True)])
