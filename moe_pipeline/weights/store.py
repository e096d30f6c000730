"""Foundations on disk: a safetensors file with a card beside it, in the package or in a workspace."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moe_pipeline.errors import CheckpointError, RecordError
from moe_pipeline.files import sha256_file
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.foundation import FoundationCard, Sides, View, by_axis
from moe_pipeline.weights.look import refuse_what_is_no_weights
from moe_pipeline.weights.tensors import save_tensors

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SUFFIX = ".safetensors"
_SMALL = 10_000  # tensors with fewer values stay fp32 in a 16-bit file: norms and positions cost nothing and matter


@dataclass(frozen=True, slots=True)
class StoredFoundation:
    """A foundation that can be loaded by name."""

    card: FoundationCard
    """Where it comes from and how to use it."""
    path: Path
    """The safetensors file."""
    builtin: bool
    """Whether it came with the package."""


def save_foundation(
    foundation: Foundation,
    folder: Path,
    *,
    name: str,
    source: str,
    licence: str,
    preset: str,
    view: View,
    source_sha256: str | None = None,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> FoundationCard:
    """Write `<name>.safetensors`, then its card `<name>.json`.

    Args:
        foundation: its weights and sizes are written.
        folder: where to write.
        name: letters, digits, dot, dash and underscore.
        source: file, URL or command the weights come from.
        licence: as stated by their authors.
        preset: whose rules and costs hold when a dataset is planned for it.
        view: what the encoder was trained on.
        source_sha256: of the imported file.
        training: how the weights were made and how well they do.
        dtype: type of the large tensors in the file.
        overwrite: replace a foundation of that name.

    Raises:
        CheckpointError: if the name is no file name, or taken, also by files that are not ours, or the view is not what
            the encoder takes.
    """
    path = weights_path(folder, name)
    check_view(view, foundation.geometry.crop_size, str(path))
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path}: exists already; choose another name or overwrite it")
    check_ours(path)
    tensors = {key: _narrow(value, dtype) for key, value in foundation.state_dict().items()}
    card_path(path).unlink(missing_ok=True)
    card = FoundationCard(
        name=name,
        weights_sha256=save_tensors(path, tensors, {"licence": licence}),
        source=source,
        source_sha256=source_sha256,
        licence=licence,
        preset=preset,
        view=view,
        config=foundation.sizes,
        training=dict(training or {}),
    )
    card.save(card_path(path))
    return card


def check_ours(path: Path) -> None:
    """Refuse to replace weights or a card that are not as we wrote them.

    Raises:
        CheckpointError: names the one that is not.
    """
    card, fault = card_path(path), "was not written by moe, or was changed since; choose another name, or move it away"
    if os.path.lexists(card):
        try:
            known = FoundationCard.load(card).weights_sha256
        except RecordError as error:
            raise CheckpointError(f"{card}: {fault}") from error
        if path.is_file() and sha256_file(path) == known:
            return
    if os.path.lexists(path):
        raise CheckpointError(f"{path}: {fault}")


def check_view(view: View, crop_size: Sides, origin: str) -> None:
    """Compare the view's crop with the encoder's.

    Raises:
        CheckpointError: if they differ.
    """
    if view.size_voxels != crop_size:
        raise CheckpointError(
            f"{origin}: its view has {view.size_in_words}, but its encoder takes {by_axis(crop_size)}; import or save "
            "the weights again with a view of that size"
        )


def find_foundation(name_or_path: str | Path, weights_root: Path | None = None) -> StoredFoundation:
    """Look a foundation up: a .safetensors file with its card beside it, else a built-in name, else a workspace's.

    Raises:
        CheckpointError: if there is none, or two of that name; lists those there are. Also if a file has no card.
        RecordError: if its card is invalid.
    """
    if str(name_or_path).endswith(_SUFFIX):
        path = Path(name_or_path)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such weights file")
        return _stored(path, builtin=False)
    named = _NAME.fullmatch(str(name_or_path))
    paths = [(folder / f"{name_or_path}{_SUFFIX}", builtin) for folder, builtin in _folders(weights_root) if named]
    found = [(path, builtin) for path, builtin in paths if path.is_file()]
    if len(found) > 1:
        raise CheckpointError(
            f"{found[1][0]}: has the name of a foundation that comes with moe, so it is not clear which one is meant; "
            "give it and its card another name, or move them away"
        )
    for path, builtin in found:
        return _stored(path, builtin=builtin)
    known = ", ".join(stored.card.name for stored in list_foundations(weights_root)) or "none"
    raise CheckpointError(
        f"no foundation {str(name_or_path)!r}; there are: {known}. "
        "Bring one with `moe weights import FILE` or `moe weights fetch NAME`."
    )


def _stored(path: Path, *, builtin: bool) -> StoredFoundation:
    refuse_what_is_no_weights(path)
    if not os.path.lexists(card_path(path)):
        raise CheckpointError(
            f"{path}: has no card {card_path(path).name} beside it, so nobody knows its sizes; bring it with `moe "
            f"weights import {path}` and use it by its name"
        )
    return StoredFoundation(card=FoundationCard.load(card_path(path)), path=path, builtin=builtin)


def list_foundations(weights_root: Path | None = None) -> list[StoredFoundation]:
    """All foundations that can be loaded by name, built-in ones first."""
    return [stored for folder, builtin in _folders(weights_root) for stored in _in_folder(folder, builtin)]


def files_without_card(weights_root: Path) -> list[Path]:
    """Weights of a workspace that nobody can use, since no card says what they are."""
    return [path for path in sorted(weights_root.glob(f"*{_SUFFIX}")) if not card_path(path).is_file()]


def weights_path(folder: Path, name: str) -> Path:
    """File of a foundation.

    Raises:
        CheckpointError: if the name is no plain file name.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"{name!r} is no name for weights; use letters, digits, dot, dash and underscore")
    return folder / f"{name}{_SUFFIX}"


def refuse_builtin(name: str) -> None:
    """Refuse a name under which weights would never be found, since that of the package comes first.

    Raises:
        CheckpointError: if a foundation of this name comes with the package.
    """
    if builtin_file(f"{name}{_SUFFIX}").is_file():
        raise CheckpointError(f"{name}: a foundation of this name comes with moe; choose another name (--name)")


def card_path(path: Path) -> Path:
    """Card of a safetensors file."""
    return path.with_suffix(".json")


def _folders(weights_root: Path | None) -> list[tuple[Path, bool]]:
    return [(builtin_file(""), True)] + ([(weights_root, False)] if weights_root else [])


def builtin_file(name: str) -> Path:
    """A file that comes with the package."""
    return Path(str(files("moe_pipeline.weights") / "data" / name))


def _in_folder(folder: Path, builtin: bool) -> Iterator[StoredFoundation]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if card_path(path).is_file():
            yield StoredFoundation(card=FoundationCard.load(card_path(path)), path=path, builtin=builtin)


def _narrow(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.numel() >= _SMALL else tensor.float()
