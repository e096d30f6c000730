"""A file or a folder of prompts, in whatever format, case by case."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe_pipeline.datasets.classes import classes_beside
from moe_pipeline.errors import PipelineError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.paths import RawFolder
from moe_pipeline.prompts import masks
from moe_pipeline.prompts.annotations import Annotations, class_ids, objects_of
from moe_pipeline.prompts.formats import ENDINGS, FORMATS, MASK, OURS, case_of, format_of
from moe_pipeline.prompts.prompt import DensePrompt, Prompt, objects_in_world
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile, Space

_log = logging.getLogger(__name__)

_NOT_PROMPTS = RawFolder.DESCRIPTION
_CHANNEL_DIGITS = 4


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
        names: of classes by id, where a dataset.json tells them.
    """

    path: Path
    cases: Mapping[str, "Path | Given"]
    faults: Mapping[str, PipelineError] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    def given(self, case: str) -> Given:
        """The prompts of one case as they are stored.

        Raises:
            PipelineError: if there are none, or what there is cannot be used.
        """
        if case in self.faults:
            raise self.faults[case]
        found = self.cases.get(case)
        if isinstance(found, Path):
            return Given(*masks.read(found, self.names))
        if found is None or not found.objects:
            known = ", ".join(sorted(self.cases)[:5]) or "none"
            raise PromptError(f"{case}: no prompts in {self.path}; it has prompts for: {known}. Add clicks for {case}.")
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


def read_prompts(path: Path, cases: Collection[str] = ()) -> PromptSet:
    """Read prompts for the images of a folder.

    Args:
        path: a file, or a folder with one file per case in any of our formats, named as the case.
        cases: ids of the images. A single file of another name is taken for the only case.

    Raises:
        PromptError: if there is nothing, two files are for one case, or a single file cannot be used.
        RecordError: if it is a prompts.json with faults.
    """
    if not path.exists():
        raise PromptError(f"{path}: no such file or folder of prompts")
    files = sorted(p for p in path.iterdir() if _may_be_prompts(p)) if path.is_dir() else [path]
    collected = _Collected(path, cases)
    for file in files:
        collected.add(file)
    return collected.finished()


def _may_be_prompts(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name != _NOT_PROMPTS


class _Collected:
    """Files as they come in."""

    def __init__(self, path: Path, cases: Collection[str]) -> None:
        self.path, self.wanted = path, cases
        self.single = not path.is_dir()
        self.annotations: dict[str, tuple[Path, Annotations]] = {}
        self.ready: dict[str, Path | Given] = {}
        self.faults: dict[str, PipelineError] = {}
        self.origin: dict[str, Path] = {}

    def add(self, file: Path) -> None:
        try:
            kind = format_of(file)
        except PromptError as error:
            self._fault(file.name.split(".")[0], file, error)
            return
        if kind is None:
            if self.single:
                raise PromptError(f"{file}: no prompts: its ending is none of {ENDINGS}")
            _log.debug("%s: not a file of prompts", file)
        elif kind == OURS:
            record = PromptFile.load(file)
            for case, objects in record.cases.items():
                self._claim(case, file)
                self.ready[case] = Given(record.space, objects)
        else:
            self._add_case(file, kind)

    def finished(self) -> PromptSet:
        if not self.origin:
            raise PromptError(f"{self.path}: no prompts in it; expected files that end in {ENDINGS}")
        beside = self.path if self.single else self.path / _NOT_PROMPTS
        names = classes_beside(beside) or classes_beside(self.path)
        ids = class_ids(
            [annotation for _, annotations in self.annotations.values() for annotation in annotations.annotations],
            names,
        )
        for case, (file, annotations) in self.annotations.items():
            try:
                self.ready[case] = Given(annotations.space, objects_of(annotations.annotations, ids, names, str(file)))
            except PromptError as error:
                self._fault(case, file, error)
        return PromptSet(self.path, self.ready, self.faults, names)

    def _add_case(self, file: Path, kind: str) -> None:
        case = _matching(case_of(file, kind), self.wanted, single=self.single)
        self._claim(case, file)
        if kind == MASK:
            self.ready[case] = file
            return
        try:
            self.annotations[case] = file, FORMATS[kind].read(file)
        except PromptError as error:
            self._fault(case, file, error)

    def _claim(self, case: str, file: Path) -> None:
        other = self.origin.setdefault(case, file)
        if other != file:
            raise PromptError(f"{self.path}: two files of prompts for the case {case}: {other.name} and {file.name}")

    def _fault(self, case: str, file: Path, error: PipelineError) -> None:
        if self.single:
            raise error
        self.origin.setdefault(case, file)
        self.faults[case] = error


def _matching(name: str, wanted: Collection[str], *, single: bool) -> str:
    """The case that a file is for: as it is called, as it is called but for a channel, or the only one."""
    stem, _, channel = name.rpartition("_")
    if name not in wanted and stem in wanted and channel.isdigit() and len(channel) == _CHANNEL_DIGITS:
        return stem
    if single and name not in wanted and len(wanted) == 1:
        return next(iter(wanted))
    return name
