"""One image, its prompts, one label map."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.crop_grid import WindowIndex
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.interact import interact
from moe_pipeline.inference.interactive.label_map import LabelMapBuilder, probability_map
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.inference.interactive.objects import CaseObject, SimulatedUser, given_object, simulated_object
from moe_pipeline.inference.interactive.request import (
    PromptRequest,
    Request,
    SearchRequest,
    SimulatedRequest,
    TextRequest,
)
from moe_pipeline.inference.interactive.rows import absent_row, answered_row, blank_row, missing_row, with_volumes
from moe_pipeline.inference.options import PLAIN, SegmentOptions
from moe_pipeline.inference.search.named import find_named
from moe_pipeline.inference.search.proposals import Missing
from moe_pipeline.inference.search.search import search_case
from moe_pipeline.inference.windows.decode import routes_of
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.inference.windows.placement import plan_windows
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.moe.selector import Route
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.cases import CaseRow

FirstLook = tuple[Route, tuple[WindowIndex, WindowIndex | None]]
"""Who answers an object, and its first crops in the foundation's view and in the expert's."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A label map on the image's canonical grid, and a row per class.

    Attributes:
        labels: uint8, or uint16 where a class id needs it.
        rows: in the order of the request.
        uncertainty: uint8, 255 the most doubtful; None if it was not asked for.
        answers: per class id those of its objects, on the decoders' low-resolution voxels; empty unless they were
            asked for.
        clicked: the clicks that each answered object was answered with, in the order of the rows that have some.
    """

    labels: Volume
    rows: tuple[CaseRow, ...]
    uncertainty: Volume | None = None
    answers: dict[int, tuple[MixtureMask, ...]] = field(default_factory=dict)
    clicked: tuple[Prompt, ...] = ()

    def probability(self, class_id: int) -> Volume:
        """0 to 255 for 0 to 1, of a class whose answers were kept; of several objects the highest counts."""
        return probability_map(self.labels.geometry, self.answers[class_id])


def segment_case(
    model: Mixture, request: Request, options: SegmentOptions = PLAIN, bank: CropBank | None = None
) -> CaseResult:
    """Segment every object asked for; where masks overlap the higher probability wins.

    Crops are planned for all clicks that are known at the start, so that few encodings answer many prompts. Objects are
    answered one after the other, and brought to the image's grid piece by piece: however many there are, no more than
    label map and highest probability are held at the image's size.

    Args:
        model: the mixture.
        request: image and prompts.
        options: how each object is answered.
        bank: encoded crops of this image, for several models on one foundation; the request's own if None.

    Raises:
        ImageError: if all voxels of the image are equal.
    """
    refuse_without_contrast(request.case, request.image)
    bank = bank_for(model, request.image, options) if bank is None else bank
    assert bank.fits(request.image, model.foundation, tta=options.tta), "crops of another image or foundation"
    objects, missing = _objects(model, bank, request)
    highest = max((wanted.class_id for wanted in objects), default=0)
    label_map = LabelMapBuilder(request.image.geometry, max(highest, len(objects)), uncertainty=options.uncertainty)
    plan = _plan(model, bank, objects, own_crops=options.own_crops)
    rows = []
    answers: dict[int, tuple[MixtureMask, ...]] = {}
    clicked = []
    for wanted in objects:
        began = time.monotonic()
        if wanted.known is None:
            rows.append(absent_row(request.case, wanted))
            continue
        route, initial_windows = next(plan)
        if bank.crop(model.view, initial_windows[0]).blank:
            rows.append(blank_row(request.case, wanted))
            continue
        reply = interact(model, bank, wanted, route, initial_windows, options)
        label_map.add(wanted.class_id, reply.answer)
        clicked.append(Prompt(wanted.class_id, wanted.class_name, *reply.clicks, wanted.source))
        if options.keep_answers:
            answers[wanted.class_id] = (*answers.get(wanted.class_id, ()), reply.answer)
        rows.append(answered_row(request.case, wanted, model, options, reply, time.monotonic() - began))
    rows += [missing_row(request.case, gap) for gap in missing]
    rows = list(with_volumes(rows, label_map.volumes_ml()))
    return CaseResult(label_map.labels(), tuple(rows), label_map.uncertainty(), answers, tuple(clicked))


def refuse_without_contrast(case: str, image: Volume) -> None:
    """Refuse an image in which nothing can be found.

    Raises:
        ImageError: if all its voxels are equal.
    """
    lowest, highest = image.array.min(), image.array.max()
    if lowest == highest:
        raise ImageError(
            f"{case}: all voxels are {lowest:g}: an image without contrast, in which nothing can be found. "
            "Export it again"
        )


def bank_for(model: Mixture, image: Volume, options: SegmentOptions) -> CropBank:
    """No crops yet, for requests on one image, in canonical orientation."""
    return CropBank(image, model.foundation, model.device, tta=options.tta)


def _objects(model: Mixture, bank: CropBank, request: Request) -> tuple[list[CaseObject], tuple[Missing, ...]]:
    """What is to be segmented, and what was searched for in vain."""
    match request:
        case PromptRequest():
            return [given_object(prompt) for prompt in request.prompts], ()
        case SimulatedRequest():
            users = {value: SimulatedUser(request.reference, value, request.seed) for value in request.classes}
            return [
                simulated_object(user, request.case, request.classes[value], request.clicks)
                for value, user in users.items()
            ], ()
        case SearchRequest():
            findings = search_case(model, bank.without_mirrors(), request.search)
            return [given_object(prompt) for prompt in findings.prompts], findings.missing
        case TextRequest():
            prompts, missing = find_named(model, bank, request.names)
            return [given_object(prompt) for prompt in prompts], missing


def _plan(model: Mixture, bank: CropBank, objects: list[CaseObject], *, own_crops: bool) -> Iterator[FirstLook]:
    """The first looks at all objects with clicks, in their order; at those that share crops all at once."""
    clicked = [wanted for wanted in objects if wanted.known is not None]
    sharing = [wanted for wanted in clicked if not own_crops and not wanted.own_crop]
    shared = iter(first_looks(model, bank, sharing) if sharing else ())
    for wanted in clicked:
        alone = own_crops or wanted.own_crop
        yield first_looks(model, bank, [wanted])[0] if alone else next(shared)


def first_looks(model: Mixture, bank: CropBank, objects: list[CaseObject]) -> list[FirstLook]:
    """Route and first crops of every object, all of them with clicks: as few crops as will do, per view."""
    clicked = [(wanted.known, wanted.shown_mm) for wanted in objects if wanted.known is not None]
    known, shown = [clicks for clicks, _ in clicked], [points for _, points in clicked]
    initial_windows = plan_windows(bank.crop_grid(model.view), shown)
    bank.encode(model.view, initial_windows)
    routes = routes_of(model, bank, initial_windows, known, shown)
    return [(route, (initial, own)) for initial, (route, own) in zip(initial_windows, routes, strict=True)]
