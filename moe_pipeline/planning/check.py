"""Is a case what it should be? Every file is opened once; what is wrong is collected, not raised."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from moe_pipeline.datasets.dataset import Case
from moe_pipeline.imaging.checks.inspection import attempt, inspect_grid, inspect_image, inspect_label
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.padding import without_padding
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.records.check import Finding
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.planning import Fault


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
        path, case_id = self.case.label, self.case.case_id
        if path is None:
            self.faults.append(Fault(case_id=case_id, severity="error", message="no label file"))
            return
        native, findings = attempt(case_id, path, lambda: read_native(path))
        self._note(findings)
        if native is None:
            return
        inspected = inspect_label(case_id, path, native, self.description.classes)
        self._note(inspected.findings)
        if inspected.labels is not None:
            self.native = native.geometry
            self.label = to_canonical(inspected.labels)

    def read_channel(self, number: int) -> Volume | None:
        """Read one channel, canonical, as stored; None if it cannot be used with the label."""
        path, case_id = self.case.images[number], self.case.case_id
        native, findings = attempt(case_id, path, lambda: read_native(path))
        if native is None:
            self._note(findings)
            return None
        findings = inspect_image(case_id, path, native)
        volume = to_canonical(without_padding(native))
        if self.label is not None:
            findings += inspect_grid(case_id, path.name, self.label.geometry, volume.geometry, "image and label")
        self._note(findings)
        return None if any(finding.severity == "error" for finding in findings) else volume

    def _note(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.severity != "note":
                severity: Literal["error", "warning"] = finding.severity
                self.faults.append(
                    Fault(case_id=finding.case_id, severity=severity, message=finding.message_and_repair)
                )
