"""Images and prompts as they are handed over in Python, checked."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from moe_pipeline.arguments import as_path
from moe_pipeline.errors import GeometryError, ImageError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import case_id_of, check_finite, load_image
from moe_pipeline.imaging.itk import geometry_of, sitk
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.inference.batch.prompt_sources import channel_file
from moe_pipeline.prompts.class_ids import ClassIds, ClassTable, WrittenClass
from moe_pipeline.prompts.prompt import Prompt, objects_in_world
from moe_pipeline.prompts.read import read_prompts
from moe_pipeline.records.prompts import ObjectPrompt, Space

_NAME = "image"  # of a case that has no file


def as_space(given: object) -> Space:
    """One of the spaces that clicks may be in.

    Raises:
        PromptError: if there is no such space.
    """
    spaces: tuple[Space, ...] = get_args(Space)
    for space in spaces:
        if given == space:
            return space
    raise PromptError(f"space: no space {given!r}; there are: {', '.join(spaces)}")


def image_given(image: Any, spacing_mm: ArrayLike | None, channel: int) -> tuple[str, LoadedImage]:
    """Name of the case, and its image in float32.

    Args:
        image: a path, a `Volume`, a SimpleITK image, or an array (x, y, z).
        spacing_mm: of an array, along x, y, z.
        channel: that the model looks at, where the image is a file of nnU-Net's.

    Raises:
        ImageError: if it is no single 3D channel of finite numbers.
        GeometryError: if its grid is none.
    """
    if spacing_mm is not None and isinstance(image, str | Path | Volume | sitk.Image):
        raise ImageError(f"spacing_mm: only an array needs one; {type(image).__name__} has its own")
    if isinstance(image, str | Path):
        path = channel_file(as_path("image", image), channel)
        return case_id_of(path), load_image(path)
    stored = _in_memory(image, spacing_mm)
    check_finite(stored.array, Path(_NAME))
    return _NAME, LoadedImage.of(Volume(stored.array.astype(np.float32), stored.geometry))


def _in_memory(image: Any, spacing_mm: ArrayLike | None) -> Volume:
    if isinstance(image, Volume):
        return image
    if isinstance(image, sitk.Image):
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            found = f"{image.GetDimension()}D with {image.GetNumberOfComponentsPerPixel()} numbers per voxel"
            raise ImageError(f"{_NAME}: expected a 3D image of one channel, found {found}")
        return Volume(sitk.GetArrayFromImage(image).transpose(), geometry_of(image))  # (z, y, x) -> (x, y, z)
    array: NDArray[Any] = np.asarray(image)
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        expected = "a path, a Volume, a SimpleITK image or an array (x, y, z) of numbers"
        raise ImageError(f"{_NAME}: expected {expected}, found {type(image).__name__} {array.dtype} {array.shape}")
    if spacing_mm is None:
        raise ImageError(f"{_NAME}: an array has no spacing; give spacing_mm=(x, y, z), or a Volume or SimpleITK image")
    x, y, z = array.shape
    return Volume(array, Geometry((x, y, z), _spacing(spacing_mm)))


def _spacing(given: ArrayLike) -> tuple[float, float, float]:
    expected = f"spacing_mm: expected three numbers for x, y, z in mm, all positive, found {given!r}"
    try:
        numbers = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise ImageError(expected) from error
    if numbers.shape != (3,):
        raise ImageError(expected)
    x, y, z = numbers.tolist()
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise GeometryError(expected)
    return x, y, z


def prompts_given(
    given: Any, case: str, space: Space, native: Geometry, tables: Sequence[ClassTable] = ()
) -> tuple[Prompt, ...]:
    """Prompts of one image.

    Args:
        given: clicks inside one object, objects as in prompts.json, or the path of a file of prompts.
        case: name of the image.
        space: of the clicks.
        native: grid of the image as stored.
        tables: the classes that the model knows.

    Raises:
        PromptError: if they are none of that, contradict what the model knows, or a click lies outside the image.
        PipelineError: if the file cannot be used.
    """
    if isinstance(given, str | Path):
        return tuple(read_prompts(as_path("prompts", given), [case], tables=tables).of_case(case, native))
    if isinstance(given, ObjectPrompt | Mapping):
        given = [given]
    if not isinstance(given, Iterable):
        raise PromptError(_expected_prompts(case, f"found {type(given).__name__} {given!r}"))
    listed = list(given)
    if not listed:
        raise PromptError(f"{case}: no prompts; give at least one click, or None to let the experts search")
    if any(isinstance(one, ObjectPrompt | Mapping) for one in listed):
        objects = [one if isinstance(one, ObjectPrompt) else _object(one, case) for one in listed]
    else:
        objects = [_object({"class_id": 1, "points": _clicks(listed, case), "labels": [1] * len(listed)}, case)]
    ids = ClassIds([WrittenClass(one.class_id, one.class_name, case, apart=True) for one in objects], tables)
    for one in objects:
        ids.check(one.class_id, one.class_name, case)
    return tuple(objects_in_world(objects, space, native, case))


def _clicks(listed: list[Any], case: str) -> list[list[float]]:
    """Bare clicks, (n, 3)."""
    try:
        places = np.asarray(listed, dtype=float)
    except (TypeError, ValueError) as error:
        raise PromptError(_expected_prompts(case, f"found {listed!r}")) from error
    if places.ndim != 2 or places.shape[1] != 3:
        raise PromptError(_expected_prompts(case, f"found an array of shape {places.shape}"))
    clicks: list[list[float]] = places.tolist()
    return clicks


def _object(given: Any, case: str) -> ObjectPrompt:
    try:
        return ObjectPrompt.model_validate(given)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'object'}: {fault['msg']}" for fault in error.errors())
        raise PromptError(_expected_prompts(case, "; ".join(faults))) from error


def _expected_prompts(case: str, found: str) -> str:
    example = "{'class_id': 1, 'points': [(x, y, z)], 'labels': [1]}"
    return f"{case}: prompts: expected clicks as (x, y, z), or objects such as {example}: {found}"
