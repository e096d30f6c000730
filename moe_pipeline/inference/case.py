"""One image, its prompts, one label map."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.answer import Answer
from moe_pipeline.inference.automatic import search_case
from moe_pipeline.inference.cover import plan_windows
from moe_pipeline.inference.crops import CropBank
from moe_pipeline.inference.dense import DensePrompt
from moe_pipeline.inference.dialogue import Clicks, NextClick, ProbabilityMap, Reply, converse_with, route_of
from moe_pipeline.inference.labels import LabelCanvas, probability_map
from moe_pipeline.inference.lattice import Start
from moe_pipeline.inference.model import Mixture
from moe_pipeline.inference.prompts import Prompt
from moe_pipeline.inference.proposals import SOURCE, Missing
from moe_pipeline.inference.searchers import Search
from moe_pipeline.inference.simulate import Robot
from moe_pipeline.model.mixture import GENERAL, Route
from moe_pipeline.records.cases import CaseRow


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of one case: given prompts, a robot that clicks by a reference, or a search.

    Attributes:
        case: case id.
        image: in canonical orientation.
        prompts: clicks of people or tools.
        reference: label map for the robot; None in every real prediction.
        classes: class ids and names that the robot prompts.
        n_clicks: turns of the robot.
        seed: of the robot.
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
    search: Search | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A label map on the image's canonical grid, and a row per class.

    Attributes:
        labels: uint8, or uint16 where a class id needs it.
        rows: in the order of the request.
        uncertainty: uint8, 255 the most doubtful; None if it was not asked for.
        answers: per class id those of its objects, on the decoders' cells; empty unless they were asked for.
    """

    labels: Volume
    rows: tuple[CaseRow, ...]
    uncertainty: Volume | None = None
    answers: dict[int, tuple[Answer, ...]] = field(default_factory=dict)

    def probability(self, class_id: int) -> Volume:
        """0 to 255 for 0 to 1, of a class whose answers were kept; of several objects the highest counts."""
        return probability_map(self.labels.geometry, self.answers[class_id])


@dataclass(frozen=True, slots=True)
class _Object:
    """One object to be segmented; without clicks there is nothing to click on."""

    class_id: int
    class_name: str
    source: str
    known: Clicks | None
    turns: int
    next_click: NextClick
    prompt: Prompt | None = None

    @property
    def dense(self) -> DensePrompt | None:
        """An earlier mask to begin with."""
        return self.prompt.dense if self.prompt is not None else None

    @property
    def shown_mm(self) -> NDArray[np.float64]:
        """What the first crop shall show, (n, 3): the clicks, and the corners of a box."""
        assert self.known is not None, "an object without clicks has no crop"
        return self.known[0] if self.prompt is None else np.concatenate([self.known[0], self.prompt.box_mm])


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
    objects = list(_objects(request))
    highest = max((wanted.class_id for wanted in objects), default=0)
    canvas = LabelCanvas(request.image.geometry, highest, uncertainty=request.uncertainty)
    plan = _plan(model, bank, objects)
    rows = []
    answers: dict[int, tuple[Answer, ...]] = {}
    for wanted in objects:
        began = time.monotonic()
        if wanted.known is None:
            rows.append(_absent(request.case, wanted))
            continue
        route, homes = next(plan)
        reply = converse_with(model, bank, route, homes, wanted.known, wanted.turns, wanted.next_click, wanted.dense)
        canvas.add(wanted.class_id, reply.answer)
        if request.keep_answers:
            answers[wanted.class_id] = (*answers.get(wanted.class_id, ()), reply.answer)
        rows.append(_row(request.case, wanted, model, reply, time.monotonic() - began))
    rows += [_not_found(request.case, gap) for gap in missing]
    labels = canvas.labels()
    return CaseResult(labels, tuple(_with_volumes(rows, labels)), canvas.uncertainty(), answers)


