"""NIfTI files in one piece, versions 1 and 2, checked for being all there.

ITK fills what is missing from a truncated file with zeros and says nothing, and chooses between an sform and a qform
that differ. Here every byte is accounted for, a compressed file must end with its own checksum, and a header that
contradicts itself is refused (see `nifti_header`).

Why not nibabel (measured with 5.4): it stops reading where the voxels end, so it takes a compressed file with a changed
byte, a wrong checksum or none for a good one; and 270 small files took it three times as long (0.29 s against 0.10 s).
"""

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.nifti_header import HEADER_BYTES, NiftiHeader, parse, place

_Seen = TypeVar("_Seen")
_SLOPE_AT_BYTE = 112
_LONGEST_HEADER = 8192  # with extensions, of either version
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_SMALL_BYTES = 1 << 17  # of a file that is quicker in one piece than as a stream
_MOST_GZIP_CAN = 1032  # bytes out of one byte; only a damaged header promises more, and memory is taken beforehand


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI in a single file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def is_whole(path: Path, n_bytes: int) -> bool:
    """Whether a file that was just written has room for so many bytes of voxels; the voxels are not read.

    ITK reports success where the disk was full.
    """
    length = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(2) == _GZIP_MAGIC:
            stream.seek(-4, io.SEEK_END)
            (length,) = struct.unpack("<I", stream.read(4))  # bytes before compression, modulo 2 ** 32
    return HEADER_BYTES[1] <= (length - n_bytes) % 2**32 <= _LONGEST_HEADER


def read_header(path: Path) -> NiftiHeader:
    """The header alone.

    Raises:
        ImageError: if it is no NIfTI, or damaged.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if compressed else path.open("rb") as stream:
            return parse(stream.read(HEADER_BYTES[2]), path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error


def read_image(path: Path, fixes: Collection[str] = ()) -> tuple[NDArray[Any], Geometry, tuple[str, ...]]:
    """Voxels (x, y, z) or (x, y, z, t) as stored or, where the header scales them, as floats; their grid, and notes.

    Args:
        path: of the file.
        fixes: see `nifti_header.place`.

    Raises:
        ImageError: if the file is no NIfTI, truncated or damaged, or stores no plain numbers.
        GeometryError: if its header contradicts itself, or is sheared.
    """
    voxels, (geometry, notes) = _reading(path, lambda header: place(header, path, fixes))
    return voxels, geometry, notes


def read_voxels(path: Path) -> NDArray[Any]:
    """As `read_image`, wherever the voxels lie."""
    return _reading(path, lambda _: None)[0]


def set_slope(path: Path, slope: float) -> None:
    """Make readers multiply what an uncompressed little-endian file of version 1 stores by `slope`."""
    with path.open("r+b") as stream:
        stream.seek(_SLOPE_AT_BYTE)
        stream.write(struct.pack("<2f", slope, 0.0))


def _reading(path: Path, look: Callable[[NiftiHeader], _Seen]) -> tuple[NDArray[Any], _Seen]:
    """The voxels, and what `look` makes of the header before they are read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_SMALL_BYTES if size <= _SMALL_BYTES else len(_GZIP_MAGIC))
        compressed = start[:2] == _GZIP_MAGIC
        try:
            if size <= _SMALL_BYTES:
                stream: Any = io.BytesIO(gzip.decompress(start) if compressed else start)
            else:
                file.seek(0)
                stream = gzip.GzipFile(fileobj=_LargeReads(file)) if compressed else file  # type: ignore[call-overload]
            return _read(stream, path, size * (_MOST_GZIP_CAN if compressed else 1), look)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(path, error) from error


class _LargeReads:
    """A file that gzip reads in large pieces: it asks for 8 kB at a time, which takes as long as unpacking them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, n_bytes: int) -> bytes:
        """Some bytes; more than asked for where it is the compressed content that is read, and not a field."""
        return self._file.read(n_bytes if n_bytes < io.DEFAULT_BUFFER_SIZE else max(n_bytes, _READ_BYTES))


def _damaged(path: Path, error: Exception) -> ImageError:
    reason = f"damaged or truncated gzip ({error})"
    return ImageError(f"{path}: {reason}. Copy or export it again.", kind="truncated")


def _read(
    stream: io.BufferedIOBase, path: Path, possible_bytes: int, look: Callable[[NiftiHeader], _Seen]
) -> tuple[NDArray[Any], _Seen]:
    start = stream.read(HEADER_BYTES[2])
    header = parse(start, path)
    seen = look(header)
    count = int(np.prod(header.shape, dtype=object))
    n_bytes = count * header.dtype.itemsize
    first_byte = header.first_byte
    content = _read_up_to(stream, start, first_byte + n_bytes, possible_bytes)
    if len(content) < first_byte + n_bytes:
        there = f"{len(content)} of {first_byte + n_bytes} bytes are there"
        raise ImageError(f"{path}: truncated: {there}. Copy or export it again.", kind="truncated")
    voxels = np.frombuffer(content, header.dtype, count, first_byte).reshape(header.shape, order="F")
    is_scaled = header.slope not in (0.0, 1.0) or header.intercept != 0
    return _scaled(voxels, header.slope, header.intercept) if is_scaled else voxels, seen


@np.errstate(over="ignore", invalid="ignore")  # what overflows is infinite, and refused as such
def _scaled(voxels: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """In one new array; single precision holds what 16 bits can."""
    scaled = voxels.astype(np.float32 if voxels.dtype.itemsize <= 2 else np.float64)
    np.multiply(scaled, slope, out=scaled)
    np.add(scaled, intercept, out=scaled)
    return scaled


def _read_up_to(stream: io.BufferedIOBase, start: bytes, n_bytes: int, possible_bytes: int) -> memoryview:
    """At most `n_bytes`, held once, of which `start` was read already.

    What follows is read and dropped, since gzip's checksum comes at the end.
    """
    content = memoryview(bytearray(max(min(n_bytes, possible_bytes), len(start))))
    content[: len(start)] = start
    filled = len(start)
    while filled < len(content) and (count := stream.readinto(content[filled : filled + _CHUNK_BYTES])):
        filled += count
    while stream.read(_CHUNK_BYTES):
        pass
    return content[:filled]
