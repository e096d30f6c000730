from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging import dicom
from moe_pipeline.imaging.dicom.contours import fill_contours, fit, read_contours
from moe_pipeline.imaging.dicom.polygons import fill, fill_nested
from moe_pipeline.imaging.dicom.structure import Structure
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.volume import Volume, to_canonical

KNOWN = ("ibsi_1_ct_radiomics_phantom", "sts_images/STS_001/CT", "sts_images/STS_001/MR_T1")


def in_world(geometry: Geometry, x: float, y: float, x_end: float, y_end: float, z: float) -> np.ndarray:
    """A rectangle given in voxels, as LPS mm."""
    corners = [(x, y, z), (x_end, y, z), (x_end, y_end, z), (x, y_end, z)]
    return geometry.voxel_to_world(corners) * (-1, -1, 1)


@pytest.fixture
def series(tmp_path: Path, dicom_phantoms: ModuleType) -> Geometry:
    """4 x 5 x 4 oblique voxels of 2 x 3 x 4 mm."""
    dicom_phantoms.write_series(tmp_path / "image", orientation=dicom_phantoms.OBLIQUE)
    return dicom.read_series_geometry(tmp_path / "image")


class Drawn:
    """Draws contours of one region into an RTSTRUCT and fills them."""

    def __init__(self, folder: Path, phantoms: ModuleType, geometry: Geometry) -> None:
        self.path, self.phantoms, self.geometry = folder / "rs.dcm", phantoms, geometry

    def __call__(self, outlines: Iterable[np.ndarray]) -> Structure:
        self.phantoms.write_rtstruct(self.path, {" region ": outlines})
        (contours,) = read_contours(self.path)
        return fill_contours(contours, self.geometry, self.path)


@pytest.fixture
def drawn(tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry) -> Drawn:
    return Drawn(tmp_path, dicom_phantoms, series)


def test_contours_of_an_oblique_series_are_filled_by_place(drawn: Drawn, series: Geometry) -> None:
    structure = drawn([in_world(series, 0.6, 1.6, 2.4, 3.4, z) for z in (2, 1)])
    expected = np.zeros((4, 5, 4), bool)
    expected[1:3, 2:4, 1:3] = True
    assert structure.name == "region"
    assert structure.box == ((1, 3), (2, 4), (1, 3))
    assert structure.n_voxels == 8
    np.testing.assert_array_equal(structure.mask, expected)


def test_holes_and_contours_that_are_there_twice(drawn: Drawn, series: Geometry) -> None:
    outer, inner = in_world(series, -0.5, -0.5, 3.5, 4.5, 0), in_world(series, 0.5, 0.5, 2.5, 3.5, 0)
    assert drawn([outer, inner]).n_voxels == 20 - 6
    assert drawn([outer, outer]).n_voxels == 20


def test_contours_between_slices_are_refused_with_figures(drawn: Drawn, series: Geometry) -> None:
    with pytest.raises(GeometryError, match=r"rs\.dcm: region: a contour lies 1\.2 mm off the nearest slice .*4 mm"):
        drawn([in_world(series, 0, 0, 2, 2, 1.3)])
    assert drawn([in_world(series, -0.1, -0.1, 2.1, 2.1, 1.04)]).box[2] == (1, 2)


def test_contours_across_slices_are_refused(drawn: Drawn, series: Geometry) -> None:
    outline = series.voxel_to_world([(0, 0, 0), (2, 0, 0), (2, 0, 3)]) * (-1, -1, 1)
    with pytest.raises(GeometryError, match="a contour runs across 3 slices"):
        drawn([outline])


