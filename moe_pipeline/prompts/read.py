"""A file or a folder of prompts, in whatever format, case by case."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe_pipeline.datasets.classes import classes_beside
from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.paths import PredictionFolder, RawFolder
from moe_pipeline.prompts.annotations import Annotations, objects_of
from moe_pipeline.prompts.class_ids import ClassIds, ClassTable, WrittenClass
from moe_pipeline.prompts.formats import masks, prompts_json
from moe_pipeline.prompts.formats.registry import ENDINGS, FORMATS, MASK, OURS, OtherJson, case_of, format_of
from moe_pipeline.prompts.prompt import DensePrompt, Prompt, objects_in_world
from moe_pipeline.records.names import composed
from moe_pipeline.records.prompts import ObjectPrompt, Space

_log = logging.getLogger(__name__)

_NOT_PROMPTS = RawFolder.DESCRIPTION
_OUR_TABLES = (PredictionFolder.CASES, PredictionFolder.METRICS)
_CHANNEL_DIGITS, _FIRST_CHANNEL = 4, "_0000"


@dataclass(frozen=True, slots=True)
class Given:
    """What is given for one case.

    Attributes:
        space: of the points.
        objects: at least one.
        labels: where the prompt is a mask, the label map, canonical.
    """

    space: Space
    objects: Sequence[ObjectPrompt]
    labels: Volume | None = None


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompts of many cases.

    Attributes:
        path: file or folder that they come from.
        cases: where each case's prompts stand. Masks are read when they are asked for, all else is here.
        faults: why a case has none although there is a file for it.
        ids: of the classes.
        notes: of files that hold no prompts, or that nobody knows the cases of.
        files: that hold prompts, or should.
    """

    path: Path
    cases: Mapping[str, "Path | Given"]
    faults: Mapping[str, Exception] = field(default_factory=dict)
    ids: ClassIds = field(default_factory=ClassIds)
    notes: tuple[str, ...] = ()
    files: frozenset[Path] = frozenset()

    def given(self, case: str) -> Given:
        """The prompts of one case as they are stored.

        Raises:
            PipelineError: if there are none, or what there is cannot be used.
        """
        if case in self.faults:
            raise self.faults[case]
        found = self.cases.get(case)
        if isinstance(found, Path):
            space, objects, labels = masks.read(found, self.ids)
            for one in objects:
                self.ids.check(one.class_id, one.class_name, str(found))
            return Given(space, objects, labels)
        if found is None or not found.objects:
            known = ", ".join(sorted(self.cases)[:5]) or "none"
            more = "".join(f" {note}." for note in self.notes)
            raise PromptError(
                f"{case}: no prompts in {self.path}; it has prompts for: {known}. Add clicks for {case}.{more}"
            )
        for one in found.objects:
            self.ids.check(one.class_id, one.class_name, f"{case} in {self.path}")
        return found

    def of_case(self, case: str, native: Geometry) -> list[Prompt]:
        """The prompts of one case, in RAS world coordinates.

        Args:
            case: case id.
            native: grid of its image as stored.

        Raises:
            PipelineError: as `given`; also if a click lies outside the image.
        """
        given = self.given(case)
        prompts = objects_in_world(given.objects, given.space, native, f"{case} in {self.path}")
        if given.labels is None:
            return prompts
        return [replace(p, source=MASK, dense=DensePrompt(given.labels, p.class_id)) for p in prompts]

    def only(self, case: str) -> "PromptSet":
        """The same, with the prompts of one case alone: for a worker that does it."""
        return replace(
            self,
            cases={name: found for name, found in self.cases.items() if name == case},
            faults={name: fault for name, fault in self.faults.items() if name == case},
            files=frozenset(),
        )

    def without_image(self, cases: Collection[str]) -> list[str]:
        """Cases that have prompts but are none of those of the images."""
        return sorted({*self.cases, *self.faults} - {*cases})


def read_prompts(
    path: Path, cases: Collection[str] = (), images: Path | None = None, tables: Sequence[ClassTable] = ()
) -> PromptSet:
    """Read prompts for the images of a folder.

    Args:
        path: a file, or a folder with one file per case in any of our formats, named as the case.
        cases: ids of the images. A single file of another name is taken for the only case.
        images: their folder; an image there is no prompt, so that prompts may lie beside their images.
        tables: class names by id that hold for all cases, such as those of a model's experts.

    Raises:
        PromptError: if there is nothing, or a single file cannot be used.
        RecordError: if a dataset.json beside it breaks its schema.
    """
    if not path.exists():
        raise PromptError(f"{path}: no such file or folder of prompts")
    files = sorted(p for p in path.iterdir() if _may_be_prompts(p)) if path.is_dir() else [path]
    beside_images = images is not None and path.is_dir() and path.resolve() == images.resolve()
    collected = _Collected(path, cases, beside_images=beside_images)
    for file in files:
        collected.add(file)
    return collected.finished(tables)


