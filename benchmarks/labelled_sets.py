"""The labelled test volumes as one list: which image goes with which label, and which labels count."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.imaging.volume import Volume

_SMALLEST_ML = 0.05
"""A labelled point is nothing to segment."""


@dataclass(frozen=True, slots=True)
class LabelledCase:
    """Two files, still unread.

    Attributes:
        set_name: data set, one row of the table.
        case: case id.
        image: file or DICOM series.
        label: label map on the same grid.
        merged: all labels are one object, as the whole of a tumour.
    """

    set_name: str
    case: str
    image: Path
    label: Path
    merged: bool = False

    def read(self) -> tuple[Volume, Volume]:
        """Image and label map in canonical orientation, on one grid.

        Raises:
            ImageError: if a file cannot be read.
        """
        image, labels = read_volume(self.image), read_label_map(self.label)
        if self.merged:
            labels = Volume((labels.array > 0).astype(np.uint8), labels.geometry)
        return image, labels


def class_ids(labels: Volume) -> list[int]:
    """Labels that are worth a click."""
    values, counts = np.unique(labels.array, return_counts=True)
    large = counts * labels.geometry.voxel_ml >= _SMALLEST_ML
    return [int(value) for value in values[large] if value > 0]


def labelled_cases(data: Path) -> Iterator[LabelledCase]:
    """Every image-label pair of the project's test volumes; of Hippocampus every fifth block of ten case numbers."""
    hippocampus = data / "Task04_Hippocampus"
    for path in sorted((hippocampus / "imagesTr").glob("*.nii.gz")):
        if int(path.name.split("_")[1].split(".")[0]) // 10 % 5 == 4:
            yield LabelledCase("Hippocampus MR", path.name[:-7], path, hippocampus / "labelsTr" / path.name)
    for folder in sorted((data / "BraTS2013_DeepMedic").glob("brats*")):
        image = folder / "Flair_subtrMeanDivStd.nii.gz"
        yield LabelledCase("BraTS2013 whole tumour", folder.name, image, folder / "OTMultiClass.nii.gz", merged=True)
    edema = data / "SAM-Med3D_samples" / "edema" / "mr_flair_BraTS2021"
    name = "BraTS2021_01646.nii.gz"
    yield LabelledCase("BraTS2021 oedema", name[:-7], edema / "imagesTr" / name, edema / "labelsTr" / name)
    for row in _PAIRS:
        yield LabelledCase(row[0], row[1], data / row[2], data / row[3])


_TOTAL = "TotalSegmentator_ref"
_CORD = "sct_testing_data"
_BIDS = "ivadomed_data-testing"
_UNF = f"{_BIDS}/derivatives/labels/sub-unf01/anat/sub-unf01"
_STS = "dicom/sts_images/STS_001"
_IBSI = "dicom/ibsi_1_ct_radiomics_phantom/nifti"
_PAIRS = (
    ("TotalSegmentator CT", "ct", f"{_TOTAL}/example_ct_sm.nii.gz", f"{_TOTAL}/example_seg.nii.gz"),
    ("TotalSegmentator CT", "ct_long", f"{_TOTAL}/example_ct.nii.gz", f"{_TOTAL}/example_seg_fast_force_split.nii.gz"),
    ("TotalSegmentator MR", "mr", f"{_TOTAL}/example_mr_sm.nii.gz", f"{_TOTAL}/example_seg_mr.nii.gz"),
    (
        "Spleen CT",
        "spleen2",
        f"{_BIDS}/ct_scan/sub-spleen2/ct/sub-spleen2_ct.nii.gz",
        f"{_BIDS}/ct_scan/derivatives/labels/sub-spleen2/ct/sub-spleen2_ct_seg-manual.nii.gz",
    ),
    ("Spinal cord MR", "t2", f"{_CORD}/t2/t2.nii.gz", f"{_CORD}/t2/t2_seg-manual.nii.gz"),
    ("Spinal cord MR", "t2s", f"{_CORD}/t2s/t2s.nii.gz", f"{_CORD}/t2s/t2s_seg.nii.gz"),
    ("Spinal cord MR", "mt1", f"{_CORD}/mt/mt1.nii.gz", f"{_CORD}/mt/mt1_seg.nii.gz"),
    ("Spinal cord MR", "T1w", f"{_BIDS}/sub-unf01/anat/sub-unf01_T1w.nii.gz", f"{_UNF}_T1w_seg-manual.nii.gz"),
    ("Spinal cord MR", "T2w", f"{_BIDS}/sub-unf01/anat/sub-unf01_T2w.nii.gz", f"{_UNF}_T2w_seg-manual.nii.gz"),
    ("Brain tumour NRRD", "brain1", "pyradiomics/brain1_image.nrrd", "pyradiomics/brain1_label.nrrd"),
    ("Breast tumour NRRD", "breast1", "pyradiomics/breast1_image.nrrd", "pyradiomics/breast1_label.nrrd"),
    (
        "Prostate phantom NRRD",
        "phantom",
        "pyradiomics/prostate_phantom_subvolume.nrrd",
        "pyradiomics/prostate_phantom_subvolume-label.nrrd",
    ),
    ("STS sarcoma CT", "STS_001", f"{_STS}/CT/nifti/image/image.nii.gz", f"{_STS}/CT/nifti/mask/mask.nii.gz"),
    ("STS sarcoma MR", "STS_001", f"{_STS}/MR_T1/nifti/image/image.nii.gz", f"{_STS}/MR_T1/nifti/mask/mask.nii.gz"),
    ("IBSI lung tumour CT", "phantom", f"{_IBSI}/image/phantom.nii.gz", f"{_IBSI}/mask/mask.nii.gz"),
    ("Liver CT, 3 slices", "liver", "dicom/dcmqi_segmentations/ct-3slice", "dicom/dcmqi_segmentations/liver_seg.nrrd"),
    ("Whole head AAL MR", "ch2", "mricron_ch2/ch2.nii.gz", "mricron_ch2/aal.nii.gz"),
)
