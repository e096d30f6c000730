import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import GeometryError, ImageError, PipelineError
from moe_pipeline.imaging.io.native import read_channels, read_geometry, read_native, read_with_notes

ARRAY = np.arange(6 * 5 * 4, dtype="<i2").reshape((6, 5, 4), order="F")
UPRIGHT = np.diag([1.0, 1.0, 2.0, 1.0])
UPRIGHT[:3, 3] = (-10, -11, -12)


def turned(affine: np.ndarray, angle: float = 0.5) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine


def write(
    path: Path,
    sform: np.ndarray | None,
    qform: np.ndarray | None = None,
    *,
    codes: tuple[int, int] | None = None,
    pixdim: tuple[float, ...] = (1, 1, 2),
    units: int = 2,
    patches: dict[int, bytes] | None = None,
    version: int = 1,
) -> Path:
    """A NIfTI file, byte by byte, so that its header may say what no writer would."""
    scode, qcode = codes or (int(sform is not None), int(qform is not None))
    b, c, d, qfac = 0.0, 0.0, 0.0, 1.0
    offset = np.zeros(3)
    if qform is not None:
        pixdim = tuple(np.linalg.norm(qform[:3, :3], axis=0))
        rotation = qform[:3, :3] / np.array(pixdim)
        qfac = float(np.sign(np.linalg.det(rotation)))
        b, c, d = quaternion(rotation * (1, 1, qfac))
        offset = qform[:3, 3]
    rows = (sform if sform is not None else np.zeros((4, 4)))[:3].ravel()
    if version == 1:
        header = bytearray(348)
        struct.pack_into("<i", header, 0, 348)
        struct.pack_into("<8h", header, 40, 3, *ARRAY.shape, 1, 1, 1, 1)
        struct.pack_into("<2h", header, 70, 4, 16)
        struct.pack_into("<8f", header, 76, qfac, *pixdim, 0, 0, 0, 0)
        struct.pack_into("<3f", header, 108, 352, 1, 0)
        header[123] = units
        struct.pack_into("<2h", header, 252, qcode, scode)
        struct.pack_into("<6f", header, 256, b, c, d, *offset)
        struct.pack_into("<12f", header, 280, *rows)
        header[344:348] = b"n+1\0"
    else:
        header = bytearray(540)
        struct.pack_into("<i", header, 0, 540)
        header[4:12] = b"n+2\0\r\n\x1a\n"
        struct.pack_into("<2h8q", header, 12, 4, 16, 3, *ARRAY.shape, 1, 1, 1, 1)
        struct.pack_into("<8d", header, 104, qfac, *pixdim, 0, 0, 0, 0)
        struct.pack_into("<q2d", header, 168, 544, 1, 0)
        struct.pack_into("<2i6d12d", header, 344, qcode, scode, b, c, d, *offset, *rows)
        struct.pack_into("<i", header, 500, units)
    content = header + b"\0" * 4 + ARRAY.tobytes(order="F")
    for at, new in (patches or {}).items():
        content[at : at + len(new)] = new
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def quaternion(rotation: np.ndarray) -> tuple[float, float, float]:
    values, vectors = np.linalg.eigh(
        np.array(
            [
                [rotation[0, 0] - rotation[1, 1] - rotation[2, 2], 0, 0, 0],
                [rotation[1, 0] + rotation[0, 1], rotation[1, 1] - rotation[0, 0] - rotation[2, 2], 0, 0],
                [
                    rotation[2, 0] + rotation[0, 2],
                    rotation[2, 1] + rotation[1, 2],
                    rotation[2, 2] - rotation[0, 0] - rotation[1, 1],
                    0,
                ],
                [
                    rotation[2, 1] - rotation[1, 2],
                    rotation[0, 2] - rotation[2, 0],
                    rotation[1, 0] - rotation[0, 1],
                    rotation.trace(),
                ],
            ]
        )
        / 3
    )
    b, c, d, a = vectors[:, values.argmax()]
    return (b, c, d) if a >= 0 else (-b, -c, -d)