def _may_be_prompts(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name not in (_NOT_PROMPTS, *_OUR_TABLES)


class _Collected:
    """Files as they come in."""

    def __init__(self, path: Path, cases: Collection[str], *, beside_images: bool) -> None:
        self.path, self.wanted, self.beside_images = path, cases, beside_images
        self.single = not path.is_dir()
        self.annotations: dict[str, tuple[Path, Annotations]] = {}
        self.ready: dict[str, Path | Given] = {}
        self.faults: dict[str, Exception] = {}
        self.origin: dict[str, list[Path]] = {}
        self.notes: list[str] = []

    def add(self, file: Path) -> None:
        """Read a file; whatever is wrong with it becomes the fault of its case."""
        try:
            kind = format_of(file)
        except OtherJson as error:
            if self.single:
                raise
            self.notes.append(str(error))
            return
        except (PromptError, OSError) as error:
            self._fault(self._case(file, ".json"), file, error)
            return
        if kind is None and self.single:
            raise PromptError(f"{file}: no prompts: its ending is none of {ENDINGS}")
        if kind is None or (kind == MASK and self.beside_images):
            _log.debug("%s: not a file of prompts", file)
        elif kind == OURS:
            self._add_many(file)
        else:
            self._add_case(file, kind)

    def finished(self, tables: Sequence[ClassTable]) -> PromptSet:
        """Everything together: only now it is known which id a name has."""
        if not self.origin:
            raise PromptError(
                f"{self.path}: no prompts in it; expected files that end in {ENDINGS}"
                + (", and found only the images themselves" if self.beside_images else "")
                + "".join(f". {note}" for note in self.notes)
            )
        for case, files in self.origin.items():
            if len(files) > 1:
                names = " and ".join(file.name for file in files)
                twice = PromptError(f"{self.path}: two files of prompts for the case {case}: {names}. Keep one.")
                self._fault(case, files[0], self.faults.get(case, twice) if self.single else twice)
        ids = ClassIds(self._written(), tables, self._beside())
        for case, (file, annotations) in self.annotations.items():
            try:
                self.ready[case] = Given(annotations.space, objects_of(annotations.annotations, ids, str(file)))
            except PromptError as error:
                self._fault(case, file, error)
        found = frozenset(file for those in self.origin.values() for file in those)
        return PromptSet(self.path, self.ready, self.faults, ids, tuple(self.notes), found)

    def _beside(self) -> ClassTable | None:
        beside = self.path if self.single else self.path / _NOT_PROMPTS
        names = classes_beside(beside) or classes_beside(self.path)
        return ClassTable("dataset.json beside the prompts", names) if names else None

    def _written(self) -> set[WrittenClass]:
        marks = {one for file, annotations in self.annotations.values() for one in annotations.written(str(file))}
        given = ((self.origin[case][0], given) for case, given in self.ready.items() if isinstance(given, Given))
        return marks | {
            WrittenClass(one.class_id, one.class_name, str(file), apart=True)
            for file, given in given
            for one in given.objects
        }

    def _add_many(self, file: Path) -> None:
        try:
            found = prompts_json.read(file)
        except (PromptError, OSError) as error:
            if self.single:
                raise
            case = self._case(file, OURS)
            if case in self.wanted:
                self._fault(case, file, error)
            else:  # nobody knows which cases it was for
                self.origin.setdefault(case, []).append(file)
                self.notes.append(str(error))
                _log.warning("passed over: %s", error)
            return
        for case in (*found.cases, *found.faults):
            self.origin.setdefault(_matching(case, self.wanted), []).append(file)
        self.ready |= {_matching(c, self.wanted): Given(found.space, o) for c, o in found.cases.items()}
        self.faults |= {_matching(case, self.wanted): fault for case, fault in found.faults.items()}

    def _add_case(self, file: Path, kind: str) -> None:
        case = self._case(file, kind)
        self.origin.setdefault(case, []).append(file)
        if kind == MASK:
            self.ready[case] = file
            return
        try:
            self.annotations[case] = file, FORMATS[kind].read(file).with_owners(str(file))
        except Exception as error:
            if self.single:
                raise
            self.faults[case] = error  # raised when the case's turn comes: whoever handles cases says what to do then

    def _fault(self, case: str, file: Path, error: Exception) -> None:
        if self.single:
            raise error
        if file not in self.origin.setdefault(case, []):
            self.origin[case].append(file)
        self.faults[case] = error

    def _case(self, file: Path, kind: str) -> str:
        """The case that a file is for: as it is called, or the only one."""
        name = _matching(case_of(file, kind), self.wanted)
        return next(iter(self.wanted)) if self.single and name not in self.wanted and len(self.wanted) == 1 else name


def _matching(name: str, wanted: Collection[str]) -> str:
    """The case that is meant by a name: the same but for a channel, where there is none of exactly this name."""
    name = composed(name)
    stem, _, channel = name.rpartition("_")
    if name not in wanted and stem in wanted and channel.isdigit() and len(channel) == _CHANNEL_DIGITS:
        return stem
    return f"{name}{_FIRST_CHANNEL}" if name not in wanted and f"{name}{_FIRST_CHANNEL}" in wanted else name
