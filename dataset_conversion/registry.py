"""Every source format by name. The first whose `detect` says yes is taken."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset_conversion.common import DESCRIPTION, files_of, has_file, keys_of, subfolders_of
from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.sources import (
    amos,
    bids,
    brats,
    btcv,
    dicom,
    kits,
    msd,
    nnunet_v1,
    nnunet_v2,
    npz,
    pairs,
    sppin,
    totalsegmentator,
)
from dataset_conversion.templates import all_files
from moe_pipeline.errors import DatasetError
from moe_pipeline.imaging.io.files import fault_of_format


@dataclass(frozen=True, slots=True)
class Source:
    """How to recognise and how to read one source format."""

    title: str
    """For people."""
    detect: Callable[[Path], bool]
    """Whether a folder looks like it; must be quick and open no image."""
    describe: Callable[[Path, Options], SourceDataset]
    """What it holds."""
    options: frozenset[str] = frozenset()
    """Fields of `Options` that it takes."""


_DESCRIPTIONS = (DESCRIPTION, "dataset_description.json")
_VAGUE = ("pairs", "sppin", "dicom")
_MAX_LISTED = 4
_MAX_LOOKED_AT = 1000

SOURCES: dict[str, Source] = {
    "nnunet_v2": Source("nnU-Net v2 raw folder", nnunet_v2.detect, nnunet_v2.describe),
    "nnunet_v1": Source("nnU-Net v1 task folder", nnunet_v1.detect, nnunet_v1.describe),
    "amos": Source("AMOS22", amos.detect, amos.describe, frozenset({"channels"})),
    "msd": Source("Medical Segmentation Decathlon task folder", msd.detect, msd.describe),
    "bids": Source("BIDS with derivatives", bids.detect, bids.describe, frozenset({"channels", "masks"})),
    "totalsegmentator": Source(
        "one binary file per organ",
        totalsegmentator.detect,
        totalsegmentator.describe,
        frozenset({"channels", "masks"}),
    ),
    "kits": Source("KiTS19, 21, 23", kits.detect, kits.describe, frozenset({"masks"})),
    "btcv": Source("BTCV abdomen", btcv.detect, btcv.describe),
    "sppin": Source("SPPIN2023", sppin.detect, sppin.describe, frozenset({"images", "masks", "channels"})),
    "brats": Source("BraTS", brats.detect, brats.describe, frozenset({"channels"})),
    "npz": Source("MedSAM and CVPR25 archives", npz.detect, npz.describe, frozenset({"images", "channels"})),
    "dicom": Source("DICOM with RTSTRUCT or SEG", dicom.detect, dicom.describe, frozenset({"channels", "threshold"})),
    "pairs": Source(
        "images and labels by name", pairs.detect, pairs.describe, frozenset({"images", "masks", "channels"})
    ),
}


def choose_source(source: Path, wanted: str | None = None, *, by_template: bool = False) -> str:
    """Name of the format to read a folder as.

    Args:
        source: folder of the dataset.
        wanted: the name, if the user gave it.
        by_template: whether the user says where the images are; then it is a format that listens, `pairs` if in doubt.

    Raises:
        DatasetError: if the folder is missing, the wanted name is unknown, or nothing recognises the folder.
    """
    known = ", ".join(f"{name} ({entry.title})" for name, entry in SOURCES.items())
    if not source.is_dir():
        raise DatasetError(f"{source}: no such folder; expected a dataset: {known}")
    if wanted is not None and wanted not in SOURCES:
        raise DatasetError(f"no source format {wanted!r}; there are: {known}")
    candidates = (name for name, entry in SOURCES.items() if not by_template or "images" in entry.options)
    fallback = "pairs" if by_template else None
    found = wanted or next((name for name in candidates if SOURCES[name].detect(source)), fallback)
    if found == "pairs" and wanted is None and not by_template and (keys := keys_of(source)):
        raise DatasetError(
            f"{source / DESCRIPTION}: names neither `channel_names` (nnU-Net v2) nor `modality` and `training` "
            f"(Decathlon, nnU-Net v1), only {', '.join(sorted(keys))}; so it is not clear what the labels mean. Add "
            "what is missing, or say --as pairs to pair files by their names and leave it unread."
        )
    if found is None or (found == "pairs" and wanted is None and not by_template):
        _refuse_one_below(source)
    if found is None:
        there = ", ".join(sorted(path.name for path in source.iterdir())[:8]) or "nothing"
        raise DatasetError(
            f"{source}: no known dataset layout; found {there}. {_unread(source)}Known: {known}. "
            "In any other, name the pairs: --images '{case}/ct.nii.gz' --masks '{case}/seg.nii.gz'."
        )
    return found


def _refuse_one_below(source: Path) -> None:
    """Raise where it is the folders below that are datasets."""
    below = [folder for folder in subfolders_of(source) if any(has_file(folder, name) for name in _DESCRIPTIONS)]
    below = below or [folder for folder in subfolders_of(source)[:2] if not files_of(source)]
    known = [(folder, name) for folder in below[:_MAX_LISTED] if (name := _layout_of(folder)) is not None]
    if known:
        listed = ", ".join(f"{folder} ({name})" for folder, name in known)
        raise DatasetError(f"{source}: is no dataset, but holds {listed}. Give the folder of one dataset.")


def _layout_of(folder: Path) -> str | None:
    """Name of the layout of a folder, if it is one that is told by more than names of files."""
    return next((name for name, entry in SOURCES.items() if name not in _VAGUE and entry.detect(folder)), None)


def _unread(source: Path) -> str:
    """What to do about files of formats that are not read."""
    told = sorted({why for path in all_files(source)[:_MAX_LOOKED_AT] if (why := fault_of_format(path))})
    return "".join(f"{why}. " for why in told)


def describe_source(source: Path, name: str, options: Options) -> SourceDataset:
    """What a folder holds, read as the format of that name.

    Raises:
        DatasetError: if an option is given that the format does not take, or the folder does not follow the format.
        RecordError: if the source's own description breaks its schema.
    """
    entry = SOURCES[name]
    foreign = [
        f"--{key}"
        for key, value in asdict(options).items()
        if value != asdict(Options())[key] and key not in entry.options
    ]
    if foreign:
        taken = ", ".join(f"--{key}" for key in sorted(entry.options)) or "none"
        raise DatasetError(f"{source}: {name} takes no {' or '.join(foreign)}; options it takes: {taken}")
    return entry.describe(source, options)