def random_affine(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.choice((-1, 1), 3) * rng.uniform(0.4, 6, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("version", [1, 2])
def test_any_header_that_agrees_with_itself_is_read_as_it_says(tmp_path: Path, seed: int, version: int) -> None:
    affine = random_affine(seed)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    for sform, qform in ((affine, affine), (affine, None), (None, affine)):
        path = write(tmp_path / "x.nii.gz", sform, qform, pixdim=spacing, version=version)
        volume = read_native(path)
        np.testing.assert_allclose(volume.geometry.affine, affine, atol=2e-4)
        np.testing.assert_array_equal(volume.array, ARRAY)
        assert read_geometry(path) == volume.geometry
        if version == 1:  # an independent reader says the same
            image = sitk.ReadImage(str(path))
            np.testing.assert_allclose(image.GetOrigin(), volume.geometry.origin_mm * np.array([-1, -1, 1]), atol=1e-4)
            np.testing.assert_allclose(image.GetSpacing(), volume.geometry.spacing_mm, rtol=1e-6)


MIRROR = np.diag([-1.0, 1.0, 2.0, 1.0])
SHIFTED = UPRIGHT + np.array([[0, 0, 0, 30]] + [[0] * 4] * 3)


@pytest.mark.parametrize("other", [turned(UPRIGHT), MIRROR, SHIFTED, turned(UPRIGHT, 0.1)])
@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 1)])
def test_forms_that_differ_are_refused_with_both_or_chosen(
    tmp_path: Path, other: np.ndarray, codes: tuple[int, int]
) -> None:
    path = write(tmp_path / "x.nii.gz", UPRIGHT, other, codes=codes)
    for reader in (read_channels, read_geometry):
        with pytest.raises(
            GeometryError, match=rf"sform \(code {codes[0]}\) says .*; qform \(code 1\) says .*--fix sform or --fix"
        ):
            reader(path)
    for fix, affine in {"sform": UPRIGHT, "qform": other}.items():
        (volume,), notes = read_with_notes(path, {fix})
        np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-5)
        assert f"placed by its {fix}" in notes[0]


