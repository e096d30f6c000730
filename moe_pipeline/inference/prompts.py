"""Prompts in patient coordinates, wherever they come from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile, Space

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Prompt:
    """Clicks on one object.

    Attributes:
        class_id: value in the label map.
        class_name: for the tables.
        clicks_mm: (n, 3) RAS world.
        labels: (n,) 1 inside, 0 outside.
        source: where the clicks come from.
    """

    class_id: int
    class_name: str
    clicks_mm: NDArray[np.float64]
    labels: NDArray[np.int64]
    source: str


def prompts_of_case(file: PromptFile, case: str, native: Geometry, path: Path) -> list[Prompt]:
    """The prompts of one case, brought to RAS world coordinates.

    Args:
        file: prompts of many cases.
        case: case id.
        native: grid of the case's image as stored.
        path: of the prompt file, for messages.

    Raises:
        PromptError: if the case has no prompts, or a click lies outside its image.
    """
    if case not in file.cases or not file.cases[case]:
        known = ", ".join(sorted(file.cases)[:5]) or "none"
        raise PromptError(f"{case}: no prompts in {path}; it has prompts for: {known}. Add clicks for {case}.")
    return [_in_world(prompt, file.space, native, f"{case} in {path}") for prompt in file.cases[case]]


def _in_world(prompt: ObjectPrompt, space: Space, native: Geometry, where: str) -> Prompt:
    points = np.asarray(prompt.points, dtype=float)  # (n, 3)
    if space == "world_lps_mm":
        world = points * LPS_TO_RAS
    else:
        world = native.voxel_to_world(points if space == "voxel_xyz" else points[:, ::-1])
    voxels = native.world_to_voxel(world)
    beyond = ((voxels < -0.5) | (voxels > np.asarray(native.shape) - 0.5)).any(axis=1)
    if beyond.any():
        place = tuple(prompt.points[int(beyond.argmax())])
        raise PromptError(
            f"{where}: click {place} ({space}) lies outside the image, at voxel "
            f"{tuple(voxels[beyond.argmax()].round(1).tolist())} of {native.shape}; check the file's space"
        )
    return Prompt(prompt.class_id, prompt.class_name, world, np.asarray(prompt.labels), "prompts")
