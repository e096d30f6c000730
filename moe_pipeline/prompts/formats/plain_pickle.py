"""Arrays of Python objects in .npz archives, read without running anything.

numpy keeps such arrays as pickles, which can run any code when they are loaded the usual way. Here a pickle may hold
lists, dicts, text and numbers; of numpy's own types it gets stand-ins that only keep what they are given. Anything else
is refused by name.
"""

import io
import pickle
import zipfile
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import PromptError

_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray", "numpy")
_KINDS = "iufb"
_FAULTS = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
)


class _Kind:
    """In the place of numpy.dtype."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numpy(self) -> "np.dtype[Any]":
        kind = np.dtype(self.order.replace("|", "") + self.code)
        if kind.kind not in _KINDS:
            raise pickle.UnpicklingError(f"a number of type {kind} is not allowed")
        return kind


class _Array:
    """In the place of numpy.ndarray."""

    def __init__(self) -> None:
        self.values: Any = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if isinstance(content, list):
            self.values = content
        else:
            order: Literal["F", "C"] = "F" if fortran else "C"
            flat: NDArray[Any] = np.frombuffer(content, kind.numpy())
            self.values = np.reshape(flat, tuple(shape), order=order).tolist()


def _scalar(kind: _Kind, content: bytes) -> Any:
    return np.frombuffer(content, kind.numpy())[0].item()


_STAND_INS: dict[str, Any] = {
    "_reconstruct": lambda *_: _Array(),
    "ndarray": object(),
    "dtype": _Kind,
    "scalar": _scalar,
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name in _STAND_INS:
            return _STAND_INS[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def read_plain(archive: zipfile.ZipFile, name: str, where: str) -> Any:
    """One array of an .npz archive as nested lists, dicts, text and numbers.

    Args:
        archive: open.
        name: of the array.
        where: file, for messages.

    Raises:
        PromptError: if it is damaged, or holds anything else.
    """
    try:
        stream = io.BytesIO(archive.read(f"{name}.npy"))
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = header(stream)
        if dtype.hasobject:
            return _listed(_Plain(stream).load())
        stream.seek(0)
        return np.load(stream, allow_pickle=False).tolist()
    except _FAULTS as error:
        raise PromptError(f"{where}: array {name}: cannot be read as plain lists and numbers: {error}") from error
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:
        raise PromptError(f"{where}: array {name}: damaged archive ({error}). Copy it again.") from error


def _listed(values: Any) -> Any:
    """Without stand-ins and arrays inside."""
    if isinstance(values, _Array):
        return _listed(values.values)
    if isinstance(values, list | tuple):
        return [_listed(value) for value in values]
    if isinstance(values, dict):
        return {str(key): _listed(value) for key, value in values.items()}
    return values
