"""One image, its prompts, one label map."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.crops import CropBank
from moe_pipeline.inference.dialogue import Clicks, ProbabilityMap, Reply, converse_with
from moe_pipeline.inference.model import Mixture
from moe_pipeline.inference.prompts import Prompt
from moe_pipeline.inference.simulate import Robot
from moe_pipeline.records.cases import CaseRow


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of one case: given prompts, or a robot that clicks by a reference.

    Attributes:
        case: case id.
        image: in canonical orientation.
        prompts: clicks of people or tools.
        reference: label map for the robot; None in every real prediction.
        classes: class ids and names that the robot prompts.
        n_clicks: turns of the robot.
        seed: of the robot.
    """

    case: str
    image: Volume
    prompts: tuple[Prompt, ...] = ()
    reference: Volume | None = None
    classes: dict[int, str] | None = None
    n_clicks: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A label map on the image's canonical grid, and a row per class."""

    labels: Volume
    rows: tuple[CaseRow, ...]


def segment_case(model: Mixture, request: Request) -> CaseResult:
    """Segment every object asked for; where masks overlap the higher probability wins.

    Only one probability map is held at native size, however many classes there are.

    Args:
        model: the mixture.
        request: image and prompts.
    """
    canvas = _Canvas(request.image)
    bank = CropBank(request.image, model.foundation, model.device)
    rows = []
    for class_id, class_name, reply, source, began in _replies(model, bank, request):
        if reply is None:
            message = "the class is not in the reference, so there is nothing to click on"
            row = CaseRow(case=request.case, class_id=class_id, class_name=class_name, status="absent")
            rows.append(row.model_copy(update={"message": message, "prompt_source": source}))
            continue
        canvas.add(class_id, reply.probability)
        rows.append(_row(request.case, class_id, class_name, model, reply, source, time.monotonic() - began))
    labels = canvas.labels()
    return CaseResult(labels, tuple(_with_volume(row, labels) for row in rows))


def _replies(model: Mixture, bank: CropBank, request: Request) -> Iterable[tuple[int, str, Reply | None, str, float]]:
    for prompt in request.prompts:
        began = time.monotonic()
        known = _positives_first(prompt)

        def given(_answer: Callable[[], ProbabilityMap], clicks: Clicks, known: Clicks = known) -> Clicks:
            turn = len(clicks[1]) + 1
            return known[0][:turn], known[1][:turn]

        answered = converse_with(model, bank, known, len(known[1]), given)
        yield prompt.class_id, prompt.class_name, answered, prompt.source, began
    for class_id, class_name in (request.classes or {}).items():
        began = time.monotonic()
        assert request.reference is not None, "classes without a reference"
        robot = Robot(request.reference, class_id, request.seed)
        first = robot.first(request.case)
        reply = None if first is None else converse_with(model, bank, first, request.n_clicks, robot.next)
        yield class_id, class_name, reply, "labels", began


def _positives_first(prompt: Prompt) -> Clicks:
    """The dialogue opens with a click inside the object, whatever order the file has."""
    order = np.argsort(-prompt.labels, kind="stable")
    return prompt.clicks_mm[order], prompt.labels[order]


def _row(
    case: str, class_id: int, class_name: str, model: Mixture, reply: Reply, source: str, seconds: float
) -> CaseRow:
    return CaseRow(
        case=case,
        class_id=class_id,
        class_name=class_name,
        status="ok",
        expert=model.name_of(reply.route.expert),
        weight=round(reply.route.weight, 4),
        guard="stranger" if reply.route.guarded else "passed",
        prompt_source=source,
        n_clicks=len(reply.clicks[1]),
        seconds=round(seconds, 3),
    )


def _with_volume(row: CaseRow, labels: Volume) -> CaseRow:
    if row.status != "ok":
        return row
    voxels = int(np.count_nonzero(labels.array == row.class_id))
    update: dict[str, object] = {"volume_ml": round(voxels * labels.geometry.voxel_ml, 4)}
    if not voxels:
        update |= {"status": "absent", "message": "the mask is empty"}
    return row.model_copy(update=update)


class _Canvas:
    """The label map so far, and the highest probability that stands in each voxel."""

    def __init__(self, image: Volume) -> None:
        self.geometry = image.geometry
        self.classes: NDArray[np.uint16] = np.zeros(image.geometry.shape, np.uint16)
        self.highest: NDArray[np.float32] = np.full(image.geometry.shape, 0.5, np.float32)

    def add(self, class_id: int, probability: ProbabilityMap) -> None:
        place = tuple(slice(*side) for side in probability.box)
        wins = probability.values > self.highest[place]
        self.classes[place][wins] = class_id
        self.highest[place][wins] = probability.values[wins]

    def labels(self) -> Volume:
        return Volume(self.classes, self.geometry)
