"""Where the clicks of a folder of images come from."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from moe_pipeline.datasets.classes import classes_beside
from moe_pipeline.errors import ImageError, PromptError
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.io.files import SUFFIXES, Listing, case_id_of, label_maps_in, read_label_map
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.inference.interactive.request import (
    PromptRequest,
    Request,
    SearchRequest,
    SimulatedRequest,
    TextRequest,
)
from moe_pipeline.inference.options import PromptOptions
from moe_pipeline.inference.search.named import named_classes
from moe_pipeline.prompts.class_ids import ClassTable
from moe_pipeline.prompts.read import PromptSet, read_prompts

_log = logging.getLogger(__name__)

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Prompting:
    """The clicks of a folder of images: given ones, or references for a simulated user, or else a search.

    Attributes:
        options: where they come from.
        given: prompts in our formats, if they do come from there.
        references: label map by case, for the simulated user.
        doubled: cases with several of them, and which.
        classes: ids and names that the simulated user prompts; those found in a reference where empty.
        named: ids and names of what is wanted in words.
    """

    options: PromptOptions
    given: PromptSet | None = None
    references: dict[str, Path] = field(default_factory=dict)
    doubled: dict[str, str] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    named: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, options: PromptOptions, images: Path, cases: Sequence[str], tables: Sequence[ClassTable] = ()
    ) -> "Prompting":
        """Open the source for some cases.

        Args:
            options: where they come from.
            images: folder of the images.
            cases: their ids.
            tables: the classes that the model knows.

        Raises:
            PromptError: if references are asked for and their folder is missing, or a single file cannot be used.
        """
        given = read_prompts(options.prompts, cases, images, tables) if options.prompts else None
        if given is not None and (idle := given.without_image(cases)):
            more = ", ..." if len(idle) > _MOST_NAMED else ""
            _log.warning(
                "%s: prompts for no image of %s: %s%s", given.path, images, ", ".join(idle[:_MOST_NAMED]), more
            )
        classes = classes_beside(options.labels) if options.labels else {}
        references = references_in(options.labels) if options.labels else Listing((), {})
        named = named_classes(options.text, tables)
        return cls(options, given, dict(references.files), references.doubled, classes, named)

    def only(self, case: str) -> "Prompting":
        """The same, for one case alone."""
        given = self.given.only(case) if self.given else None
        return replace(self, given=given, references={case: self.references[case]} if case in self.references else {})

    def sha256_of_all(self) -> str:
        """Hash of what holds for all cases alike; clicks and references are those of each case."""
        options = self.options
        search = asdict(options.search) if options.search else None
        named = [sorted(self.named.items())] if self.named else []
        return sha256_json([search, sorted(self.classes.items()), options.clicks, options.seed, *named])

    def files_of(self, case: str) -> list[Path]:
        """Label maps that the clicks of a case depend on."""
        mask = self.given.cases.get(case) if self.given else None
        own = [mask] if isinstance(mask, Path) else []
        return own + ([self.references[case]] if case in self.references else [])

    def sha256(self, case: str) -> str:
        """Hash of the clicks of a case, as far as they do not come from a label map."""
        given = self.given.cases.get(case) if self.given else None
        if given is None or isinstance(given, Path):
            return sha256_json([])
        return sha256_json([given.space, [each.model_dump(mode="json") for each in given.objects]])

    def request(self, case: str, image: LoadedImage) -> Request:
        """What is asked of one case.

        Args:
            case: case id.
            image: the channel to look at.

        Raises:
            PipelineError: if its prompts cannot be used.
        """
        if self.given is not None:
            return PromptRequest(case, image.volume, tuple(self.given.of_case(case, image.native)))
        if self.options.search is not None:
            return SearchRequest(case, image.volume, self.options.search)
        if self.named:
            return TextRequest(case, image.volume, self.named)
        if case in self.doubled:
            raise PromptError(f"{case}: {self.doubled[case]}")
        if case not in self.references:
            raise PromptError(
                f"{case}: no reference {case}.nii.gz (or another format) in {self.options.labels} to click by"
            )
        reference = read_label_map(self.references[case])
        if differences := image.volume.geometry.differences(reference.geometry):
            raise PromptError(
                f"{case}: {self.references[case]} is on another grid than its image: {'; '.join(differences)}. "
                "Resample the label onto its image first."
            )
        classes = self.classes or _classes_in(reference)
        return SimulatedRequest(case, image.volume, reference, classes, self.options.clicks, self.options.seed)


def channel_file(path: Path, channel: int) -> Path:
    """File of the channel that a model looks at; `list_images` names the first one.

    Raises:
        ImageError: if there is no such file.
    """
    if channel == 0:
        return path
    case = case_id_of(path)
    ending = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    stem, own = path.name[: len(path.name) - len(ending)], path.name[len(path.name) - len(ending) :]
    other = path.with_name(f"{stem.removesuffix('_0000')}_{channel:04d}{own}")
    if not case.endswith("_0000") or not other.is_file():
        raise ImageError(f"{path}: the model looks at channel {channel}, expected it beside this file as {other.name}")
    return other


def references_in(folder: Path) -> Listing:
    """Label map by case.

    Raises:
        PromptError: if there is no such folder.
    """
    if not folder.is_dir():
        raise PromptError(f"{folder}: no such folder; --labels expects a folder of label maps")
    return label_maps_in(folder)


def _classes_in(reference: Volume) -> dict[int, str]:
    values = sorted(set(reference.array.ravel().tolist()) - {0})
    return {value: f"class {value}" for value in values}
