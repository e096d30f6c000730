"""All classes of one case."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.evaluation.metrics import USUAL, class_metrics
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.evaluation import MeasureRules, MetricRow

Slices: TypeAlias = tuple[slice, ...]

_BACKGROUND = 0
_MOST_UNKNOWN = 16
_NO_REGIONS: Mapping[int, Collection[int]] = {}


def case_metrics(
    prediction: Volume,
    reference: Volume,
    classes: Mapping[int, str],
    case: str,
    rules: MeasureRules = USUAL,
    regions: Mapping[int, Collection[int]] = _NO_REGIONS,
) -> list[MetricRow]:
    """Score every class of a case.

    Args:
        prediction: label map, (X, Y, Z).
        reference: label map on the same grid, (X, Y, Z).
        classes: name of each class; 0 is the background and is not scored.
        case: case id for the rows.
        rules: how to measure.
        regions: label values that a class is made of, where that is not its id alone; they may overlap.

    Returns:
        One row per class in the order of their ids, then one per label value outside the class map.

    Raises:
        GeometryError: if the grids differ; nothing is resampled here.
        ImageError: if a label map holds no whole numbers of 0 or more.
    """
    differences = prediction.geometry.differences(reference.geometry)
    if differences:
        raise GeometryError(
            f"{case}: the prediction does not lie on the grid of its reference: {'; '.join(differences)} "
            "(prediction against reference). Write it on the grid of its image; nothing is resampled here."
        )
    found = {"prediction": _boxes(prediction, case), "reference": _boxes(reference, case)}
    rows = []
    for value in sorted(set(classes) - {_BACKGROUND}):
        blank = MetricRow(case=case, class_id=value, class_name=classes[value])
        made_of = sorted(regions.get(value, (value,)))
        boxes_of = [boxes[one] for boxes in found.values() for one in made_of if one in boxes]
        place = made_of, _union(boxes_of, prediction.array.shape)
        rows.append(_scored(blank, prediction, reference, place, rules))
    masks = {"prediction": prediction, "reference": reference}
    known = {value for class_id in classes for value in regions.get(class_id, (class_id,))}
    unknown = sorted(set().union(*found.values()) - known - {_BACKGROUND})
    return rows + list(_unknown_rows(unknown, masks, case))


def _scored(
    blank: MetricRow,
    prediction: Volume,
    reference: Volume,
    place: tuple[list[int], Slices | None],
    rules: MeasureRules,
) -> MetricRow:
    values, box = place
    if box is None:
        absent = {
            "status": "absent",
            "message": "in neither mask",
            "volume_reference_ml": 0.0,
            "volume_prediction_ml": 0.0,
        }
        return blank.model_copy(update=absent)
    masks = (np.isin(prediction.array[box], values), np.isin(reference.array[box], values))
    return blank.model_copy(update=asdict(class_metrics(*masks, reference.geometry.spacing_mm, rules)))


def _unknown_rows(values: list[int], masks: Mapping[str, Volume], case: str) -> Iterator[MetricRow]:
    """One row per label value outside the class map, or one for all of them where they are many."""
    if len(values) > _MOST_UNKNOWN:
        some = ", ".join(map(str, values[:_MOST_UNKNOWN]))
        message = f"{len(values)} label values are not in the class map: {some}, ... Is this a label map?"
        yield MetricRow(case=case, status="unknown_label", message=message)
        return
    for value in values:
        counts = {name: int(np.count_nonzero(mask.array == value)) for name, mask in masks.items()}
        holds = ", ".join(f"{n} voxels of the {name}" for name, n in counts.items() if n)
        message = f"label {value} is not in the class map: {holds}"
        yield MetricRow(case=case, class_id=value, status="unknown_label", message=message)


def _boxes(labels: Volume, case: str) -> dict[int, Slices]:
    """Smallest box of each label value above 0."""
    array: NDArray[Any] = labels.array
    if not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise ImageError(f"{case}: a label map needs whole numbers of 0 or more, got {array.dtype} from {array.min()}")
    return {value: box for value, box in enumerate(find_objects(array), start=1) if box is not None}


def _union(boxes: list[Slices], shape: tuple[int, ...]) -> Slices | None:
    """Smallest box around all, and a voxel more on each side where the image has one: a boundary shows only there."""
    if not boxes:
        return None
    return tuple(
        slice(max(min(s.start for s in along) - 1, 0), min(max(s.stop for s in along) + 1, side))
        for side, *along in zip(shape, *boxes, strict=True)
    )
