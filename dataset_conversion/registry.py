"""Every source format by name. The first whose `detect` says yes is taken."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset_conversion import msd, nnunet_v1, nnunet_v2
from dataset_conversion.layout import Options, SourceDataset
from moe_pipeline.errors import DatasetError


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


SOURCES: dict[str, Source] = {
    "nnunet_v2": Source("nnU-Net v2 raw folder", nnunet_v2.detect, nnunet_v2.describe),
    "nnunet_v1": Source("nnU-Net v1 task folder", nnunet_v1.detect, nnunet_v1.describe),
    "msd": Source("Medical Segmentation Decathlon task folder", msd.detect, msd.describe),
}


def choose_source(source: Path, wanted: str | None = None) -> str:
    """Name of the format to read a folder as.

    Raises:
        DatasetError: if the folder is missing, the wanted name is unknown, or nothing recognises the folder.
    """
    known = ", ".join(f"{name} ({entry.title})" for name, entry in SOURCES.items())
    if not source.is_dir():
        raise DatasetError(f"{source}: no such folder; expected a dataset: {known}")
    if wanted is not None and wanted not in SOURCES:
        raise DatasetError(f"no source format {wanted!r}; there are: {known}")
    found = wanted or next((name for name, entry in SOURCES.items() if entry.detect(source)), None)
    if found is None:
        there = ", ".join(sorted(path.name for path in source.iterdir())[:8]) or "nothing"
        raise DatasetError(
            f"{source}: no known dataset layout; found {there}. Known: {known}. "
            "Each needs a dataset.json beside imagesTr and labelsTr."
        )
    return found


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
