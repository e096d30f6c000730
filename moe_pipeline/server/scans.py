"""The scans of a folder, how far each one is, and the names of classes: all that outlives a session."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moe_pipeline.datasets.classes import classes_beside
from moe_pipeline.errors import PipelineError, PromptError
from moe_pipeline.files import append_line, sha256_file, sha256_json
from moe_pipeline.imaging.io.files import as_labels, images_in, list_label_maps
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.batch.prompt_sources import channel_file
from moe_pipeline.inference.session.accepted import journal_of, masks_beside, read_journal
from moe_pipeline.journal.together import finish_moves
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.names import fault_of_title
from moe_pipeline.records.prompts import ClassNames, SessionEvent

State = Literal["untouched", "begun", "accepted"]
_LISTED_SECONDS = 5.0
_NO_STEP = ("open", "select")


class UnknownScanError(PipelineError):
    """There is no scan of that name."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan.

    Attributes:
        case: its name.
        path: of its image, or of a folder with a DICOM series.
        state: how far it is.
        has_labels: whether there is a label map that can be opened.
    """

    case: str
    path: Path
    state: State
    has_labels: bool


class Scans:
    """The scans of a folder, and the dataset folder that accepted ones go into.

    Args:
        images: folder of scans.
        dataset: folder of the dataset.
        labels: folder of label maps that can be opened.
        channel: that the model looks at.
    """

    def __init__(self, images: Path, dataset: Path, labels: Path | None, channel: int) -> None:
        self.images, self.dataset, self.labels, self.channel = images, dataset, labels, channel
        self._lock = threading.Lock()
        self._listed: tuple[float, dict[str, Path]] = (-_LISTED_SECONDS, {})
        if dataset.is_dir():
            finish_moves(dataset)

    def all(self) -> list[Scan]:
        """Every scan, sorted by name. What a link leads out of the folder to is left out."""
        with_labels = self._label_maps()
        return [Scan(case, path, self.state(case), case in with_labels) for case, path in self._paths().items()]

    def path(self, case: str) -> Path:
        """Image of a scan: the channel that the model looks at.

        Raises:
            UnknownScanError: if there is none of that name.
        """
        known = self._paths()
        if case not in known:
            raise UnknownScanError(f"no scan of that name; there are {len(known)}, see GET /api/scans")
        return channel_file(known[case], self.channel)

    def label_path(self, case: str) -> Path | None:
        """Label map of a scan that was accepted; None if it was not."""
        path = self.dataset / RawFolder.LABELS / f"{case}.nii.gz"
        return path if path.is_file() else None

    def state(self, case: str) -> State:
        """How far a scan is."""
        steps = [event.action for event in self.events(case) if event.action not in _NO_STEP]
        if steps and steps[-1] != "accept":
            return "begun"
        return "untouched" if self.label_path(case) is None else "accepted"

    def events(self, case: str) -> list[SessionEvent]:
        """Journal of a scan."""
        return read_journal(journal_of(self.dataset, case))

    def note(self, case: str, image_sha256: str) -> Callable[[SessionEvent], None]:
        """What writes down the steps of a session as they are done; the first one says of which image they are."""
        path = journal_of(self.dataset, case)

        def listener(event: SessionEvent) -> None:
            if not path.is_file():
                opened = SessionEvent(action="open", at=event.at, image_sha256=image_sha256)
                append_line(path, opened.model_dump_json(exclude_defaults=True))
            append_line(path, event.model_dump_json(exclude_defaults=True))

        return listener

    def image_sha256(self, case: str) -> str:
        """Hash of the files of a scan."""
        path = self.path(case)
        if path.is_file():
            return sha256_file(path)
        return sha256_json([sha256_file(one) for one in sorted(path.rglob("*")) if one.is_file()])

    def keep_mask(self, case: str, mask: Volume) -> str:
        """Write a mask beside the journal, for whoever goes on from there; its name."""
        folder = journal_of(self.dataset, case).parent
        name = f"{case}.{time.time_ns()}.nii.gz"
        write_native(mask, folder / name)
        return name

    def read_mask(self, case: str) -> Callable[[str], Volume]:
        """What reads the masks of a scan by their names."""
        return masks_beside(journal_of(self.dataset, case))

    def existing_labels(self, case: str) -> Volume:
        """The label map of a scan that can be opened, on its own grid.

        Raises:
            UnknownScanError: if there is none.
        """
        found = self._label_maps().get(case)
        if found is None:
            raise UnknownScanError(f"{case}: there is no label map to open; start the server with --labels DIR")
        return as_labels(read_native(found), found)

    def classes(self, model: Mapping[int, str]) -> dict[int, str]:
        """Names by id: those of the dataset, those that were named since, those of the label maps, the model's.

        A name keeps the first id that it has; where an id is taken, a later name gets the lowest free one.

        Args:
            model: classes of the experts.
        """
        names: dict[int, str] = {}
        for source in (self._described(), self._named(), self._of_labels(), model):
            for class_id, name in source.items():
                if name not in names.values():
                    names[_free(names) if class_id in names else class_id] = name
        return dict(sorted(names.items()))

    def class_id(self, name: str, model: Mapping[int, str]) -> int:
        """Id of a class by its name; a new one is written down.

        Raises:
            PromptError: if it can be no name.
        """
        if why := fault_of_title(name):
            raise PromptError(f"a class cannot be called {name[:60]!a}: {why}")
        with self._lock:
            names = self.classes(model)
            found = next((class_id for class_id, known in names.items() if known == name), None)
            class_id = _free(names) if found is None else found
            named = self._named()
            if class_id not in named and class_id not in self._described():
                self.dataset.mkdir(parents=True, exist_ok=True)
                ClassNames(names={**named, class_id: name}).save(self.dataset / RawFolder.CLASSES)
            return class_id

    def _described(self) -> dict[int, str]:
        path = RawFolder(self.dataset).description
        return DatasetJson.load(path).classes if path.is_file() else {}

    def _named(self) -> dict[int, str]:
        path = self.dataset / RawFolder.CLASSES
        return ClassNames.load(path).names if path.is_file() else {}

    def _of_labels(self) -> dict[int, str]:
        return classes_beside(self.labels) if self.labels is not None else {}

    def _label_maps(self) -> dict[str, Path]:
        return dict(list_label_maps(self.labels)) if self.labels is not None else {}

    def _paths(self) -> dict[str, Path]:
        now = time.monotonic()
        if now - self._listed[0] > _LISTED_SECONDS:
            root = self.images.resolve()
            inside = {case: path for case, path in images_in(self.images).files if root in (path.resolve()).parents}
            self._listed = now, inside
        return self._listed[1]


def _free(names: Mapping[int, str]) -> int:
    return next(number for number in range(1, len(names) + 2) if number not in names)
