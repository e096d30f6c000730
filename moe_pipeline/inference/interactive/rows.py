"""The rows of cases.csv that a segmented case gives."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.interact import Reply
from moe_pipeline.inference.interactive.objects import CaseObject
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.search.proposals import SOURCE, Missing
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.cases import CaseRow


def absent_row(case: str, wanted: CaseObject) -> CaseRow:
    """Of an object that there is nothing of to click on."""
    return CaseRow(
        case=case,
        class_id=wanted.class_id,
        class_name=wanted.class_name,
        status="absent",
        message="the class is not in the reference, so there is nothing to click on",
        prompt_source=wanted.source,
    )


def missing_row(case: str, gap: Missing) -> CaseRow:
    """Of a class that was searched for and not found."""
    return CaseRow(
        case=case,
        class_id=gap.class_id,
        class_name=gap.class_name,
        status="absent",
        message=gap.message,
        expert=gap.expert,
        in_distribution="no" if gap.out_of_distribution else "",
        prompt_source=SOURCE,
    )


def answered_row(
    case: str, wanted: CaseObject, model: Mixture, options: SegmentOptions, reply: Reply, seconds: float
) -> CaseRow:
    """Of an object that was answered; its volume comes later."""
    incomplete = not all(output.complete for output in reply.answer.output)
    cut = f"still touches a face after {options.max_crops} crops; it may end too early there"
    return CaseRow(
        case=case,
        class_id=wanted.class_id,
        class_name=wanted.class_name,
        status="ok",
        message=cut if incomplete and options.max_crops > 1 else "",
        expert=model.name_of(reply.route.expert),
        weight=round(reply.route.weight, 4),
        in_distribution="no" if reply.route.out_of_distribution else "yes",
        prompt_source=wanted.source,
        n_clicks=len(reply.clicks[1]),
        seconds=round(seconds, 3),
    )


def with_volumes(rows: Iterable[CaseRow], labels: Volume) -> Iterator[CaseRow]:
    """The same rows with the volumes of the label map; a class that has none in it is absent."""
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
