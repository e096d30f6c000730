"""Prediction from Python: what the command does with files, with images in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from moe_pipeline.errors import ImageError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import case_id_of, check_finite, read_geometry, read_volume, write_label_map
from moe_pipeline.imaging.itk import geometry_of, image_from_volume, sitk
from moe_pipeline.imaging.volume import Volume, to_canonical, to_grid_orientation
from moe_pipeline.inference.batch.prompt_sources import channel_file
from moe_pipeline.inference.interactive.request import PromptRequest, Request, SearchRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.options import PLAIN, ModelOptions, SearchOptions, SegmentOptions
from moe_pipeline.inference.search.experts import class_searches
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.prompts.prompt import Prompt, objects_in_world
from moe_pipeline.prompts.read import read_prompts
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.prompts import ObjectPrompt, Space

_NAME = "image"  # of a case that has no file


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model found in one image.

    Attributes:
        labels: class ids, uint8 or uint16, (x, y, z) on the image's own grid; 0 where there is nothing.
        rows: one per object or class, as in cases.csv.
        result: all that is known, on the canonical grid.
    """

    labels: Volume
    rows: tuple[CaseRow, ...]
    result: CaseResult

    def as_sitk(self) -> Any:
        """The label map as a SimpleITK image."""
        return image_from_volume(self.labels)

    def save(self, path: str | Path) -> None:
        """Write the label map, whole or not at all.

        Raises:
            ImageError: if the suffix is none of ours.
        """
        write_label_map(to_canonical(self.labels), Path(path), self.labels.geometry)


class Model:
    """A loaded model that answers for one image after the other.

    Args:
        mixture: foundation, experts and gate.
        options: how it answers.
    """

    def __init__(self, mixture: Mixture, options: SegmentOptions = PLAIN) -> None:
        self.mixture, self.options = mixture, options

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts."""
        return tuple(expert.name for expert in self.mixture.experts)

    def predict(
        self,
        image: Any,
        prompts: Any = None,
        *,
        spacing_mm: Sequence[float] | None = None,
        space: Space = "voxel_xyz",
        classes: Iterable[str | int] = (),
        experts: Iterable[str | int] = (),
        uncertainty: bool = False,
    ) -> Prediction:
        """Segment one image.

        Args:
            image: a path (image file or folder with a DICOM series), a `Volume`, a SimpleITK image, or an array
                (x, y, z) together with `spacing_mm`.
            prompts: clicks (x, y, z) inside one object, which becomes class 1; or objects as in prompts.json, as
                `ObjectPrompt` or dict; or the path of a file of prompts. None: the experts search by themselves.
            spacing_mm: of an array, along x, y, z.
            space: of the clicks; a file has its own.
            classes: without prompts, look for these names or ids only.
            experts: without prompts, only these look.
            uncertainty: also make `result.uncertainty`.

        Raises:
            ImageError: if the image is no single 3D channel of finite numbers.
            GeometryError: if its grid is none, or the array does not fill it.
            PromptError: if the prompts do not fit the image, or nobody can search as asked.
        """
        case, native = self._image(image, spacing_mm)
        canonical = to_canonical(native)
        if prompts is None:
            search = SearchOptions(classes=tuple(map(str, classes)), experts=tuple(map(str, experts)))
            class_searches(self.mixture, search)
            request: Request = SearchRequest(case, canonical, search)
        else:
            found = _prompts(prompts, case, space, native.geometry)
            request = PromptRequest(case, canonical, found)
        result = segment_case(self.mixture, request, replace(self.options, uncertainty=uncertainty))
        return Prediction(to_grid_orientation(result.labels, native.geometry), result.rows, result)

    def _image(self, image: Any, spacing_mm: Sequence[float] | None) -> tuple[str, Volume]:
        """Name and voxels, float32, as they are stored."""
        if isinstance(image, str | Path):
            path = channel_file(Path(image), self.mixture.channel)
            return case_id_of(path), to_grid_orientation(read_volume(path), read_geometry(path))
        native = _in_memory(image, spacing_mm)
        array = native.array.astype(np.float32)
        check_finite(array, Path(_NAME))
        return _NAME, Volume(array, native.geometry)


def open_model(folder: str | Path | None = None, **choices: Any) -> Model:
    """Load a model folder, or a foundation alone.

    Args:
        folder: with moe.json; none for a foundation.
        choices: any of `ModelOptions`.

    Raises:
        PipelineError: if a choice does not exist, or the model is missing or damaged.
    """
    options = ModelOptions(model=None if folder is None else Path(folder), **choices)
    return Model(options.load(), options.segment())


def _in_memory(image: Any, spacing_mm: Sequence[float] | None) -> Volume:
    if isinstance(image, Volume):
        return image
    if isinstance(image, sitk.Image):
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            found = f"{image.GetDimension()}D with {image.GetNumberOfComponentsPerPixel()} numbers per voxel"
            raise ImageError(f"{_NAME}: expected a 3D image of one channel, found {found}")
        return Volume(sitk.GetArrayFromImage(image).transpose(), geometry_of(image))  # (z, y, x) -> (x, y, z)
    array: NDArray[Any] = np.asarray(image)
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise ImageError(f"{_NAME}: expected an array (x, y, z) of numbers, found {array.dtype} {array.shape}")
    if spacing_mm is None:
        raise ImageError(f"{_NAME}: an array has no spacing; give spacing_mm=(x, y, z), or a Volume or SimpleITK image")
    x, y, z = array.shape
    return Volume(array, Geometry((x, y, z), _triple(spacing_mm)))


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ImageError(f"{_NAME}: expected three numbers for x, y, z, found {list(values)}")
    x, y, z = map(float, values)
    return x, y, z


def _prompts(given: Any, case: str, space: Space, native: Geometry) -> tuple[Prompt, ...]:
    if isinstance(given, str | Path):
        return tuple(read_prompts(Path(given), [case]).of_case(case, native))
    listed = list(given)
    if not listed:
        raise PromptError(f"{case}: no prompts; give at least one click, or None to let the experts search")
    structured = [isinstance(one, ObjectPrompt | Mapping) for one in listed]
    try:
        if any(structured):
            objects = [one if isinstance(one, ObjectPrompt) else ObjectPrompt.model_validate(one) for one in listed]
        else:
            objects = [ObjectPrompt(class_id=1, points=tuple(map(tuple, listed)), labels=(1,) * len(listed))]
    except (ValidationError, TypeError) as error:
        raise PromptError(
            f"{case}: expected clicks as (x, y, z), or objects such as "
            f"{{'class_id': 1, 'points': [(x, y, z)], 'labels': [1]}}: {error}"
        ) from error
    return tuple(objects_in_world(objects, space, native, case))
