"""The rows of cases.csv that a segmented case gives."""

from collections.abc import Iterable, Iterator

from moe_pipeline.inference.interactive.interact import Reply
from moe_pipeline.inference.interactive.objects import CaseObject
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.search.proposals import Missing
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


def blank_row(case: str, wanted: CaseObject) -> CaseRow:
    """Of an object whose surroundings show no contrast."""
    return CaseRow(
        case=case,
        class_id=wanted.class_id,
        class_name=wanted.class_name,
        status="absent",
        message="the image shows no contrast around the clicks, so nothing can be told from it; click elsewhere",
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
        prompt_source=gap.source,
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


def with_volumes(rows: Iterable[CaseRow], volumes_ml: Iterable[float]) -> Iterator[CaseRow]:
    """The same rows with the volumes of their objects; one that has none is absent.

    Args:
        rows: of a case.
        volumes_ml: of the objects that were answered, in the order of their rows.
    """
    volumes = iter(volumes_ml)
    for row in rows:
        if row.status != "ok":
            yield row
            continue
        volume = next(volumes)
        update: dict[str, object] = {"volume_ml": round(volume, 4)}
        if not volume:
            update |= {"status": "absent", "message": "the mask is empty"}
        yield row.model_copy(update=update)
