"""Is a case what it should be? Every file is opened once; what is wrong is collected, not raised."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.files import as_labels, check_finite, label_values
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.native import read_native
from moe_pipeline.imaging.orientation import to_canonical
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.planning.dataset import Case
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.planning import Fault

_Result = TypeVar("_Result")


@dataclass(slots=True)
class CaseCheck:
    """One case while it is looked through. `label` and `native` are None as long as they cannot be read."""

    case: Case
    description: DatasetJson
    faults: list[Fault] = field(default_factory=list)
    label: Volume | None = None
    """Canonical, integers."""
    native: Geometry | None = None
    """Grid of the label file."""

    @property
    def is_usable(self) -> bool:
        """Whether no error was found so far."""
        return not any(fault.severity == "error" for fault in self.faults)

    def read_label(self) -> None:
        """Read the label map and look at its values."""
        path = self.case.label
        if path is None:
            self._error("no label file")
            return
        native = self._try(lambda: read_native(path))
        labels = self._try(lambda: as_labels(native, path)) if native else None
        if native is None or labels is None:
            return
        self.native = native.geometry
        self.label = to_canonical(labels)
        self._check_values(path)

    def read_channel(self, number: int) -> Volume | None:
        """Read one channel, canonical, as stored; None if it cannot be used with the label."""
        path = self.case.images[number]
        volume = self._try(lambda: _finite(path))
        if volume is None:
            return None
        if self.label is not None and (found := volume.geometry.differences(self.label.geometry)):
            self._error(f"{path.name}: image and label lie on different grids: {'; '.join(found)}")
            return None
        return volume

    def _check_values(self, path: Path) -> None:
        assert self.label is not None
        values = label_values(self.label.array)
        known = {0, *self.description.classes}
        if self.description.ignore_value is not None:
            known.add(self.description.ignore_value)
        unknown = [str(value) for value in values if value not in known]
        if unknown:
            named = ", ".join(str(value) for value in sorted(known))
            self._error(f"{path.name}: label values {', '.join(unknown[:10])} are not in dataset.json ({named})")
        elif not any(value in self.description.classes for value in values):
            message = f"{path.name}: no voxel of any class; the case cannot be trained on"
            self.faults.append(Fault(case_id=self.case.case_id, severity="warning", message=message))

    def _try(self, work: Callable[[], _Result]) -> _Result | None:
        try:
            return work()
        except (PipelineError, OSError) as error:
            self._error(str(error))
            return None

    def _error(self, message: str) -> None:
        self.faults.append(Fault(case_id=self.case.case_id, severity="error", message=message))


def _finite(path: Path) -> Volume:
    native = read_native(path)
    check_finite(native.array, path)
    return to_canonical(native)
