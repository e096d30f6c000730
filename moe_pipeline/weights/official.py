"""Reading of published checkpoints: the only place that unpickles, and it runs nothing it finds."""

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moe_pipeline.errors import CheckpointError
from moe_pipeline.weights.look import refuse_what_is_no_weights
from moe_pipeline.weights.tensors import load_tensors

_WRAPPINGS = ("model_state_dict", "model", "state_dict")
_PREFIXES = ("module.", "model.")
_LISTED_AT_MOST = 12


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights of a .pth file, or of a .safetensors file with the same names.

    Args:
        path: a state dict, bare or under `model_state_dict`, `model` or `state_dict`; all names may start with
            "module." or "model.". The one class allowed beside tensors and plain values is `argparse.Namespace`, which
            official files contain.

    Returns:
        Tensors by upstream's names.

    Raises:
        CheckpointError: if the file is missing, damaged, contains anything else that would run, or has no weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    refuse_what_is_no_weights(path)
    weights = load_tensors(path) if path.suffix == ".safetensors" else _unpickle(path)
    if isinstance(weights, Mapping):
        weights = next((weights[name] for name in _WRAPPINGS if name in weights), weights)
    if not isinstance(weights, Mapping) or not weights:
        wanted = ", ".join(_WRAPPINGS)
        raise CheckpointError(f"{path}: holds no weights; expected a state dict, bare or under one of {wanted}")
    strange = sorted(str(name) for name, value in weights.items() if not isinstance(value, Tensor))
    if strange:
        raise CheckpointError(
            f"{path}: holds no weights; expected tensors by name, but these are none: {shorten(strange)}"
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return dict(weights)


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Fill a network, every name and shape of which must fit.

    Args:
        network: takes the values over, as fp32; may be on the meta device.
        weights: by name.
        origin: what to call them in an error.

    Raises:
        CheckpointError: if names or shapes differ, or a value is not finite; lists what does.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    shared = sorted(expected.keys() & found.keys())
    faults = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of another shape": [f"{n} {found[n]}, expected {expected[n]}" for n in shared if found[n] != expected[n]],
        "not finite": [name for name in shared if not bool(weights[name].isfinite().all())],
    }
    lines = [f"{len(names)} {fault}: {shorten(names)}" for fault, names in faults.items() if names]
    if lines:
        listing = "\n  ".join(lines)
        raise CheckpointError(f"{origin}: does not fit this network, is the configuration right?\n  {listing}")
    network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)


def shorten(names: list[str]) -> str:
    """A readable list: the first dozen, and how many more there are."""
    more = f" and {len(names) - _LISTED_AT_MOST} more" if len(names) > _LISTED_AT_MOST else ""
    return ", ".join(names[:_LISTED_AT_MOST]) + more


def _unpickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about rare pickle protocols: what cannot be read is an error below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := _not_allowed(str(error)):
            raise CheckpointError(
                f"{path}: refused: it contains more than tensors and could run code ({found}). "
                "Use the file its authors published, or a safetensors file."
            ) from error
        raise CheckpointError(f"{path}: not a readable checkpoint: {_FIX}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__}): {_FIX}") from error


_NAMED = re.compile(r"GLOBAL ([\w.]+)|Unsupported (operand \d+)")
_FIX = "it is cut off, damaged, or no file of torch.save; download or copy it again"


def _not_allowed(reason: str) -> str:
    """What torch names as not allowed; its advice to allow it all the same is not passed on."""
    found = _NAMED.search(reason)
    return (found[1] or found[2]).rstrip(".") if found else ""
