"""Arrays as nnInteractive's clients send and take them: a header, then chunks packed by blosc2."""

import struct
from collections.abc import Iterator
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import PipelineError

_HEAD = struct.Struct("<4sBBBB")
_CHUNK_HEAD = struct.Struct("<QQ")
_MAGIC, _VERSION = b"NNIA", 1
_ZSTD, _LZ4 = 1, 2
_CHUNK_BYTES = 1 << 30
_LEAST_FRAME = 32  # bytes of a blosc2 header
_DTYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
TYPES = frozenset((*_DTYPES, "float16", "float32", "float64"))
"""Numbers that may be sent."""


def pack(array: NDArray[Any]) -> bytes:
    """An array of any shape in C order; its type is one of `TYPES`."""
    plain = np.ascontiguousarray(array)
    name = plain.dtype.name.encode()
    raw = plain.reshape(-1).view(np.uint8)
    starts = range(0, raw.size, _CHUNK_BYTES)
    parts = [_HEAD.pack(_MAGIC, _VERSION, _ZSTD, plain.ndim, len(name)), name]
    parts += [struct.pack(f"<{plain.ndim}q", *plain.shape), struct.pack("<I", len(starts))]
    for start in starts:
        chunk = raw[start : start + _CHUNK_BYTES]
        packed = blosc2.compress2(
            chunk, typesize=plain.dtype.itemsize, codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.NOFILTER]
        )
        parts += [_CHUNK_HEAD.pack(chunk.size, len(packed)), packed]
    return b"".join(parts)


def unpack(content: bytes, most_bytes: int) -> NDArray[Any]:
    """The array that a client has sent.

    Args:
        content: as it came.
        most_bytes: that it may have unpacked.

    Raises:
        PipelineError: if it is not packed so, or has more bytes.
    """
    try:
        return _unpacked(memoryview(content), most_bytes)
    except (struct.error, UnicodeDecodeError, RuntimeError, ValueError, TypeError) as error:
        raise PipelineError(f"the array cannot be unpacked: {error}") from error


def _unpacked(content: memoryview, most_bytes: int) -> NDArray[Any]:
    magic, version, codec, n_axes, n_name = _HEAD.unpack_from(content)
    if magic != _MAGIC or version != _VERSION or codec not in (_ZSTD, _LZ4):
        found = f"{magic!r} version {version} codec {codec}"
        raise PipelineError(f"expected an array packed as {_MAGIC!r} version {_VERSION}, found {found}")
    at = _HEAD.size
    name = bytes(content[at : at + n_name]).decode("ascii")
    at += n_name
    shape = struct.unpack_from(f"<{n_axes}q", content, at)
    at += 8 * n_axes
    if name not in TYPES or not 1 <= n_axes <= 4 or min(shape) < 1:
        raise PipelineError(f"expected numbers along 1 to 4 axes, found {name[:20]!a} {shape}")
    dtype = np.dtype(name)
    n_bytes = dtype.itemsize
    for side in shape:
        n_bytes *= side
    if n_bytes > most_bytes:
        raise PipelineError(f"an array of {n_bytes >> 20} MB is too large; at most {most_bytes >> 20} MB are taken")
    flat = np.empty(n_bytes, np.uint8)
    filled = 0
    for n_raw, frame in _frames(content, at):
        if filled + n_raw > n_bytes:
            break
        blosc2.decompress2(frame, dst=flat[filled : filled + n_raw])
        filled += n_raw
    if filled != n_bytes:
        raise PipelineError(f"the array is not whole: {filled} of {n_bytes} bytes are there")
    return flat.view(dtype).reshape(shape)


def _frames(content: memoryview, at: int) -> Iterator[tuple[int, memoryview]]:
    """Raw length and packed bytes of each chunk; blosc2 itself does not notice what does not fit."""
    (n_chunks,) = struct.unpack_from("<I", content, at)
    at += 4
    for _ in range(n_chunks):
        n_raw, n_packed = _CHUNK_HEAD.unpack_from(content, at)
        at += _CHUNK_HEAD.size
        frame = content[at : at + n_packed]
        if n_raw > _CHUNK_BYTES or len(frame) != n_packed or n_packed < _LEAST_FRAME:
            raise PipelineError("the array is not whole: a chunk ends too early")
        raw, packed, _ = blosc2.get_cbuffer_sizes(frame)
        if raw != n_raw or packed != n_packed:
            raise PipelineError(f"a chunk says {n_raw} bytes, its content {raw}")
        yield n_raw, frame
        at += n_packed
