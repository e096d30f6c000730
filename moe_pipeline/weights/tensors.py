"""Named tensors on disk: safetensors, written as a whole, checked by hash."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import atomic_path, sha256_file


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write tensors whole or not at all.

    Args:
        path: file to write, .safetensors.
        tensors: any shapes and dtypes; tensors that share memory are written each on its own.
        metadata: short text kept in the file's header, with one key at most: safetensors writes several in random
            order, and then the same tensors would not give the same file.

    Returns:
        Hex sha256 of the file.
    """
    assert len(metadata or {}) <= 1, metadata
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(own, temporary, metadata=dict(metadata or {}))
        return sha256_file(temporary)


def load_tensors(path: Path, expected_sha256: str | None = None) -> dict[str, Tensor]:
    """Read all tensors to the CPU.

    Args:
        path: file that `save_tensors` wrote.
        expected_sha256: hash the file must have.

    Raises:
        CheckpointError: if the file is missing, is no safetensors file, or has another hash.
    """
    check_sha256(path, expected_sha256)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch or make it again") from error


def kept_tensors(path: Path, make: Callable[[], dict[str, Tensor]], *names: str) -> dict[str, Tensor]:
    """What a file keeps; made and kept where there is none, or it is damaged.

    Args:
        path: file that an earlier call wrote.
        make: gives the tensors.
        names: which have to be among them; without one the file counts as damaged.
    """
    if path.is_file():
        try:
            tensors = load_tensors(path)
        except CheckpointError:
            tensors = None
        if tensors is not None and all(name in tensors for name in names):
            return tensors
        path.unlink()
    made = make()
    save_tensors(path, made)
    return made


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """A file of which single tensors are wanted: nothing is read before it is asked for.

    Args:
        path: file that `save_tensors` wrote.

    Yields:
        safetensors' reader: `keys()`, `get_tensor(name)`, `get_slice(name)[...]`.

    Raises:
        CheckpointError: if the file is missing, is no safetensors file, or lacks what is asked for.
    """
    check_sha256(path, None)
    try:
        with safe_open(path, framework="pt") as stream:
            yield stream
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch or make it again") from error


def load_metadata(path: Path) -> dict[str, str]:
    """Read the texts of the header.

    Raises:
        CheckpointError: if the file is missing or is no safetensors file.
    """
    with open_tensors(path) as stream:
        return dict(stream.metadata() or {})


def check_sha256(path: Path, expected: str | None) -> None:
    """Compare a file with its hash.

    Raises:
        CheckpointError: if the file is missing or differs.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    if expected is None:
        return
    found = sha256_file(path)
    if found != expected:
        raise CheckpointError(
            f"{path}: sha256 is {found}, expected {expected}; the file changed, make or fetch it again"
        )
