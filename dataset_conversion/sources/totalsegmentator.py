"""TotalSegmentator: per case a folder with ct.nii.gz or mri.nii.gz, and segmentations/ with one binary file per organ.

Organs are numbered by name. Where they overlap, the smallest one of the case keeps the voxels (see `masks`). Cases that
meta.csv calls test cases are held back as such. `--masks '{case}/segmentations/{class:liver|spleen}.nii.gz'` takes some
organs and reads no others. A folder of organ files elsewhere is a matter of templates, too: `--images scan.nii.gz
--masks 'organs/{class}.nii.gz'`.
"""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dataset_conversion.common import has_file, subfolders_of
from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.pairing import match_files, pair_by_fields
from dataset_conversion.templates import Template, all_files
from moe_pipeline.errors import DatasetError
from moe_pipeline.files import is_folder

META = "meta.csv"
_SCANS = {"ct": "CT", "mri": "MRI"}
_CASE, _SPLIT, _TEST = "image_id", "split", "test"


def detect(source: Path) -> bool:
    """A folder, or the source itself, has a scan beside segmentations/."""
    return any(
        _scans(folder) and "segmentations" in {path.name for path in subfolders_of(folder)}
        for folder in _folders(source)
    )


def describe(source: Path, options: Options) -> SourceDataset:
    """One case per folder, or the source itself.

    Raises:
        DatasetError: if there are both CT and MRI and --channels does not say which, or there is no case.
    """
    folder = "" if is_folder(source / "segmentations") else "{case}/"
    found = sorted({scan for path in _folders(source) for scan in _scans(path)})
    wanted = [name for name in found if not options.channels or _SCANS[name] in options.channels]
    if len(wanted) != 1:
        there = ", ".join(_SCANS[name] for name in found) or "neither ct.nii.gz nor mri.nii.gz"
        raise DatasetError(f"{source}: needs one kind of scan, found {there}; --channels CT or --channels MRI chooses")
    image = Template(f"{folder}{wanted[0]}.nii.gz")
    mask = Template(options.masks or folder + "segmentations/{class}.nii.gz")
    images, masks = match_files(source, all_files(source), image, mask)
    described = pair_by_fields(source, images, masks, channels=[_SCANS[wanted[0]]])
    parts = splits(source)
    cases = (replace(case, part="test") if parts.get(case.case_id) == _TEST else case for case in described.cases)
    return replace(described, cases=tuple(cases))


def splits(source: Path) -> dict[str, str]:
    """Case id to train, val or test, as meta.csv has it; empty without such a file or column."""
    path = source / META
    return dict(_split_rows(path)) if path.is_file() else {}


def _split_rows(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream, delimiter=";"):
            if row.get(_CASE) and row.get(_SPLIT):
                yield row[_CASE].strip(), row[_SPLIT].strip().lower()


def _folders(source: Path) -> list[Path]:
    return [source, *subfolders_of(source)]


def _scans(folder: Path) -> list[str]:
    return [name for name in _SCANS if has_file(folder, f"{name}.nii.gz")]
