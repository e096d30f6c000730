"""What a source is found to hold, before anything is read or written; and how a case of it is read.

A converter is a module with two functions, named in `registry.py`:

* ``detect(source) -> bool``: whether a folder looks like it. Quick, opens no image.
* ``describe(source, options) -> SourceDataset``: the cases, and the files each is made of. Reads no voxels.

Where files hold the channels and the label just as they are, that is all: the case goes without `load`, and
`loading.load_files` reads it. Where a volume has to be made first (masks merged into one label map, contours filled, a
sequence resampled), the case brings its own `load`, which gets the case and the fixes and returns a `LoadedCase`:

    def _load(case: SourceCase, fixes: frozenset[Fix], *, organs: dict[str, int]) -> LoadedCase: ...

    SourceCase("s0011", images=(ct,), labels=masks, load=partial(_load, organs=organs))

All the rest is the same for every source and is done in `case.py`: grids compared, NaN refused, labels checked against
the description and remapped, files written whole or not at all, one failure one row. A case counts as done while all
files of `images` and `labels` are the ones that it was made from, so these must name everything that `load` reads; what
else changes the outcome goes into `SourceDataset.settings`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import Fix

Part = Literal["training", "test"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a user says where a layout leaves a choice. Each source names those it takes; others are an error."""

    images: str = ""
    """Template of the images' paths, such as {patient}/{case}_{channel}.nii.gz; see `templates`."""
    masks: str = ""
    """Template of the label files' paths."""
    channels: tuple[str, ...] = ()
    """Channels to take, in order."""
    threshold: float | None = None
    """Smallest fraction or probability that is inside a structure, where the source has such; 0.5 if not given."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A volume as the source has it, on its own grid."""

    volume: Volume
    """Any number type."""
    file: Path | None = None
    """File that holds exactly this volume; it is copied where its format fits."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedCase:
    """One case in memory."""

    channels: tuple[Loaded, ...]
    """In channel order, all on one grid."""
    label: Loaded | None
    """On the grid of the channels; whole numbers of any type, in the values of the source."""
    notes: tuple[str, ...] = ()
    """What was done that a user should know, for the report: resampled, overlaps resolved."""


@dataclass(frozen=True, slots=True)
class SourceCase:
    """The files of one case, as the source has them."""

    case_id: str
    """Id in the new dataset."""
    images: tuple[Path, ...]
    """One file per channel, or one 4D file with all of them; with `load`, every file that it reads for them."""
    labels: tuple[Path, ...] = ()
    """One label map; with `load`, every file that it reads for it. Test cases may go without."""
    part: Part = "training"
    """Which folders it goes to."""
    patient: str | None = None
    """Who it is, where several cases may be of one patient: they are never on both sides of a split."""
    load: "Loader | None" = None
    """Makes the volumes; None where the files are the volumes."""


Loader = Callable[[SourceCase, frozenset[Fix]], LoadedCase]
"""Called with the case and what --fix asks for, in a thread of its own. Raises PipelineErrors that say what is wrong
with the case, which then is a row."""


@dataclass(frozen=True, slots=True)
class SourceDataset:
    """A source in the terms of the new dataset."""

    channel_names: tuple[str, ...]
    """In channel order."""
    labels: dict[str, int] | None
    """Name to value, background included; None if nothing but the label files says which values there are."""
    cases: tuple[SourceCase, ...]
    """Everything that can be tried."""
    faults: dict[str, str] = field(default_factory=dict)
    """Case id to the reason why it cannot even be tried."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys to keep in dataset.json: licence, reference, patients."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Whatever else changes what is written; if it changes, cases are made anew."""
    optional: frozenset[str] = frozenset()
    """Classes that are left out of dataset.json if no label has them."""
    notes: tuple[str, ...] = ()
    """What a user should know about the whole: contrasts left out, what was guessed."""
    left_out: dict[Path, str] = field(default_factory=dict)
    """Files that are passed over on purpose, and why."""
    n_counted: int | None = None
    """How many training cases it says there are."""
    regions: dict[str, Any] = field(default_factory=dict)
    """Keys of dataset.json that say what the values mean where some classes are regions; `labels` has bare values then,
    and --labels makes other classes of them."""
    refusals: tuple[str, ...] = ()
    """Why its labels cannot be taken as they are; --labels says what they are to be."""
    value_map: dict[int, int] | None = None
    """Value in the source to value in `labels`, which lists new ones then; set from --labels, not by converters."""