def test_a_spacing_that_differs_from_the_sform_is_refused_with_both_or_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", UPRIGHT, pixdim=(1, 1, 1))
    with pytest.raises(
        GeometryError, match=r"says spacing 1x1x2, .*; pixdim says spacing 1x1x1, .*--fix sform or --fix pixdim"
    ):
        read_channels(path)
    assert read_with_notes(path, {"sform"})[0][0].geometry.spacing_mm == (1, 1, 2)
    assert read_with_notes(path, {"pixdim"})[0][0].geometry.spacing_mm == (1, 1, 1)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_that_is_none_is_refused(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(GeometryError, match="contradicts itself"):
        read_channels(write(tmp_path / "x.nii", UPRIGHT, pixdim=(1, wrong, 2)))


def test_a_header_that_places_nothing_is_refused_or_taken_as_upright(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", None)
    with pytest.raises(GeometryError, match=r"neither sform nor qform .* 1x1x2 millimetres: .* --fix pixdim"):
        read_channels(path)
    (volume,), notes = read_with_notes(path, {"pixdim"})
    np.testing.assert_array_equal(volume.geometry.affine, np.diag([1, 1, 2, 1]))
    assert "right, anterior, superior" in notes[0]


@pytest.mark.parametrize(("units", "factor", "word"), [(1, 1000.0, "metres"), (3, 0.001, "micrometres")])
def test_lengths_in_other_units_become_mm(tmp_path: Path, units: int, factor: float, word: str) -> None:
    affine = UPRIGHT.copy()
    affine[:3] /= factor
    path = write(tmp_path / "x.nii", affine, affine, units=units)
    (volume,), notes = read_with_notes(path)
    np.testing.assert_allclose(volume.geometry.affine, UPRIGHT, rtol=1e-5)
    assert notes == (f"x.nii: lengths in {word} became mm",)
    path = write(tmp_path / "x.nii", UPRIGHT, UPRIGHT, units=units)
    with pytest.raises(
        GeometryError, match=rf"in {word}, so that .* {re.escape(f'{8 * factor:.3g}')} mm long, .* 8 mm.*--fix mm"
    ):
        read_channels(path)
    assert read_with_notes(path, {"mm"})[0][0].geometry.spacing_mm == (1, 1, 2)


def test_other_units_of_time_and_unknown_ones_change_nothing(tmp_path: Path) -> None:
    for units in (0, 2, 2 + 8, 2 + 16, 7):
        assert read_geometry(write(tmp_path / "x.nii", UPRIGHT, units=units)).spacing_mm == (1, 1, 2)


@pytest.mark.parametrize("slope", [float("nan"), float("inf"), float("-inf"), 0.0, 1.0])
def test_a_slope_that_is_no_number_means_unscaled(tmp_path: Path, slope: float) -> None:
    path = write(tmp_path / "x.nii.gz", UPRIGHT, patches={112: struct.pack("<ff", slope, 0 if slope == 1 else slope)})
    voxels = read_native(path).array
    assert voxels.dtype == np.int16
    np.testing.assert_array_equal(voxels, ARRAY)


def test_a_slope_without_an_intercept_is_refused_and_a_sound_one_applied(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="scl_slope is 2, but scl_inter is nan"):
        read_native(write(tmp_path / "x.nii", UPRIGHT, patches={112: struct.pack("<ff", 2, float("nan"))}))
    scaled = read_native(write(tmp_path / "x.nii", UPRIGHT, patches={112: struct.pack("<ff", 0.5, -3)})).array
    np.testing.assert_array_equal(scaled, ARRAY * 0.5 - 3)


REFUSED: dict[str, tuple[dict[int, bytes], str]] = {
    "offset": ({108: struct.pack("<f", float("nan"))}, "vox_offset, where the voxels begin, is nan"),
    "no side": ({42: struct.pack("<h", 0)}, "damaged header: 3 dimensions of sides 0"),
    "negative": ({42: struct.pack("<h", -6)}, "damaged header: 3 dimensions of sides -6"),
    "dimensions": ({40: struct.pack("<h", 9)}, "damaged header: 9 dimensions"),
    "colour": ({70: struct.pack("<hh", 128, 24)}, r"expected one number per voxel, found 3 \(RGB colour\)"),
    "type": ({70: struct.pack("<h", 9999)}, "unknown data type 9999"),
    "bits": ({72: struct.pack("<h", 32)}, "data type 4 has 16 bits, bitpix says 32"),
    "pair": ({344: b"ni1\0"}, r"voxels are in another file \(\.img\)"),
    "analyze": ({344: b"\0\0\0\0"}, "Analyze does not say which side is left"),
    "length": ({0: struct.pack("<i", 0)}, "does not begin like NIfTI"),
    "vectors": ({40: struct.pack("<6h", 5, 6, 5, 2, 1, 2)}, r"one number per voxel, found 2 \(size 6x5x2x1x2"),
    "origin": ({292: struct.pack("<f", float("nan"))}, "contradicts itself"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_headers_that_cannot_be_are_refused_by_what_they_say(tmp_path: Path, case: str) -> None:
    patches, message = REFUSED[case]
    with pytest.raises(PipelineError, match=message):
        read_channels(write(tmp_path / "x.nii.gz", UPRIGHT, UPRIGHT, patches=patches))


def test_files_that_are_something_else_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n")
    with pytest.raises(ImageError, match="a Git LFS pointer, not the file itself"):
        read_channels(path)
    path.write_text("<!DOCTYPE html>" + " " * 400)
    with pytest.raises(ImageError, match="a web page, not an image"):
        read_channels(path)
    path.unlink()
    path.symlink_to("../.git/annex/objects/x")
    with pytest.raises(ImageError, match=r"a link to .*, which is not there\. Fetch the content"):
        read_channels(path)
    for name in ("x.mgz", "x.hdr", "x.tif"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ImageError, match="convert it to NIfTI"):
            read_channels(tmp_path / name)


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut off, doubled or made random."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at, length = int(rng.integers(0, 352)), int(rng.choice((1, 2, 4, 8)))
        changed[at : at + length] = (
            rng.choice([rng.bytes(length), b"\xff" * length, b"\0" * length, struct.pack("<f", np.nan) * 2])[:length]
            if rng.random() < 0.9
            else rng.bytes(length)
        )
    return bytes(changed[: int(rng.integers(0, len(changed)))] if rng.random() < 0.1 else changed)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress])
def test_damaged_bytes_end_in_one_of_our_errors_or_in_what_the_header_says(
    tmp_path: Path, version: int, pack: Callable[[bytes], bytes]
) -> None:
    rng = np.random.default_rng(version)
    good = write(tmp_path / "good.nii", UPRIGHT, UPRIGHT, version=version).read_bytes()
    path = tmp_path / "x.nii"
    refused = 0
    for _ in range(400):
        path.write_bytes(pack(damage(good, rng)))
        try:
            volumes = read_channels(path)
        except PipelineError:
            refused += 1
            continue
        for volume in volumes:
            assert np.isfinite(volume.geometry.affine).all()
            assert volume.array.size == np.prod(volume.geometry.shape)
    assert 0 < refused < 400
