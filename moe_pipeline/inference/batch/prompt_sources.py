"""Where the clicks of a folder of images come from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from moe_pipeline.errors import ImageError, PromptError
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import case_id_of, list_label_maps, read_label_map, read_volume
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.segment_case import Request
from moe_pipeline.inference.search.experts import SearchOptions
from moe_pipeline.prompts.read import PromptSet, read_prompts


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where the clicks come from: exactly one of a prompt file, a folder of references, and a search.

    Attributes:
        file: prompts in any of our formats: a file, or a folder with one per case.
        labels: references a simulated user clicks by. An evaluation, and every row says so.
        classes: ids and names that the simulated user prompts; those found in the references where empty.
        n_clicks: clicks per class of the simulated user.
        seed: of the simulated user.
        search: what the experts look for by themselves.
    """

    file: Path | None = None
    labels: Path | None = None
    classes: dict[int, str] = field(default_factory=dict)
    n_clicks: int = 1
    seed: int = 0
    search: SearchOptions | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.file, self.labels, self.search)) != 1:
            raise PromptError("give one source of clicks: --prompts FILE, --labels DIR, or none of both for a search")

    def sha256(self) -> str:
        """Hash of what holds for all cases alike; clicks and references are those of each case."""
        search = asdict(self.search) if self.search else None
        return sha256_json([search, sorted(self.classes.items()), self.n_clicks, self.seed])


@dataclass(frozen=True, slots=True)
class Prompting:
    """An opened source.

    Attributes:
        source: itself.
        prompts: its files.
        references: label map by case, for the simulated user.
    """

    source: PromptSource
    prompts: PromptSet | None = None
    references: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, source: PromptSource, cases: Sequence[str]) -> "Prompting":
        """Open a source for some cases.

        Raises:
            PromptError: if references are asked for and their folder is missing, or the file cannot be used.
            RecordError: if it is a prompts.json with faults.
        """
        return cls(source, read_prompts(source.file, cases) if source.file else None, _references(source))

    def files_of(self, case: str) -> list[Path]:
        """Label maps that the clicks of a case depend on."""
        mask = self.prompts.cases.get(case) if self.prompts else None
        own = [mask] if isinstance(mask, Path) else []
        return own + ([self.references[case]] if case in self.references else [])

    def sha256(self, case: str) -> str:
        """Hash of the clicks of a case, as far as they do not come from a label map."""
        given = self.prompts.cases.get(case) if self.prompts else None
        if given is None or isinstance(given, Path):
            return sha256_json([])
        return sha256_json([given.space, [each.model_dump(mode="json") for each in given.objects]])

    def request(self, case: str, path: Path, native: Geometry) -> Request:
        """Read one case.

        Args:
            case: case id.
            path: of the channel to look at.
            native: its grid as stored.

        Raises:
            PipelineError: if the image or its prompts cannot be used.
        """
        if self.prompts is not None:
            return Request(case, read_volume(path), prompts=tuple(self.prompts.of_case(case, native)))
        if self.source.search is not None:
            return Request(case, read_volume(path), search=self.source.search)
        if case not in self.references:
            raise PromptError(
                f"{case}: no reference {case}.nii.gz (or another format) in {self.source.labels} to click by"
            )
        image, reference = read_volume(path), read_label_map(self.references[case])
        if differences := image.geometry.differences(reference.geometry):
            raise PromptError(
                f"{case}: {self.references[case]} is on another grid than {path}: {'; '.join(differences)}. "
                "Resample the label onto its image first."
            )
        return Request(
            case,
            image,
            reference=reference,
            classes=self.source.classes or _classes_in(reference),
            n_clicks=self.source.n_clicks,
            seed=self.source.seed,
        )


def channel_file(path: Path, channel: int) -> Path:
    """File of the channel that a model looks at; `list_images` names the first one.

    Raises:
        ImageError: if there is no such file.
    """
    if channel == 0:
        return path
    case = case_id_of(path)
    other = path.with_name(path.name.replace(case, f"{case.removesuffix('_0000')}_{channel:04d}", 1))
    if not case.endswith("_0000") or not other.is_file():
        raise ImageError(f"{path}: the model looks at channel {channel}, expected it beside this file as {other.name}")
    return other


def _references(source: PromptSource) -> dict[str, Path]:
    if source.labels is None:
        return {}
    if not source.labels.is_dir():
        raise PromptError(f"{source.labels}: no such folder; --labels expects a folder of label maps")
    return dict(list_label_maps(source.labels))


def _classes_in(reference: Volume) -> dict[int, str]:
    values = sorted(set(reference.array.ravel().tolist()) - {0})
    return {value: f"class {value}" for value in values}
