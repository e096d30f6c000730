"""Archives of MedSAM2 and of the CVPR 2025 challenge: one .npz per case with imgs, gts, spacing, direction and origin.

Arrays are (z, y, x); spacing is (x, y, z) in mm; direction (row by row) and origin are those of a SimpleITK image, and
may be missing. Other arrays, such as boxes or text prompts, are not opened. Objects are never unpickled: they could run
any code. Intensities are often cut to a window and scaled to 0..255, so the channel is not called CT by itself.
"""

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_conversion.layout import Loaded, LoadedCase, Options, Part, SourceCase, SourceDataset
from dataset_conversion.templates import Template, all_files
from moe_pipeline.errors import DatasetError, ImageError
from moe_pipeline.imaging.io.native import itk_reason
from moe_pipeline.imaging.itk import geometry_of, sitk
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import Fix

_IMAGE, _LABEL = "imgs", "gts"
_TRAINING: Part = "training"
_TEST: Part = "test"
_ASSUMED = {"direction": "left, posterior, superior", "origin": "0, 0, 0"}
_MAX_LOOKED_AT = 20
_MOST_BYTES = 8  # per number; longer ones no image format has
_DEEP_LESION = re.compile(r"CT_Lesion_(\d{6})_.*")


def detect(source: Path) -> bool:
    """There is an archive with an image, at the top or one folder down."""
    return any(_IMAGE in _names(path) for path in _archives(source)[:_MAX_LOOKED_AT])


def describe(source: Path, options: Options) -> SourceDataset:
    """One case per archive; --images says which, and may tell patients.

    Raises:
        DatasetError: if there is none.
    """
    template = Template(options.images or "**/{case}.npz")
    matches = template.matches(all_files(source), source)
    if not matches:
        raise DatasetError(f"{source}: no archive fits {template.text!r}")
    cases, faults = [], {}
    names_of = {match.path: _names(match.path) for match in matches}
    are_labelled = any(_LABEL in names for names in names_of.values())
    needed = {_IMAGE, _LABEL} if are_labelled else {_IMAGE}  # inputs of a challenge's validation have no labels at all
    for match in matches:
        names = names_of[match.path]
        if not needed <= names:
            found = ", ".join(sorted(names)) or "nothing that can be read"
            faults[match.case_id] = f"{match.path.name}: needs arrays {_IMAGE} and {_LABEL}, found {found}"
            continue
        patient = match.patient or (lesion[1] if (lesion := _DEEP_LESION.match(match.path.name)) else None)
        labels, part = ((match.path,), _TRAINING) if _LABEL in needed else ((), _TEST)
        cases.append(SourceCase(match.case_id, (match.path,), labels, part, patient, _load))
    return SourceDataset(options.channels or ("image",), None, tuple(cases), faults)


def _archives(source: Path) -> list[Path]:
    found = [*sorted(source.glob("*.npz")), *sorted(source.glob("*/*.npz"))]
    return [path for path in found if not path.name.startswith(".")]


def _load(case: SourceCase, _: frozenset[Fix]) -> LoadedCase:
    arrays = _read(case.images[0])
    notes = tuple(f"no {name} in the archive, taken as {text}" for name, text in _ASSUMED.items() if name not in arrays)
    label = _placed(arrays, _LABEL, case) if case.labels else None
    return LoadedCase((_placed(arrays, _IMAGE, case),), label, notes)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that we know, all plain numbers."""
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in (_IMAGE, _LABEL, "spacing", *_ASSUMED):
                if name in archive.files:
                    arrays[name] = np.asarray(archive[name])
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        if "allow_pickle" in str(error):
            raise ImageError(
                f"{path.name}: holds Python objects where numbers are expected. Unpickling them could run any code; "
                "save them again as arrays of numbers."
            ) from error
        raise ImageError(f"{path.name}: damaged or truncated archive ({error}). Copy it again.") from error
    return arrays


def _placed(arrays: dict[str, NDArray[Any]], name: str, case: SourceCase) -> Loaded:
    array, spacing = arrays[name], arrays.get("spacing")
    if array.ndim != 3:
        sides = "x".join(map(str, array.shape))
        raise ImageError(f"{case.case_id}: {name} is an array of {sides}; expected 3D (z, y, x)")
    if spacing is None or spacing.shape != (3,):
        found = "none" if spacing is None else "x".join(map(str, spacing.shape))
        raise ImageError(f"{case.case_id}: expected a spacing of three numbers (x, y, z) in mm, found {found}")
    if array.dtype.kind not in "buif" or array.size == 0 or array.dtype.itemsize > _MOST_BYTES:
        sides = "x".join(map(str, array.shape))
        raise ImageError(f"{case.case_id}: {name} holds {sides} of {array.dtype}; expected plain real numbers")
    for key in ("spacing", *_ASSUMED):
        if key in arrays and not (arrays[key].dtype.kind in "uif" and np.isfinite(arrays[key]).all()):
            raise ImageError(f"{case.case_id}: {key} is {arrays[key]}; expected finite numbers")
    if (spacing <= 0).any():
        raise ImageError(f"{case.case_id}: spacing is {spacing}; expected three positive numbers (x, y, z) in mm")
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    array = array.astype(np.float32) if array.dtype == np.float16 else array  # no image format knows it
    image = sitk.Image([int(side) for side in reversed(array.shape)], sitk.sitkUInt8)  # for its header
    image.SetSpacing([float(mm) for mm in spacing])
    try:
        if "direction" in arrays:
            image.SetDirection([float(value) for value in arrays["direction"].ravel()])
        if "origin" in arrays:
            image.SetOrigin([float(value) for value in arrays["origin"].ravel()])
    except (RuntimeError, TypeError) as error:
        reason = itk_reason(error) if isinstance(error, RuntimeError) else str(error)
        raise ImageError(f"{case.case_id}: origin or direction do not place a 3D image: {reason}") from error
    return Loaded(Volume(array.transpose(), geometry_of(image)))  # (z, y, x) -> (x, y, z)


def _names(path: Path) -> set[str]:
    """Names of the arrays in an archive, without opening one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()
