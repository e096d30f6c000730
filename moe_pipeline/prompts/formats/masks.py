"""An existing segmentation as a prompt: clicks where its largest parts are thickest."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.components import Region, regions
from moe_pipeline.imaging.io.files import read_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.prompts.class_ids import ClassIds
from moe_pipeline.prompts.prompt import LPS_TO_RAS
from moe_pipeline.prompts.thickest import deepest_of_parts
from moe_pipeline.records.prompts import ObjectPrompt, Space

_MOST_PARTS = 3
_LEAST_SHARE = 0.1  # of the largest part's volume: smaller ones are more often crumbs than objects
_MOST_VOXELS = 2 << 20  # of a mask that is looked at for its thickest places; of a larger one every so manieth
_FEW_VALUES = 16
_LEAST_EQUAL = 0.5  # share of neighbours with equal values: labels have far more, intensities far fewer


def read(path: Path, ids: ClassIds) -> tuple[Space, list[ObjectPrompt], Volume]:
    """An object for each value of a label map, with a click in each of its up to three largest parts.

    Args:
        path: of the label map.
        ids: of the classes.

    Returns:
        Space and objects, and the label map itself in canonical orientation.

    Raises:
        PromptError: if it is empty, or holds intensities.
        ImageError: if it is no label map.
    """
    labels = read_label_map(path)
    found = regions(labels.array)
    if not found:
        raise PromptError(f"{path}: the mask is empty, so there is nothing to click on")
    if len(found) > _FEW_VALUES and (share := equal_neighbours(labels.array)) < _LEAST_EQUAL:
        raise PromptError(
            f"{path}: {len(found)} values, and only {share:.0%} of neighbouring voxels are equal: intensities, not "
            "labels. Is it the image itself? Give label maps, or clicks"
        )
    objects = [object_of_mask(value, found[value], labels, ids.name_of(value)) for value in sorted(found)]
    return "world_lps_mm", objects, labels


def equal_neighbours(labels: NDArray[Any]) -> float:
    """Share of neighbouring voxels (x, y, z), both above 0, that have the same value; 1 if there are none."""
    equal = total = 0
    for axis in range(labels.ndim):
        along = np.moveaxis(labels, axis, 0)
        ahead, behind = along[1:], along[:-1]
        both = (ahead > 0) & (behind > 0)
        total += int(np.count_nonzero(both))
        equal += int(np.count_nonzero(both & (ahead == behind)))
    return equal / total if total else 1.0


def object_of_mask(value: int, region: Region, labels: Volume, name: str) -> ObjectPrompt:
    """One object of a label map: a click in each of its up to three largest parts, in world_lps_mm.

    Args:
        value: of the object, and its class id.
        region: of that value.
        labels: the label map in canonical orientation.
        name: of the class.
    """
    corner = np.array([side.start for side in region.box])
    mask = labels.array[region.box] == value
    step = int(np.ceil((mask.size / _MOST_VOXELS) ** (1 / 3)))
    seen = mask[::step, ::step, ::step]
    if not seen.any():
        step, seen = 1, mask
    x, y, z = (step * mm for mm in labels.geometry.spacing_mm)
    voxels = step * deepest_of_parts(seen, (x, y, z), _MOST_PARTS, _LEAST_SHARE) + corner
    points = (labels.geometry.voxel_to_world(voxels) * LPS_TO_RAS).tolist()
    return ObjectPrompt(class_id=value, class_name=name, points=points, labels=(1,) * len(points))
