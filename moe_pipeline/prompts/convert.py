"""Prompts from any format we read to any that we write."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import case_id_of, list_images, read_geometry
from moe_pipeline.journal.case_errors import CaseError, guarded
from moe_pipeline.journal.written import refuse_existing
from moe_pipeline.prompts.formats.registry import FORMATS, OURS
from moe_pipeline.prompts.prompt import corners, from_world, to_world
from moe_pipeline.prompts.read import Given, PromptSet, read_prompts
from moe_pipeline.records.names import fault_of_name, shown
from moe_pipeline.records.prompts import ObjectPrompt, Point, PromptFile, Space

TARGETS = (OURS, *(name for name, kind in FORMATS.items() if kind.write is not None))
"""What we write."""


def convert_prompts(source: Path, target: str, out: Path, images: Path | None = None) -> dict[str, str]:
    """Write the prompts of all cases in another format.

    Places are computed only where the two formats count them differently; then the images are needed. Numbers are
    otherwise carried over as they are.

    Args:
        source: file or folder of prompts.
        target: one of `TARGETS`.
        out: the file for prompts.json; else a folder for `<case><ending>`, or a file where it ends so.
        images: a folder of the images, or the only one.

    Returns:
        Why a case was left out, by case; empty if all is well.

    Raises:
        PipelineError: if source or target do not fit, or a file to be written exists; nothing is written then.
    """
    if target not in TARGETS:
        raise PromptError(f"--to {target}: cannot be written; expected one of {', '.join(TARGETS)}")
    paths = _images(images)
    given = read_prompts(source, paths, images)
    space: Space = "world_lps_mm" if target == OURS else FORMATS[target].space
    converted: dict[str, list[ObjectPrompt]] = {}
    failed: dict[str, str] = {}
    for case in sorted({*given.cases, *given.faults}):
        result = guarded(case, None, partial(_converted, given, case, space, paths))
        if isinstance(result, CaseError):
            failed[case] = result.message
        else:
            converted[case] = result
    if not converted:
        raise PromptError(f"{source}: nothing could be converted: {'; '.join(failed.values())}")
    if target == OURS:
        cases = {case: tuple(objects) for case, objects in converted.items()}
        file = out / OURS if out.is_dir() else out
        refuse_existing(file)
        PromptFile(space=space, cases=cases).save(file)
        return failed
    return failed | _write_each(target, converted, out)


def _write_each(target: str, converted: Mapping[str, list[ObjectPrompt]], out: Path) -> dict[str, str]:
    kind = FORMATS[target]
    assert kind.write is not None, target
    one_file = out.name.lower().endswith(kind.suffix)
    if one_file and len(converted) > 1:
        raise PromptError(f"{out}: one file, but there are {len(converted)} cases; give a folder")
    failed = {case: f"{shown(case)} cannot be a file name: {why}" for case in converted if (why := fault_of_name(case))}
    files = {
        case: out if one_file else out / f"{case}{kind.suffix}" for case in converted if one_file or case not in failed
    }
    for file in files.values():
        refuse_existing(file)
    for case, file in files.items():
        try:
            kind.write(file, converted[case])
        except PromptError as error:
            failed[case] = str(error)
    return failed


def _images(images: Path | None) -> dict[str, Path]:
    if images is None:
        return {}
    return {case_id_of(images): images} if images.is_file() else dict(list_images(images))


def _converted(given: PromptSet, case: str, space: Space, images: Mapping[str, Path]) -> list[ObjectPrompt]:
    return _in_space(given.given(case), space, case, images)


def _in_space(given: Given, space: Space, case: str, images: Mapping[str, Path]) -> list[ObjectPrompt]:
    if given.space == space:
        return list(given.objects)
    if case not in images:
        there = ", ".join(sorted(images)[:5]) or "none"
        raise PromptError(
            f"{case}: {given.space} becomes {space} by the image's grid, and there is no image {case}; "
            f"there are: {there}. Give --images."
        )
    native = read_geometry(images[case])
    return [_moved(prompt, given.space, space, native) for prompt in given.objects]


def _moved(prompt: ObjectPrompt, space: Space, wanted: Space, native: Geometry) -> ObjectPrompt:
    points = from_world(to_world(prompt.points, space, native), wanted, native)  # (n, 3)
    box = None
    if prompt.box is not None:
        places = from_world(to_world(corners(*prompt.box), space, native), wanted, native)  # (8, 3)
        box = _point(places.min(axis=0).tolist()), _point(places.max(axis=0).tolist())
    return prompt.model_copy(update={"points": tuple(map(_point, points.tolist())), "box": box})


def _point(values: list[float]) -> Point:
    x, y, z = values
    return x, y, z
