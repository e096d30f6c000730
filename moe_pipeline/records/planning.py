"""What a dataset is like (fingerprint), what we will do about it (plan), and who is held back (splits)."""

from typing import Literal

from pydantic import Field, model_validator

from moe_pipeline.files import sha256_json
from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.cases import Accounting
from moe_pipeline.records.foundation import View
from moe_pipeline.records.stamp import FileStamp


class Intensity(Part):
    """Distribution of intensities, in the units of the image."""

    mean: float
    """Arithmetic mean."""
    std: float = Field(ge=0)
    """Standard deviation of the voxels."""
    median: float
    """50th percentile."""
    percentile_00_5: float
    """0.5th percentile."""
    percentile_05: float
    """5th percentile."""
    percentile_95: float
    """95th percentile."""
    percentile_99_5: float
    """99.5th percentile."""


class Fault(Part):
    """Something wrong with one case."""

    case_id: str
    """Which case."""
    severity: Literal["error", "warning"]
    """A case with an error is not used."""
    message: str
    """File, what was found, what was expected."""


class ChannelMeasures(Part):
    """One channel of one case."""

    image: Intensity
    """All voxels, thinned where there are many."""
    foreground: Intensity | None = None
    """Voxels of any class."""
    foreground_quantiles: tuple[float, ...] = ()
    """Quantiles of the foreground, closer in the tails (`planning.sketch`); cases are pooled by these."""


class ClassMeasures(Part):
    """One class in one case."""

    voxels: int = Field(gt=0)
    """Number of voxels."""
    volume_ml: float = Field(gt=0)
    """Their volume."""
    box_mm: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    """Borders along R, A, S (index axes of the canonical grid), from the image's first corner."""
    components: int = Field(gt=0)
    """Connected parts (26 neighbours)."""
    object_mm: tuple[float, float, float]
    """Extent of the largest part along R, A, S."""
    centroid: tuple[float, float, float]
    """Centre of mass relative to the body's box: 0 is its left, posterior, inferior face, 1 the other."""
    intensity: tuple[Intensity, ...]
    """Per channel."""


class CaseMeasures(Part):
    """A faultless case in numbers."""

    shape: tuple[int, int, int]
    """Voxels along R, A, S."""
    spacing_mm: tuple[float, float, float]
    """Along R, A, S."""
    orientation: str
    """Where the file's own x, y, z run, e.g. LPS."""
    channels: tuple[ChannelMeasures, ...]
    """One per channel."""
    classes: dict[int, ClassMeasures]
    """By label value, for classes that are present."""


class CaseFingerprint(Part):
    """All we know of one case; one line of cases.jsonl, so that a second run need not read the files."""

    case_id: str
    """Case id."""
    files: tuple[FileStamp, ...]
    """Images, then label."""
    description_sha256: str
    """Hash of the channels and labels of dataset.json that the case was checked against."""
    faults: tuple[Fault, ...] = ()
    """What is wrong with it."""
    measures: CaseMeasures | None = None
    """None if there is an error."""


class Spread(Part):
    """Percentiles over cases."""

    low: float
    """5th percentile."""
    median: float
    """50th percentile."""
    high: float
    """95th percentile."""


class ClassSummary(Part):
    """One class over all cases."""

    name: str
    """From dataset.json."""
    cases: int = Field(ge=0)
    """Cases that have it."""
    volume_ml: Spread | None = None
    """Volume where present; None if it never is, as for all fields below."""
    extent_mm: tuple[Spread, Spread, Spread] | None = None
    """Of the box around the class, along R, A, S."""
    longest_mm: Spread | None = None
    """Longest side of the largest connected part: whether it fits into a cube."""
    shortest_mm: Spread | None = None
    """Shortest side of the largest connected part: whether a mask can show it."""
    components: Spread | None = None
    """Connected parts."""
    centroid: tuple[float, float, float] | None = None
    """Mean position relative to the body, see `ClassMeasures.centroid`."""
    intensity: tuple[Intensity, ...] = ()
    """Per channel; means over the cases."""


class PairSummary(Part):
    """Two classes that occur together."""

    cases: int = Field(gt=0)
    """Cases that have both."""
    extent_mm: Spread
    """Longest side of the box around both: a crop that large shows both whole."""


class CaseSummary(Part):
    """One usable case, briefly."""

    case_id: str
    """Case id."""
    shape: tuple[int, int, int]
    """Voxels along R, A, S."""
    spacing_mm: tuple[float, float, float]
    """Along R, A, S."""
    classes: tuple[int, ...]
    """Label values present."""


