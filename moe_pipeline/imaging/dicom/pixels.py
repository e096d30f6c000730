"""Voxels of DICOM images, rescaled to what they mean.

Slices in files of their own are decoded by ITK, which knows every compression and applies slope and intercept. Files of
several frames are decoded by pydicom: slope and intercept may differ from frame to frame there, and ITK takes one.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.dicom.frame import Frame
from moe_pipeline.imaging.dicom.library import interpreting, pydicom, read_dataset
from moe_pipeline.imaging.dicom.stack import Stack
from moe_pipeline.imaging.itk import ITK_READS, sitk
from moe_pipeline.imaging.volume import Volume


def read_stack(stack: Stack) -> Volume:
    """The voxels of a stack, (x, y, z): integers where slope and intercept are whole, else float32.

    Raises:
        ImageError: if a slice is damaged, or cannot be decoded.
    """
    voxels: NDArray[Any] | None = None
    for number, pixels in _slices(stack.frames):  # (x, y)
        if voxels is None:
            voxels = np.empty(stack.geometry.shape, pixels.dtype, order="F")  # each slice in one piece
        common = np.result_type(voxels, pixels)
        voxels = voxels.astype(common, copy=False)
        voxels[..., number] = pixels
    assert voxels is not None
    return Volume(voxels, stack.geometry)


def decoded_frames(dataset: Any, numbers: Iterable[int], path: Path) -> Iterator[NDArray[Any]]:
    """Frames (x, y) of a file as stored, without slope and intercept.

    Args:
        dataset: read with its pixels.
        numbers: indices of the frames wanted, in that order.
        path: of the file, for messages.

    Raises:
        ImageError: if they cannot be decoded.
    """
    library = pydicom()
    wanted = list(numbers)
    try:
        for pixels in library.pixels.iter_pixels(dataset, indices=wanted, raw=True) if wanted else ():  # [] means all
            yield np.asarray(pixels).T  # (rows, columns) -> (x, y)
    except (RuntimeError, ValueError, AttributeError, NotImplementedError, IndexError) as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        raise ImageError(
            f"{path}: its frames cannot be decoded ({getattr(syntax, 'name', syntax)}): {error}. "
            "Export it again without compression."
        ) from error


def _slices(frames: tuple[Frame, ...]) -> Iterator[tuple[int, NDArray[Any]]]:
    shared: dict[Path, list[int]] = {}
    for number, frame in enumerate(frames):
        if frame.number is None:
            yield number, _single(frame.path)
        else:
            shared.setdefault(frame.path, []).append(number)
    for path, members in shared.items():
        wanted = [frames[number].number or 0 for number in members]
        dataset = read_dataset(path, pixels=True)
        for number, pixels in zip(members, decoded_frames(dataset, wanted, path), strict=True):
            yield number, _rescaled(pixels, frames[number])


def _check_length(path: Path) -> None:
    """Refuse a slice whose pixels are not all there: ITK fills up what is missing.

    Raises:
        ImageError: says how many bytes there are, and how many there should be.
    """
    wanted = ["Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelData"]
    with interpreting(path):
        dataset = pydicom().dcmread(path, defer_size=1024, specific_tags=wanted, force=True)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        element = dataset.get_item("PixelData")
        stored, allocated = (int(dataset.get(name) or 0) for name in ("BitsStored", "BitsAllocated"))
        if stored > allocated:
            raise ImageError(f"{path}: BitsStored is {stored}, but BitsAllocated {allocated}. Export it again.")
        if element is None or (syntax is not None and syntax.is_encapsulated):
            return
        expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
        expected *= int(dataset.get("SamplesPerPixel") or 1)
        length = element.length if isinstance(element, pydicom().dataelem.RawDataElement) else len(element.value)
        there = min(length, path.stat().st_size)
    if there < expected:
        raise ImageError(
            f"{path}: {there} bytes of pixels, but {dataset.Rows} rows of {dataset.Columns} pixels need {expected}. "
            "Copy or export it again.",
            kind="truncated",
        )


def _single(path: Path) -> NDArray[Any]:
    _check_length(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        with ITK_READS:
            image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise ImageError(f"{path}: cannot be decoded: {reason}. Export it again.", kind="truncated") from error
    pixels: NDArray[Any] = sitk.GetArrayFromImage(image).squeeze(0).T  # (1, y, x) -> (x, y)
    return _narrow(pixels)


def _rescaled(pixels: NDArray[Any], frame: Frame) -> NDArray[Any]:
    if (frame.slope, frame.intercept) == (1.0, 0.0):
        return pixels
    if frame.slope.is_integer() and frame.intercept.is_integer():
        return _narrow(pixels.astype(np.int32) * int(frame.slope) + int(frame.intercept))
    return (pixels * frame.slope + frame.intercept).astype(np.float32)


def _narrow(pixels: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in half the memory, where they fit: ITK makes 32 bits of 16 once there is an intercept."""
    if np.issubdtype(pixels.dtype, np.floating):
        return pixels.astype(np.float32)
    limits = np.iinfo(np.int16)
    fits = pixels.dtype.itemsize > limits.dtype.itemsize and limits.min <= pixels.min() and pixels.max() <= limits.max
    return pixels.astype(np.int16) if fits else pixels