def _objects(request: Request) -> Iterator[_Object]:
    for prompt in request.prompts:
        known = _positives_first(prompt)

        def given(_answer: Callable[[], ProbabilityMap], clicks: Clicks, known: Clicks = known) -> Clicks:
            turn = len(clicks[1]) + 1
            return known[0][:turn], known[1][:turn]

        yield _Object(prompt.class_id, prompt.class_name, prompt.source, known, len(known[1]), given, prompt)
    for class_id, class_name in (request.classes or {}).items():
        assert request.reference is not None, "classes without a reference"
        robot = Robot(request.reference, class_id, request.seed)
        yield _Object(class_id, class_name, "labels", robot.first(request.case), request.n_clicks, robot.next)


def _positives_first(prompt: Prompt) -> Clicks:
    """The dialogue opens with a click inside the object, whatever order the file has."""
    order = np.argsort(-prompt.labels, kind="stable")
    return prompt.clicks_mm[order], prompt.labels[order]


def _plan(model: Mixture, bank: CropBank, objects: list[_Object]) -> Iterator[tuple[Route, tuple[Start, Start | None]]]:
    """Route and first crops of every object with clicks: as few crops as will do, per view."""
    clicked = [(wanted.known, wanted.shown_mm) for wanted in objects if wanted.known is not None]
    known, shown = [clicks for clicks, _ in clicked], [points for _, points in clicked]
    homes = plan_windows(bank.lattice(model.view), shown)
    bank.encode(model.view, homes)
    routes = [route_of(model, bank, home, clicks) for home, clicks in zip(homes, known, strict=True)]
    experts: list[Start | None] = [None] * len(known)
    for output in sorted({route.expert for route in routes} - {GENERAL}):
        view = model.experts[output - 1].view
        own = [index for index, route in enumerate(routes) if route.expert == output]
        if view == model.view:
            starts = [homes[index] for index in own]
        else:
            starts = plan_windows(bank.lattice(view), [shown[index] for index in own])
        for index, start in zip(own, starts, strict=True):
            experts[index] = start
    return iter([(route, (home, expert)) for route, home, expert in zip(routes, homes, experts, strict=True)])


def _absent(case: str, wanted: _Object) -> CaseRow:
    return CaseRow(
        case=case,
        class_id=wanted.class_id,
        class_name=wanted.class_name,
        status="absent",
        message="the class is not in the reference, so there is nothing to click on",
        prompt_source=wanted.source,
    )


def _not_found(case: str, gap: Missing) -> CaseRow:
    return CaseRow(
        case=case,
        class_id=gap.class_id,
        class_name=gap.class_name,
        status="absent",
        message=gap.message,
        expert=gap.expert,
        guard="stranger" if gap.stranger else "",
        prompt_source=SOURCE,
    )


def _row(case: str, wanted: _Object, model: Mixture, reply: Reply, seconds: float) -> CaseRow:
    incomplete = not all(heard.complete for heard in reply.answer.heard)
    cut = f"still touches a face after {model.settings.max_windows} crops; it may end too early there"
    return CaseRow(
        case=case,
        class_id=wanted.class_id,
        class_name=wanted.class_name,
        status="ok",
        message=cut if incomplete and model.settings.max_windows > 1 else "",
        expert=model.name_of(reply.route.expert),
        weight=round(reply.route.weight, 4),
        guard="stranger" if reply.route.guarded else "passed",
        prompt_source=wanted.source,
        n_clicks=len(reply.clicks[1]),
        seconds=round(seconds, 3),
    )


def _with_volumes(rows: list[CaseRow], labels: Volume) -> Iterator[CaseRow]:
    counts = _counts(labels.array)
    for row in rows:
        if row.status != "ok":
            yield row
            continue
        voxels = int(counts[row.class_id]) if row.class_id is not None and row.class_id < len(counts) else 0
        update: dict[str, object] = {"volume_ml": round(voxels * labels.geometry.voxel_ml, 4)}
        if not voxels:
            update |= {"status": "absent", "message": "the mask is empty"}
        yield row.model_copy(update=update)


def _counts(classes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Voxels by class id, slice by slice: numpy counts in 64 bits."""
    length = int(classes.max(initial=0)) + 1
    counts = np.zeros(length, np.int64)
    for layer in classes.T:
        counts += np.bincount(layer.ravel(), minlength=length)
    return counts