class Fingerprint(Record):
    """fingerprint.json: statistics of a dataset."""

    dataset: str
    """Name of the dataset."""
    dataset_sha256: str
    """Hash over dataset.json and all files of all cases."""
    channel_names: dict[str, str]
    """From dataset.json."""
    cases: tuple[CaseSummary, ...]
    """Usable cases, sorted by id."""
    faults: tuple[Fault, ...] = ()
    """Warnings, and the errors of the cases that were left out."""
    accounting: tuple[Accounting, ...] = ()
    """Cases and files of the dataset: found = used + left out. No measurement, so not hashed."""
    orientations: dict[str, int]
    """Number of cases by the orientation of their files."""
    spacing_mm: tuple[Spread, Spread, Spread]
    """Along R, A, S."""
    shape: tuple[Spread, Spread, Spread]
    """Voxels along R, A, S."""
    foreground: tuple[Intensity | None, ...]
    """Per channel over all classes; every case counts the same."""
    classes: dict[int, ClassSummary]
    """By label value."""
    pairs: dict[str, PairSummary] = Field(default_factory=dict)
    """Label values `1 2` to what the two have in common; pairs that never meet are left out."""

    def sha256(self) -> str:
        """Hash of what was measured."""
        return sha256_json(self.model_dump(mode="json", exclude={"accounting"}))


class Estimates(Part):
    """What the plan will cost on the machine that made it, within about a factor of two; no choice, so not hashed."""

    disk_mb: float = Field(ge=0)
    """Embedding cache."""
    memory_mb: float = Field(ge=0)
    """Peak while encoding and training."""
    minutes: float = Field(ge=0)
    """Encoding and training together."""


class Plan(Record):
    """plan.json: every choice, and why. Users may edit it; it is validated again at each use."""

    dataset: str
    """Name of the dataset."""
    dataset_sha256: str
    """From the fingerprint."""
    fingerprint_sha256: str
    """The fingerprint that the plan was made from."""
    foundation: str
    """Preset or imported weights."""
    channel: int = Field(default=0, ge=0)
    """Image channel that is shown to the encoder."""
    classes: dict[int, str]
    """Label value to name, of the classes that can be prompted."""
    view: View
    """What the encoder sees."""
    crops_per_case: int = Field(ge=1, le=1000)
    """Crops per case and copy."""
    class_weights: dict[int, float]
    """Chance of each class to be the one a crop is placed around, up to a factor."""
    copies_per_case: int = Field(ge=1, le=1000)
    """1 is the case as it is; the others are augmented before they are encoded."""
    mirror_axes: tuple[int, ...] = ()
    """Axes (0 R, 1 A, 2 S) that copies may be mirrored along."""
    batch_size: int = Field(ge=1)
    """Prompts per training step."""
    epochs: int = Field(ge=1)
    """Rounds of training; each ends with a validation."""
    steps_per_epoch: int = Field(ge=1)
    """Optimiser steps in a round."""
    seed: int
    """Of crops, augmentation, training and folds."""
    estimates: Estimates
    """What this will cost."""
    reasons: dict[str, str]
    """Field to the reason for its value, in words."""

    def sha256(self) -> str:
        """Hash of the choices. What they cost differs from machine to machine and is left out."""
        return sha256_json(self.model_dump(mode="json", exclude={"estimates"}))

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.steps_per_epoch

    @model_validator(mode="after")
    def _fields_agree(self) -> "Plan":
        if not self.classes or min(self.classes) < 1:
            raise ValueError(f"classes: needs at least one label value above 0, found {sorted(self.classes)}")
        if set(self.class_weights) != set(self.classes):
            raise ValueError(
                f"class_weights: needs one weight for each of the classes {sorted(self.classes)}, "
                f"found {sorted(self.class_weights)}"
            )
        if min(self.class_weights.values()) <= 0:
            raise ValueError("class_weights: must be positive; to drop a class, remove it from classes too")
        if not set(self.mirror_axes) <= {0, 1, 2} or len(set(self.mirror_axes)) < len(self.mirror_axes):
            raise ValueError(f"mirror_axes: expected different ones of 0, 1, 2, found {list(self.mirror_axes)}")
        return self


class Fold(Part):
    """One way of holding cases back."""

    train: tuple[str, ...]
    """Case ids to learn from."""
    validation: tuple[str, ...]
    """Case ids held back; empty only if there is a single patient."""


class Splits(Record):
    """splits.json: the folds."""

    dataset: str
    """Name of the dataset."""
    seed: int
    """The folds are a function of it, of the case ids, and of the order in which cases were added."""
    grouped_by: str
    """How patients were told apart, in words."""
    patient_pattern: str | None = None
    """The pattern that finds the patient in a case id, for cases that are added later."""
    folds: tuple[Fold, ...] = Field(min_length=1)
    """Each case is held back in exactly one of them."""

    @model_validator(mode="after")
    def _nobody_is_on_both_sides(self) -> "Splits":
        for number, fold in enumerate(self.folds):
            both = sorted(set(fold.train) & set(fold.validation))
            if both:
                raise ValueError(f"fold {number}: {', '.join(both)} in both train and validation")
        return self
