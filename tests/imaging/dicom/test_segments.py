from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging import dicom
from moe_pipeline.imaging.dicom.segments import fit, read_segmentation, segment_structures
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.volume import Volume, to_canonical


def masks(path: Path, geometry: Geometry, threshold: float = 0.5) -> dict[str, np.ndarray]:
    return {one.name: one.mask for one in segment_structures(read_segmentation(path), geometry, threshold)}


def frame(*pixels: tuple[int, int], value: int = 1) -> np.ndarray:
    """Rows x columns with a value at (x, y)."""
    array = np.zeros((5, 4), np.uint8)
    for x, y in pixels:
        array[y, x] = value
    return array


@pytest.fixture
def series(tmp_path: Path, dicom_phantoms: ModuleType) -> Geometry:
    """4 x 5 x 4 voxels of 2 x 3 x 4 mm; slice k at (7, 8, 10 + 4 k)."""
    dicom_phantoms.write_series(tmp_path / "image")
    return dicom.read_series_geometry(tmp_path / "image")


def test_sparse_frames_of_overlapping_segments_are_placed(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry
) -> None:
    frames = [(2, frame((1, 1)), (7, 8, 22)), (1, frame((1, 1), (3, 4)), (7, 8, 22)), (1, frame((0, 0)), (7, 8, 10))]
    found = masks(dicom_phantoms.write_seg(tmp_path / "s.dcm", ["organ ", "lesion", "absent"], frames), series)
    assert {name: np.argwhere(mask).tolist() for name, mask in found.items()} == {
        "organ": [[0, 0, 0], [1, 1, 3], [3, 4, 3]],
        "lesion": [[1, 1, 3]],
        "absent": [],
    }


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, 2), (0.51, 1), (1.0, 1), (0.1, 3)])
def test_fractions_are_cut_at_the_threshold(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry, threshold: float, expected: int
) -> None:
    pixels = frame((0, 0), value=200) + frame((1, 0), value=100) + frame((2, 3), value=30)
    path = dicom_phantoms.write_seg(tmp_path / "s.dcm", ["a"], [(1, pixels, (7, 8, 10))], fractional=200)
    assert masks(path, series, threshold)["a"].sum() == expected


def test_a_label_map_has_its_segments_in_the_pixels(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry
) -> None:
    pixels = np.stack([frame((0, 0)) + frame((1, 2), value=2), frame((3, 3), value=9)])
    listed = dicom_phantoms.Items(
        [
            dicom_phantoms._item(SegmentNumber=n, SegmentLabel=name)
            for n, name in ((0, "Background"), (1, "a"), (2, "b"))
        ]
    )
    path = tmp_path / "s.dcm"

    def write(**more: object) -> Path:
        return dicom_phantoms.write_frames(
            path,
            pixels,
            [(7, 8, 10), (7, 8, 18)],
            kind=dicom_phantoms.LABELMAP,
            bits=8,
            SegmentSequence=listed,
            Modality="SEG",
            **more,
        )

    found = masks(write(PixelPaddingValue=9), series)
    assert {name: np.argwhere(mask).tolist() for name, mask in found.items()} == {"a": [[0, 0, 0]], "b": [[1, 2, 0]]}
    with pytest.raises(ImageError, match="pixels have the value 9, which no segment has"):
        masks(write(), series)


def test_frames_in_other_orientations_of_the_same_crop_grid_are_placed(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry
) -> None:
    # Rows run to the right from the last column: pixel (0, y) is voxel (3, y).
    path = dicom_phantoms.write_seg(
        tmp_path / "s.dcm", ["a"], [(1, frame((0, 1)), (13, 8, 14))], orientation=(-1, 0, 0, 0, 1, 0)
    )
    assert np.argwhere(masks(path, series)["a"]).tolist() == [[3, 1, 1]]


def test_frames_off_the_crop_grid_are_refused_with_figures(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry
) -> None:
    path = dicom_phantoms.write_seg(tmp_path / "s.dcm", ["a"], [(1, frame((0, 1)), (7, 8, 12))])
    with pytest.raises(GeometryError, match=r"does not lie on the voxels .*first pixel is at voxel 0, 0, 0\.5"):
        masks(path, series)
    assert fit(read_segmentation(path), series) == 0


def test_voxels_outside_the_image_are_named(tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry) -> None:
    frames = [(1, frame((0, 0), (3, 3)), (9, 8, 10)), (1, frame((1, 1)), (7, 8, 14))]
    segmentation = read_segmentation(dicom_phantoms.write_seg(tmp_path / "s.dcm", ["a"], frames))
    (structure,) = segment_structures(segmentation, series)
    assert structure.notes == ("a: 1 of 3 voxels lie outside the image and are left out",)
    assert np.argwhere(structure.mask).tolist() == [[1, 0, 0], [1, 1, 1]]
    assert fit(segmentation, series) == 0.5


def test_names_that_are_there_twice_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    path = dicom_phantoms.write_seg(tmp_path / "s.dcm", ["a", "a"], [(1, frame((0, 0)), (7, 8, 10))])
    with pytest.raises(ImageError, match="several segments are called a"):
        read_segmentation(path)


# Known answers: dcmqi's segmentations and the label maps that they were made of.


def canonical(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    return to_canonical(Volume(mask, geometry)).array


def answer(path: Path) -> np.ndarray:
    return to_canonical(read_native(path)).array


@pytest.mark.parametrize(
    ("segmentation", "series_folder", "nrrd"),
    [
        ("liver.dcm", "ct-3slice", "liver_seg.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/image", "23x38x3/nrrd/label.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/multiframe", "23x38x3/nrrd/label.nrrd"),
        ("24x38x3/seg/label.seg", "24x38x3/image", "24x38x3/nrrd/label.nrrd"),
        ("sparse-labelmap-noppv.dcm", "24x38x3/image", "sparse_labelmap_noppv_seg.nrrd"),
        ("sparse-labelmap-ppv5.dcm", "24x38x3/image", "sparse_labelmap_ppv5_seg.nrrd"),
    ],
)
def test_real_segmentations_give_the_known_mask(
    real_data: Path, segmentation: str, series_folder: str, nrrd: str
) -> None:
    folder = real_data / "dicom" / "dcmqi_segmentations"
    geometry = dicom.read_series_geometry(folder / series_folder)
    found = masks(folder / segmentation, geometry)
    np.testing.assert_array_equal(canonical(found["Liver"], geometry), answer(folder / nrrd) == 1)


def test_real_overlapping_segments_are_each_whole(real_data: Path) -> None:
    folder = real_data / "dicom" / "dcmqi_segmentations"
    geometry = dicom.read_series_geometry(folder / "ct-3slice")
    found = masks(folder / "partial_overlaps.dcm", geometry)
    answers = [answer(folder / f"partial_overlaps-{number}.nrrd") for number in (1, 2, 3)]
    assert list(found) == ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]
    for value, (mask, number) in enumerate(zip(found.values(), (0, 1, 2, 0, 0), strict=True), start=1):
        np.testing.assert_array_equal(canonical(mask, geometry), answers[number] == value)


def test_real_fractional_segmentation_matches_by_geometry(real_data: Path) -> None:
    folder = real_data / "dicom" / "breast_UCSF-BR-06"
    geometry = dicom.read_series_geometry(folder / "image_dce_pe1")
    (path,) = (folder / "mask").iterdir()
    assert fit(read_segmentation(path), geometry) == 1
    mask = masks(path, geometry)["Breast"]
    assert mask.sum() == 82527
    assert mask.any(axis=(0, 1)).sum() <= 42
