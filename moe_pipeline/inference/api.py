"""Prediction from Python: what the command does with files, with images in memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Unpack

from numpy.typing import ArrayLike

from moe_pipeline.arguments import AnyPath, Names, as_flag, as_folder, as_names, as_path, options_of, refuse_unknown
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import write_label_map
from moe_pipeline.imaging.itk import image_from_volume
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.inference.given import as_space, image_given, prompts_given
from moe_pipeline.inference.interactive.request import PromptRequest, Request, SearchRequest, TextRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.keywords import LookKeywords
from moe_pipeline.inference.options import PLAIN, ModelOptions, SearchOptions, SegmentOptions
from moe_pipeline.inference.search.experts import class_searches, class_tables
from moe_pipeline.inference.search.named import named_classes, words_of
from moe_pipeline.inference.session.session import SESSION_BYTES, Session
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.prompts import SessionEvent, Space


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

    def save(self, path: AnyPath) -> None:
        """Write the label map, whole or not at all.

        Raises:
            ImageError: if the suffix is none of ours.
        """
        write_label_map(to_canonical(self.labels), as_path("path", path), self.labels.geometry)


class Predictor:
    """A loaded model that answers for one image after the other.

    Args:
        mixture: foundation, experts and gate.
        options: how closely it looks.
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
        spacing_mm: ArrayLike | None = None,
        space: Space = "voxel_xyz",
        text: Names = (),
        classes: Names = (),
        experts: Names = (),
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
            text: names of objects, such as liver, for a foundation that takes text.
            classes: without prompts, look for these names or ids only.
            experts: without prompts, only these look.
            uncertainty: also make `result.uncertainty`.

        Raises:
            ImageError: if the image is no single 3D channel of finite numbers.
            GeometryError: if its grid is none, or the array does not fill it.
            PromptError: if the prompts do not fit the image, or nobody can search as asked.
            PipelineError: if another argument is not what it should be; names it.
        """
        options = replace(self.options, uncertainty=as_flag("uncertainty", uncertainty))
        search = SearchOptions(classes=as_names("classes", classes), experts=as_names("experts", experts))
        space = as_space(space)
        named = named_classes(as_names("text", text), class_tables(self.mixture))
        if (prompts is not None or named) and search != SearchOptions():
            raise PipelineError("classes and experts say what to search for; leave them out where there are prompts")
        if prompts is not None and named:
            raise PipelineError("give prompts or text, not both: an object of a prompt has its name with it")
        case, loaded = image_given(image, spacing_mm, self.mixture.channel)
        if named:
            words_of(self.mixture)  # no vocabulary is an error before anything is encoded
            request: Request = TextRequest(case, loaded.volume, named)
        elif prompts is None:
            class_searches(self.mixture, search)  # what there is none of is an error before anything is encoded
            request = SearchRequest(case, loaded.volume, search)
        else:
            tables = class_tables(self.mixture)
            request = PromptRequest(case, loaded.volume, prompts_given(prompts, case, space, loaded.native, tables))
        result = segment_case(self.mixture, request, options)
        return Prediction(loaded.as_stored(result.labels), result.rows, result)

    def session(
        self,
        image: Any,
        *,
        spacing_mm: ArrayLike | None = None,
        most_bytes: int = SESSION_BYTES,
        listener: Callable[[SessionEvent], None] | None = None,
    ) -> Session:
        """Begin interactive work on one image.

        Args:
            image: as for `predict`.
            spacing_mm: of an array, along x, y, z.
            most_bytes: of embeddings that the session keeps.
            listener: is told every step.

        Raises:
            ImageError: if the image is no single 3D channel of finite numbers, or all its voxels are equal.
            GeometryError: if its grid is none, or the array does not fill it.
        """
        case, loaded = image_given(image, spacing_mm, self.mixture.channel)
        return Session(self.mixture, loaded, case, self.options, most_bytes=most_bytes, listener=listener)


def load_model(folder: AnyPath | None = None, **options: Unpack[LookKeywords]) -> Predictor:
    """Load a model folder, or with `foundation="nano"` a foundation alone.

    Args:
        folder: with moe.json; none for a foundation.
        options: foundation, device, precision, selector, tau, zoom, max_crops, tta, own_crops,
            weights_root; see `ModelOptions`.
            Imported foundations are looked for in `weights` beside the folder, unless `weights_root` says where.

    Raises:
        PipelineError: if an option does not exist or contradicts another, or the model is missing or damaged.
    """
    refuse_unknown("load_model", options, LookKeywords.__annotations__)
    model = None if folder is None else as_folder("folder", folder, "a model folder with moe.json")
    if model is not None:
        options.setdefault("weights_root", model.parent / "weights")
    chosen = replace(options_of(ModelOptions, options), model=model)
    return Predictor(chosen.load(), chosen.segment())