def test_contours_outside_are_named_and_none_inside_is_an_error(drawn: Drawn, series: Geometry) -> None:
    inside = in_world(series, 0.5, 0.5, 1.5, 1.5, 3)
    structure = drawn([inside, in_world(series, 1, 1, 2, 2, 4), in_world(series, 1.5, 1.5, 9, 3, 0)])
    assert structure.notes == (
        "region: 1 of 3 contours lie beyond the first or last slice",
        "region: 1 of 3 contours reach beyond the sides of the image",
    )
    assert structure.mask[1, 1, 3]
    with pytest.raises(GeometryError, match="none of its 1 contours lies within the image"):
        drawn([in_world(series, 0, 0, 2, 2, -3)])


def test_a_contour_around_no_pixel_centre_is_empty(drawn: Drawn, series: Geometry) -> None:
    structure = drawn([in_world(series, 0.2, 0.2, 0.4, 0.4, 0)])
    assert structure.n_voxels == 0
    assert structure.mask.shape == (4, 5, 4)


def test_points_and_open_lines_are_no_structures(tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry) -> None:
    outline = [in_world(series, 0, 0, 2, 2, 0)]
    assert read_contours(dicom_phantoms.write_rtstruct(tmp_path / "p.dcm", {"a": outline}, kind="POINT")) == []
    assert read_contours(dicom_phantoms.write_rtstruct(tmp_path / "e.dcm", {"a": []})) == []
    assert (
        len(read_contours(dicom_phantoms.write_rtstruct(tmp_path / "x.dcm", {"a": outline}, kind="CLOSEDPLANAR_XOR")))
        == 1
    )


def test_names_that_are_there_twice_are_refused(tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry) -> None:
    outline = [in_world(series, 0, 0, 2, 2, 0)]
    path = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"heart": outline, "heart ": outline})
    with pytest.raises(ImageError, match="several regions are called heart"):
        read_contours(path)


def test_other_objects_and_broken_contours_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    with pytest.raises(ImageError, match="expected an RTSTRUCT, found CT"):
        read_contours(dicom_phantoms.write_series(tmp_path)[0])
    path = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": [np.zeros((10, 1))]})
    with pytest.raises(ImageError, match="a closed contour has 10 coordinates"):
        read_contours(path)


def test_fit_is_the_share_of_contours_on_slices(tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry) -> None:
    outlines = [in_world(series, 0, 0, 2, 2, z) for z in (0, 1, 2.5, 7)]
    regions = read_contours(dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": outlines}))
    assert fit(regions, series) == 0.5
    assert fit([], series) == 0


@pytest.mark.parametrize("name", KNOWN)
def test_real_contours_give_the_known_mask_exactly(real_data: Path, name: str) -> None:
    folder = real_data / "dicom" / name
    (path,) = (folder / "dicom" / "mask").iterdir()
    (known,) = (folder / "nifti" / "mask").iterdir()
    geometry = dicom.read_series_geometry(folder / "dicom" / "image")
    (contours,) = read_contours(path)
    structure = fill_contours(contours, geometry, path)
    reference = to_canonical(read_native(known)).array > 0
    assert structure.notes == ()
    assert fit([contours], geometry) == 1
    assert structure.n_voxels == {"ibsi_1_ct_radiomics_phantom": 125256}.get(name, 117145)
    assert dice(to_canonical(Volume(structure.mask, geometry)).array, reference) == 1


def test_broken_references_do_not_matter(real_data: Path) -> None:
    folder = real_data / "dicom" / "rt-utils_mock_data"
    geometry = dicom.read_series_geometry(folder)
    found = {}
    for name in ("invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"):
        regions = read_contours(folder / name)
        found[name] = [fill_contours(region, geometry, folder / name) for region in regions]
        assert {note for one in found[name] for note in one.notes} == {
            f"ROI-{n}: 1 of 3 contours lie beyond the first or last slice" for n in (1, 2, 3, 4)
        }
    first, second = ([(one.name, one.box, one.n_voxels) for one in structures] for structures in found.values())
    assert first == second


def box(low: float, high: float) -> np.ndarray:
    return np.array([(low, low), (high, low), (high, high), (low, high)], dtype=float)


def test_outlines_that_cross_are_joined_and_those_inside_are_holes() -> None:
    outer, inner, beside = box(-0.5, 8.5), box(2.5, 5.5), box(6.5, 9.5)
    mask, crosses = fill_nested([outer, inner], (10, 10))
    assert (int(mask.sum()), crosses) == (81 - 9, False)
    mask, crosses = fill_nested([outer, beside], (10, 10))
    assert (int(mask.sum()), crosses) == (81 + 9 - 4, True)
    mask, crosses = fill_nested([outer, inner, beside], (10, 10))
    assert (int(mask.sum()), crosses) == (81 + 9 - 4 - 9, True)
    mask, crosses = fill_nested([outer, np.roll(outer, 1, axis=0)], (10, 10))
    assert (int(mask.sum()), crosses) == (81, False)


@pytest.mark.parametrize("seed", range(20))
def test_nested_and_distant_outlines_are_filled_as_by_the_even_odd_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.choice(np.arange(0, 30), 6, replace=False)) - 0.5
    outlines = [box(corners[0], corners[5]), box(corners[1], corners[4]), box(corners[2], corners[3]), box(31.5, 34.5)]
    order = rng.permutation(4)
    mask, crosses = fill_nested([outlines[number] for number in order], (36, 36))
    assert not crosses
    np.testing.assert_array_equal(mask, fill(outlines, (36, 36)))


