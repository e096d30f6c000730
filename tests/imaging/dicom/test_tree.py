from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from moe_pipeline.errors import ImageError, PipelineError
from moe_pipeline.imaging.dicom.labels import open_label_file, read_structures
from moe_pipeline.imaging.dicom.tree import Tree, read_tree, series_of

SQUARE = np.array([(6, 7, 10), (10, 7, 10), (10, 12, 10), (6, 12, 10)], float)  # LPS mm, on the first slice


def matched(tree: Tree) -> dict[str, tuple[str, str]]:
    """Label file to series folder and note."""
    found = {label.path.name: series_of(label, tree.series) for label in tree.labels}
    return {name: (series.folder.name, note) for name, (series, note) in found.items()}


def test_series_are_gathered_by_uid_wherever_their_files_lie(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "b", [0, 3], uid="1.1", patient="B")
    dicom_phantoms.write_series(tmp_path / "b" / "more", [6], uid="1.1", patient="B")
    dicom_phantoms.write_series(
        tmp_path / "a", [0, 3], uid="1.2", patient="A", SeriesNumber=7, SOPClassUID=dicom_phantoms.MR
    )
    dicom_phantoms.write_series(tmp_path / "a", [0, 3], uid="1.3", patient="A", start=10)
    (tmp_path / "notes.md").write_text("no DICOM")
    tree = read_tree(tmp_path)
    assert [(one.patient, one.modality, one.number, one.folder.name, len(one.files)) for one in tree.series] == [
        ("A", "MR", 7, "a", 2),
        ("A", "CT", 1, "a", 2),
        ("B", "CT", 1, "b", 3),
    ]
    assert [one.volumes[0].stack.geometry.shape for one in tree.series] == [(4, 5, 2), (4, 5, 2), (4, 5, 3)]
    assert tree.faults == {}


def test_what_is_wrong_is_kept_with_its_series_or_file(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "gap", [0, 3, 9])
    dicom_phantoms.write_series(tmp_path / "picture", [0], uid="1.9", SamplesPerPixel=3)
    tree = read_tree(tmp_path)
    (series,) = tree.series
    assert series.fault is not None
    assert series.fault.kind == "missing_slices"
    assert series.volumes == []
    assert "a colour picture" in tree.faults[tmp_path / "picture" / "000.dcm"]


