"""What a check of a dataset found."""

from enum import StrEnum
from typing import Literal, get_args

from pydantic import Field

from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.cases import Accounting
from moe_pipeline.records.stamp import FileStamp

Severity = Literal["error", "warning", "note"]
"""error: the case is not used; warning: it is, but look at it; note: it is handled, and said so."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

Fix = Literal["safe", "snap", "round", "resample-labels", "split-4d", "sform", "qform", "pixdim", "mm", "union"]
"""What `moe convert --fix` may repair. safe is snap (headers that mean the same grid) and round (labels that are whole
numbers but for rounding); the others change more, and are done only if they are asked for by name. sform, qform and
pixdim say what to believe in a NIfTI header that contradicts itself, mm that its unit is wrong; union makes one class
of several regions or segments of one name."""

FIXES: tuple[Fix, ...] = get_args(Fix)


class Kind(StrEnum):
    """What can be wrong."""

    LAYOUT = "layout"
    MISSING_FILE = "missing_file"
    ORPHAN_FILE = "orphan_file"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    DIMENSIONS = "dimensions"
    NOT_FINITE = "not_finite"
    GEOMETRY = "geometry"
    HEADER = "header"
    SPACING = "spacing"
    NO_CONTRAST = "no_contrast"
    SHEARED = "sheared"
    UNKNOWN_LABELS = "unknown_labels"
    FLOAT_LABELS = "float_labels"
    SOFT_LABELS = "soft_labels"
    EMPTY_LABEL = "empty_label"
    DUPLICATE = "duplicate"
    MISSING_SLICES = "missing_slices"
    IRREGULAR_SLICES = "irregular_slices"
    TILTED_SLICES = "tilted_slices"
    SEVERAL_VOLUMES = "several_volumes"
    PATIENT_ON_BOTH_SIDES = "patient_on_both_sides"
    ONE_PATIENT = "one_patient"
    OUTLIER = "outlier"


class Finding(Part):
    """One thing that is wrong with one case."""

    case_id: str
    """Which case; empty for the dataset as a whole."""
    file: str = ""
    """Name of the file, where it is one file's fault."""
    kind: Kind
    """What sort of fault."""
    severity: Severity
    """How bad."""
    found: str
    """What there is."""
    expected: str
    """What there should be."""
    repair: str
    """What to do."""
    fix: Fix | None = None
    """Value of --fix that repairs it while converting; None if none does."""

    @property
    def message(self) -> str:
        """One line: file and what was found."""
        return f"{self.file}: {self.found}" if self.file else self.found

    @property
    def message_and_repair(self) -> str:
        """The same with what to do, unless it says so itself: then it is made of sentences."""
        told = self.message
        if told.endswith(".") and self.fix is None:
            return told
        return f"{told}{'' if told.endswith(('.', '?')) else '.'} {self.repair}"


class ChannelNumbers(Part):
    """One channel of one case."""

    content_sha256: str
    """Hash of shape and voxels."""
    median: float
    """Median intensity."""
    spread: float
    """From the 1st to the 99th percentile."""


class CaseNumbers(Part):
    """What cases of one dataset have alike, mostly."""

    spacing_mm: tuple[float, float, float]
    """Along R, A, S."""
    extent_mm: tuple[float, float, float]
    """Of the field of view along R, A, S."""
    channels: tuple[ChannelNumbers, ...] = ()
    """Those that can be read."""
    label_sha256: str = ""
    """Hash of the label's shape and voxels; empty without one."""
    volumes_ml: dict[int, float] = Field(default_factory=dict)
    """By label value, background excepted."""


class CheckedCase(Part):
    """One line of the journal of a check: a case that was looked through."""

    case_id: str
    """Case id."""
    description_sha256: str
    """Hash of the channels, labels and settings that it was checked against."""
    files: tuple[FileStamp, ...]
    """Images, then labels."""
    findings: tuple[Finding, ...] = ()
    """What is wrong with this case alone."""
    numbers: CaseNumbers | None = None
    """To compare it with the others; None if nothing of it can be read."""


class CheckReport(Record):
    """check.json: all that is wrong with a dataset."""

    source: str
    """Folder that was checked; nothing in it was changed."""
    source_format: str
    """Name of the layout it was read as."""
    cases: int = Field(ge=0)
    """Cases looked at, those with missing files included."""
    findings: tuple[Finding, ...]
    """Errors first, then by case."""
    accounting: tuple[Accounting, ...] = ()
    """Cases and files: found = used + left out; used are those without errors."""
    seconds: float = Field(ge=0)
    """Wall time."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that keep a case from being used."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def summary(self) -> str:
        """One line for the terminal."""
        counts = [(sum(one.severity == severity for one in self.findings), severity) for severity in SEVERITIES]
        told = ", ".join(f"{n} {severity}{'s' * (n != 1)}" for n, severity in counts if n) or "nothing wrong"
        cases = "1 case" if self.cases == 1 else f"{self.cases} cases"
        return f"{self.source}: {cases}, {told} ({self.source_format}, {self.seconds:.1f} s)"
