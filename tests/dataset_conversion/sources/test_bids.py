from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.convert import convert
from dataset_conversion.layout import Options
from dataset_conversion.registry import choose_source
from moe_pipeline.datasets.dataset import RawDataset, open_dataset
from moe_pipeline.errors import DatasetError
from moe_pipeline.records.dataset import ConversionReport

Write = Callable[..., Any]


def converted(source: Path, **options: Any) -> tuple[RawDataset, ConversionReport]:
    assert choose_source(source) == "bids"
    report = convert(source, source.parent / "out", options=Options(**options))
    return open_dataset(source.parent / "out"), report


def study(folder: Path, write: Write) -> Path:
    """Two subjects, one of them seen twice; T1w and T2w on one grid, FLAIR on another; lesions drawn on the T2w."""
    for subject, sessions in (("01", ("ses-1/", "ses-2/")), ("02", ("",))):
        for session in sessions:
            place, name = f"sub-{subject}/{session}anat", f"sub-{subject}_{session.replace('/', '_')}"
            write(folder / place / f"{name}T1w.nii.gz")
            write(folder / place / f"{name}T2w.nii.gz")
            write(folder / place / f"{name}FLAIR.nii.gz", spacing=(1.0, 1.0, 5.0))
            write(folder / f"derivatives/manual/{place}/{name}T2w_lesion-manual.nii.gz", 1)
            write(folder / f"derivatives/auto/{place}/{name}T1w_seg.nii.gz", 1)
    return folder


def test_contrasts_on_one_grid_become_channels(tmp_path: Path, write_volume: Write) -> None:
    dataset, report = converted(study(tmp_path / "in", write_volume))
    assert not report.failed
    assert [case.case_id for case in dataset.cases] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert dataset.json.patients == {"sub-01_ses-1": "sub-01", "sub-01_ses-2": "sub-01", "sub-02": "sub-02"}
    assert dataset.json.channel_names == {"0": "T1w", "1": "T2w"}
    assert report.notes[0].startswith("FLAIR left out: not in every labelled case, or not on the grid of T1w")


def test_contrasts_and_masks_can_be_chosen(tmp_path: Path, write_volume: Write) -> None:
    source = study(tmp_path / "in", write_volume)
    dataset, _ = converted(source, channels=("T2w",), masks="derivatives/manual/**/*_lesion-manual.nii.gz")
    assert dataset.json.channel_names == {"0": "T2w"}
    with pytest.raises(DatasetError, match=r"sub-02: .*: channel 0 and channel 1 lie on different grids: spacing"):
        converted(source, channels=("T2w", "FLAIR"))
    with pytest.raises(DatasetError, match="no contrast PD; there are FLAIR, T1w, T2w"):
        convert(source, tmp_path / "new", options=Options(channels=("PD",)))
    with pytest.raises(DatasetError, match=r"no masks in derivatives/ by '\*\.mha'"):
        convert(source, tmp_path / "new", options=Options(masks="*.mha"))


def test_of_several_masks_those_of_the_main_contrast_count(tmp_path: Path, write_volume: Write) -> None:
    source = study(tmp_path / "in", write_volume)
    for subject in ("01/ses-2", "02"):
        name = f"sub-{subject}".replace("/", "_")
        (source / f"derivatives/auto/sub-{subject}/anat/{name}_T1w_seg.nii.gz").unlink()
    dataset, report = converted(source)
    assert dataset.json.channel_names == {"0": "T2w", "1": "T1w"}
    assert not report.failed
    write_volume(source / "derivatives/other/sub-02/anat/sub-02_T2w_seg.nii.gz", 1)
    _, report = converted(source)
    assert [row.case_id for row in report.failed] == ["sub-02"]
    assert report.failed[0].message.startswith("2 label files, expected one: derivatives/manual/sub-02/anat/sub-02_T2w")


def test_structures_in_files_of_their_own(tmp_path: Path, write_volume: Write) -> None:
    source = study(tmp_path / "in", write_volume)
    dataset, _ = converted(
        source, masks="derivatives/**/sub-*_{:T1w|T2w}_{class:lesion|seg}{:-manual|}.nii.gz", channels=("T1w",)
    )
    assert dataset.classes == {1: "seg"}  # those that are named after the T1w


def test_sessions_without_mask_are_left_out_and_counted(tmp_path: Path, write_volume: Write) -> None:
    source = study(tmp_path / "in", write_volume)
    write_volume(source / "sub-03/anat/sub-03_T1w.nii.gz")
    dataset, report = converted(source)
    assert len(dataset.cases) == 3
    assert report.notes[-1] == "1 sessions without mask left out"


def test_real_subject_with_three_contrasts(tmp_path: Path, real_data: Path) -> None:
    report = convert(real_data / "ivadomed_data-testing", tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert report.source_format == "bids"
    assert dataset.json.channel_names == {"0": "T1w", "1": "T2star", "2": "T2w"}
    labels = real_data / "ivadomed_data-testing/derivatives/labels/sub-unf01/anat"
    there = sitk.GetArrayFromImage(sitk.ReadImage(str(labels / "sub-unf01_T1w_seg-manual.nii.gz")))
    here = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.cases[0].label)))
    np.testing.assert_array_equal(here, there)
    report = convert(real_data / "ivadomed_data-testing/ct_scan", tmp_path / "ct")
    assert [row.case_id for row in report.rows] == ["sub-spleen2"]
    assert open_dataset(tmp_path / "ct").json.channel_names == {"0": "ct"}


def test_masks_beside_the_images_are_no_channels(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    write_json = source / "dataset_description.json"
    for subject in ("01", "02"):
        place, name = source / f"sub-{subject}" / "anat", f"sub-{subject}"
        write_volume(place / f"{name}_T1w.nii.gz")
        write_volume(place / f"{name}_T1w_label-lesion_roi.nii.gz", 1)
        write_volume(source / "derivatives" / "fmriprep" / name / "anat" / f"{name}_desc-brain_mask.nii.gz", 2)
    write_json.write_text("{}")
    dataset, report = converted(source)
    assert dataset.json.channel_names == {"0": "T1w"}
    assert dataset.classes == {1: "class_1"}  # the lesion, not the brain
    assert "masks that are not named after T1w left out: 2 desc-brain_mask; --masks chooses" in report.notes
    dataset, _ = converted(source, masks="derivatives/**/*_mask.nii.gz")
    assert dataset.classes == {2: "class_2"}