def test_a_series_that_is_named_is_taken(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    for uid in ("1.1", "1.2"):
        dicom_phantoms.write_series(tmp_path / uid, uid=uid)
    dicom_phantoms.write_rtstruct(tmp_path / "1.1" / "rs.dcm", {"a": [SQUARE]}, series_uid="1.2")
    assert matched(read_tree(tmp_path)) == {"rs.dcm": ("1.2", "")}


def test_otherwise_the_one_that_fits_is(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "near", [11.5, 15.5], uid="1.1")
    dicom_phantoms.write_series(tmp_path / "far" / "fits", [10, 14], uid="1.2")
    dicom_phantoms.write_series(tmp_path / "other", [10, 14], uid="1.3", patient="P2")
    dicom_phantoms.write_rtstruct(tmp_path / "near" / "rs.dcm", {"a": [SQUARE]}, series_uid="1.77")
    dicom_phantoms.write_seg(tmp_path / "s.dcm", ["a"], [(1, np.ones((5, 4)), (7, 8, 14))])
    note = "names no series that is here; matched by geometry"
    assert matched(read_tree(tmp_path)) == {"rs.dcm": ("fits", f"rs.dcm {note}"), "s.dcm": ("fits", f"s.dcm {note}")}


def test_of_several_that_fit_the_nearest_is_taken_and_a_draw_is_refused(
    tmp_path: Path, dicom_phantoms: ModuleType
) -> None:
    for uid in ("1.1", "1.2"):
        dicom_phantoms.write_series(tmp_path / uid, uid=uid)
    dicom_phantoms.write_rtstruct(tmp_path / "1.2" / "rs.dcm", {"a": [SQUARE]})
    assert matched(read_tree(tmp_path))["rs.dcm"][0] == "1.2"
    (tmp_path / "1.2" / "rs.dcm").rename(tmp_path / "rs.dcm")
    with pytest.raises(ImageError, match=r"rs\.dcm: 2 series fit it equally .*1\.1, .*1\.2"):
        matched(read_tree(tmp_path))


def test_one_that_fits_nothing_is_refused_with_figures(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path, [0, 3])
    dicom_phantoms.write_rtstruct(
        tmp_path / "rs.dcm", {"a": [SQUARE, SQUARE - (0, 0, 10), SQUARE + 50]}, series_uid="1.7"
    )
    with pytest.raises(ImageError, match="names 1 series, of which 0 are here, and at most 33% of its contours"):
        matched(read_tree(tmp_path))


def test_both_kinds_give_the_structures_asked_for(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path)
    contours = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": [SQUARE], "b": [SQUARE], "point": []})
    frames = [(number, np.eye(5, 4), (7, 8, 10)) for number in (1, 2)]
    segments = dicom_phantoms.write_seg(tmp_path / "s.dcm", ["a", "b"], frames, series_uid="1.2.3")
    (series,) = read_tree(tmp_path).series
    geometry = series.volumes[0].stack.geometry
    for path, kind, n_voxels in ((contours, "RTSTRUCT", 4), (segments, "SEG", 4)):
        label = open_label_file(path)
        assert (label.kind, label.names, label.patient) == (kind, ("a", "b"), "P1")
        assert label.series_uids == ({"1.2.3"} if kind == "SEG" else set())
        found = list(read_structures(path, geometry, names=frozenset("b")))
        assert [(one.name, one.n_voxels) for one in found] == [("b", n_voxels)]


@pytest.mark.filterwarnings("ignore")  # pydicom warns of what it can make no sense of
def test_damage_ends_in_errors_that_name_the_file(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    (scan, _) = dicom_phantoms.write_series(tmp_path, [10, 14])
    contours = dicom_phantoms.write_rtstruct(tmp_path / "rs.dcm", {"a": [SQUARE]}, series_uid="1.2.3")
    frames = [(1, np.eye(5, 4), (7, 8, 10))]
    segments = dicom_phantoms.write_seg(tmp_path / "s.dcm", ["b"], frames, series_uid="1.2.3")
    random = np.random.default_rng(0)
    n_refused = 0
    for path in (scan, contours, segments):
        intact = path.read_bytes()
        for _ in range(40):
            damaged = np.frombuffer(intact, np.uint8).copy()
            damaged[random.integers(132, len(damaged), 4)] = random.integers(0, 256, 4)
            path.write_bytes(damaged[: random.choice([len(damaged), int(random.integers(10, len(damaged)))])].tobytes())
            n_refused += refusals(tmp_path)
        path.write_bytes(intact)
    assert 20 < n_refused < 120  # some damage does not matter
    assert refusals(tmp_path) == 0


def refusals(folder: Path) -> int:
    """1 if something below a folder is refused, in words that name a file or the folder."""
    tree = read_tree(folder)
    messages = [*tree.faults.values(), *(str(one.fault) for one in tree.series if one.fault)]
    for label in tree.labels:
        try:
            series, _ = series_of(label, tree.series)
            for volume in series.volumes:
                list(read_structures(label.path, volume.stack.geometry))
        except PipelineError as error:
            messages.append(str(error))
    assert all(".dcm" in message or str(folder) in message for message in messages)
    return int(bool(messages))


def test_real_label_files_find_their_series(real_data: Path) -> None:
    tree = read_tree(real_data / "dicom")
    found = {label.path: series_of(label, tree.series) for label in tree.labels}
    by_geometry = {path.relative_to(real_data / "dicom").parts[0] for path, (_, note) in found.items() if note}
    assert by_geometry == {"sts_images", "breast_UCSF-BR-06", "rt-utils_mock_data"}
    for path, (series, _) in found.items():
        assert path.relative_to(real_data / "dicom").parts[0] == series.folder.relative_to(real_data / "dicom").parts[0]
    sts = {path.parts[-4]: series.modality for path, (series, _) in found.items() if "sts_images" in path.parts}
    assert sts == {"CT": "CT", "MR_T1": "MR"}
    assert tree.faults == {}
    assert [series.fault for series in tree.series if series.fault] == []
