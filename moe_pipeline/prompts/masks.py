"""An existing segmentation as a prompt: clicks where its largest parts are thickest."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.components import regions
from moe_pipeline.imaging.io.files import read_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.prompts.prompt import LPS_TO_RAS
from moe_pipeline.prompts.thickest import deepest_of_parts
from moe_pipeline.records.prompts import ObjectPrompt, Space

_MOST_PARTS = 3
_LEAST_SHARE = 0.1  # of the largest part's volume: smaller ones are more often crumbs than objects


def read(path: Path, names: Mapping[int, str]) -> tuple[Space, list[ObjectPrompt], Volume]:
    """An object for each value of a label map, with a click in each of its up to three largest parts.

    Args:
        path: of the label map.
        names: of the classes by value.

    Returns:
        Space and objects, and the label map itself in canonical orientation.

    Raises:
        PromptError: if it is empty.
        ImageError: if it is no label map.
    """
    labels = read_label_map(path)
    objects = []
    for value, region in sorted(regions(labels.array).items()):
        corner = np.array([side.start for side in region.box])
        mask = labels.array[region.box] == value
        voxels = deepest_of_parts(mask, labels.geometry.spacing_mm, _MOST_PARTS, _LEAST_SHARE) + corner
        points = (labels.geometry.voxel_to_world(voxels) * LPS_TO_RAS).tolist()
        objects.append(
            ObjectPrompt(class_id=value, class_name=names.get(value, ""), points=points, labels=(1,) * len(points))
        )
    if not objects:
        raise PromptError(f"{path}: the mask is empty, so there is nothing to click on")
    return "world_lps_mm", objects, labels
