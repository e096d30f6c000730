"""KiTS19, 21 and 23: case_00000/imaging.nii.gz with segmentation.nii.gz, or aggregated_MAJ_seg.nii.gz in KiTS21.

A case with an image alone is a test case, as the organisers keep the labels of some. --masks takes another label, such
as {case}/aggregated_OR_seg.nii.gz.
"""

from dataclasses import replace
from pathlib import Path

from dataset_conversion.common import has_file
from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.pairing import match_files, pair_by_fields, together
from dataset_conversion.templates import Template, all_files
from moe_pipeline.errors import DatasetError

_IMAGE = r"{case:case_\d+}/imaging.nii.gz"
_LABELS = {"background": 0, "kidney": 1, "tumor": 2, "cyst": 3}
_MAJORITY = "aggregated_MAJ_seg.nii.gz"


def detect(source: Path) -> bool:
    """A folder case_* has an image or a label by the names of KiTS."""
    names = ("imaging.nii.gz", "segmentation.nii.gz", _MAJORITY)
    return any(has_file(folder, name) for folder in source.glob("case_*") for name in names)


def describe(source: Path, options: Options) -> SourceDataset:
    """Cases by folder; cysts are a class where any label has them, as from KiTS21 on.

    Raises:
        DatasetError: if there are no images at all, as in the repository of KiTS19 before they are downloaded.
    """
    files = all_files(source)
    if not any(path.name == "imaging.nii.gz" for path in files):
        n_labels = sum(path.name.endswith(("segmentation.nii.gz", "_seg.nii.gz")) for path in files)
        raise DatasetError(
            f"{source}: {n_labels} label files and no image (case_*/imaging.nii.gz). KiTS publishes its images apart "
            "from the labels; download them into the same folders, as its README says."
        )
    aggregated = any(path.name == _MAJORITY for path in files)
    mask = options.masks or f"{{case}}/{_MAJORITY if aggregated else 'segmentation.nii.gz'}"
    images, masks = match_files(source, files, Template(_IMAGE), Template(mask))
    labelled = {match.case_id for match in masks}
    training, tests = ([m for m in images if (m.case_id in labelled) is wanted] for wanted in (True, False))
    dataset = together(
        pair_by_fields(source, training, masks, channels=["CT"], labels=_LABELS),
        pair_by_fields(source, tests, [], channels=["CT"], labels=_LABELS, part="test"),
    )
    return replace(dataset, optional=frozenset({"cyst"}))
