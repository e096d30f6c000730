"""Simulated users click by reference label maps: their prompts become a file that says who made them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.datasets.classes import classes_beside
from moe_pipeline.errors import ImageError, PromptError
from moe_pipeline.imaging.components import regions
from moe_pipeline.imaging.io.files import label_maps_in, list_label_maps, read_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.journal.case_errors import CaseError, guarded
from moe_pipeline.journal.written import refuse_existing
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.prompts.prompt import LPS_TO_RAS, seed_of
from moe_pipeline.prompts.thickest import deepest, deepest_of_parts
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile

SimulatedUserName = Literal["random", "centre", "jitter", "error"]
SIMULATED_USERS: tuple[SimulatedUserName, ...] = ("random", "centre", "jitter", "error")


@dataclass(frozen=True, slots=True)
class SimulatedUserOptions:
    """How a simulated user clicks on every class of every reference.

    Attributes:
        user: random: any voxels of the class. centre: deepest inside it, and far from each other. jitter: those of
            centre, moved at random, so that a click may miss. error: the first of centre, then the deepest voxel of
            each of the largest regions where a prediction is wrong, inside or outside.
        clicks: per object.
        seed: same seed, case and class: same clicks.
        jitter_mm: standard deviation along each axis.
        predictions: label maps that `error` looks at.
    """

    user: SimulatedUserName
    clicks: int = 1
    seed: int = 0
    jitter_mm: float = 5.0
    predictions: Path | None = None

    def __post_init__(self) -> None:
        if self.user not in SIMULATED_USERS:
            raise PromptError(f"no simulated user {self.user!r}; there are: {', '.join(SIMULATED_USERS)}")
        if (self.user == "error") != (self.predictions is not None):
            raise PromptError(
                "the simulated user 'error' clicks where a prediction is wrong: give --predictions DIR with "
                "--user error, and only then. To correct a model click by click: `moe predict --labels DIR --clicks N`."
            )

    def __str__(self) -> str:
        extent = f", {self.jitter_mm:g} mm" if self.user == "jitter" else ""
        clicks = f"{self.clicks} click{'s' * (self.clicks > 1)}"
        return f"simulated user {self.user}{extent}, {clicks} an object, seed {self.seed}"


def simulate_prompts(
    labels: Path, out: Path, options: SimulatedUserOptions, progress: Progress = silent
) -> dict[str, str]:
    """Write prompts.json for all references of a folder.

    Args:
        labels: folder of label maps.
        out: the file.
        options: which simulated user.
        progress: told after each case.

    Returns:
        Why a case was left out, by case; empty if all is well.

    Raises:
        PipelineError: if `out` exists, the folder is missing or nothing in it can be clicked on; then nothing is
            written.
    """
    refuse_existing(out)
    names = classes_beside(labels)
    predictions = dict(list_label_maps(options.predictions)) if options.predictions else {}
    listed = label_maps_in(labels)
    cases: dict[str, tuple[ObjectPrompt, ...]] = {}
    failed = dict(listed.doubled)
    for case, path in track(listed.files, "clicking", progress):
        result = guarded(case, None, partial(_clicked, case, path, predictions, names, options))
        if isinstance(result, CaseError):
            failed[case] = result.message
        else:
            cases[case] = result
    if not cases:
        raise PromptError(f"{labels}: nothing to click on: {'; '.join(failed.values()) or 'no label map in it'}")
    PromptFile(space="world_lps_mm", made_by=f"{options}, by {labels.name}", cases=cases).save(out)
    return failed


def _clicked(
    case: str, path: Path, predictions: dict[str, Path], names: dict[int, str], options: SimulatedUserOptions
) -> tuple[ObjectPrompt, ...]:
    reference = read_label_map(path)
    answer = _answer(case, reference, predictions) if options.predictions else None
    objects = tuple(_objects(case, reference, answer, names, options))
    if not objects:
        raise PromptError(f"{path}: the reference is empty, so there is nothing to click on")
    return objects


def _answer(case: str, reference: Volume, predictions: dict[str, Path]) -> Volume:
    if case not in predictions:
        raise PromptError(f"{case}: no prediction to look for errors in")
    answer = read_label_map(predictions[case])
    if differences := reference.geometry.differences(answer.geometry):
        raise ImageError(f"{case}: {predictions[case]} is on another grid than its reference: {'; '.join(differences)}")
    return answer


def _objects(
    case: str, reference: Volume, answer: Volume | None, names: dict[int, str], options: SimulatedUserOptions
) -> list[ObjectPrompt]:
    objects = []
    for value, region in sorted(regions(reference.array).items()):
        mask = reference.array[region.box] == value
        corner = np.array([side.start for side in region.box])
        random = np.random.default_rng(seed_of(case, value, options.seed))
        voxels = (_CLICKERS[options.user](mask, reference, options, random) + corner).astype(float)  # (n, 3)
        labels = [1] * len(voxels)
        if answer is not None:
            wrong = (reference.array == value) != (answer.array == value)
            errors = deepest_of_parts(wrong, reference.geometry.spacing_mm, options.clicks - 1)
            labels += [int(reference.array[tuple(voxel)] == value) for voxel in errors]
            voxels = np.concatenate([voxels, errors])
        voxels = np.clip(voxels, 0, np.array(reference.array.shape) - 1)
        points = (reference.geometry.voxel_to_world(voxels) * LPS_TO_RAS).tolist()
        name = names.get(value, "")
        objects.append(ObjectPrompt(class_id=value, class_name=name, points=points, labels=labels))
    return objects


_Clicker = Callable[[NDArray[np.bool_], Volume, SimulatedUserOptions, np.random.Generator], NDArray[np.int64]]


def _anywhere(
    mask: NDArray[np.bool_], _: Volume, options: SimulatedUserOptions, random: np.random.Generator
) -> NDArray[np.int64]:
    voxels = np.argwhere(mask)
    return voxels[random.choice(len(voxels), size=min(options.clicks, len(voxels)), replace=False)]


def _central(
    mask: NDArray[np.bool_], reference: Volume, options: SimulatedUserOptions, _: np.random.Generator
) -> NDArray[np.int64]:
    return deepest(mask, reference.geometry.spacing_mm, options.clicks)


def _jittered(
    mask: NDArray[np.bool_], reference: Volume, options: SimulatedUserOptions, random: np.random.Generator
) -> NDArray[np.int64]:
    voxels = _central(mask, reference, options, random)
    moves = random.normal(0, options.jitter_mm, voxels.shape) / reference.geometry.spacing_mm
    return voxels + np.rint(moves).astype(np.int64)


def _first(
    mask: NDArray[np.bool_], reference: Volume, _: SimulatedUserOptions, __: np.random.Generator
) -> NDArray[np.int64]:
    return deepest(mask, reference.geometry.spacing_mm)


_CLICKERS: dict[SimulatedUserName, _Clicker] = {
    "random": _anywhere,
    "centre": _central,
    "jitter": _jittered,
    "error": _first,
}