def test_crossing_contours_count_both_unless_the_file_says_otherwise(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry
) -> None:
    outlines = [in_world(series, -0.5, -0.5, 2.5, 2.5, 0), in_world(series, 1.5, 1.5, 3.5, 3.5, 0)]
    path = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": outlines})
    structure = fill_contours(read_contours(path)[0], series, path)
    assert structure.n_voxels == 9 + 4 - 1
    assert structure.notes == ("a: contours cross each other on 1 slices, what either encloses counts",)
    path = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": outlines}, kind="CLOSEDPLANAR_XOR")
    assert fill_contours(read_contours(path)[0], series, path).n_voxels == 9 + 4 - 2


def test_contours_of_one_or_two_points_are_left_out_and_counted(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry
) -> None:
    outline = in_world(series, -0.5, -0.5, 2.5, 2.5, 0)
    path = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": [outline, outline[:2]], "point": [outline[:1]]})
    (region,) = read_contours(path)
    structure = fill_contours(region, series, path)
    assert structure.n_voxels == 9
    assert structure.notes == ("a: 1 contours of one or two points enclose nothing",)


def test_slices_between_others_without_contours_are_told(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    grid = Geometry((4, 5, 9), (2, 3, 4))
    path = dicom_phantoms.write_rtstruct(
        tmp_path / "rs.dcm",
        {
            "sparse": [in_world(grid, 0, 0, 2, 2, z) for z in (0, 2, 4, 6)],
            "gap": [in_world(grid, 0, 0, 2, 2, z) for z in (0, 1, 3, 4)],
            "apart": [in_world(grid, 0, 0, 1, 1, 0), in_world(grid, 2, 2, 3, 3, 4)],
        },
    )
    sparse, gap, apart = read_contours(path)
    assert fill_contours(sparse, grid, path).notes == (
        "sparse: contours lie on every 2. slice only: 3 slices between others of it have no contour, and stay empty",
    )
    assert fill_contours(gap, grid, path).notes == (
        "gap: 1 slices between others of it have no contour, and stay empty",
    )
    assert fill_contours(apart, grid, path).notes == ()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_coordinates_that_are_no_numbers_are_refused(
    tmp_path: Path, dicom_phantoms: ModuleType, series: Geometry
) -> None:
    outline = in_world(series, 0, 0, 2, 2, 0)
    outline[0, 0] = np.nan
    path = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": [outline]})
    with pytest.raises(ImageError, match="coordinates that are NaN or infinite"):
        read_contours(path)
