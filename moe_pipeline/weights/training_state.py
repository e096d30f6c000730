"""The exact state of a training run in one file, so that it continues bit for bit as if it had never stopped."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from moe_pipeline.errors import CheckpointError
from moe_pipeline.weights.tensors import load_metadata, load_tensors, save_tensors

_KEY = "training_state"
_STATE = "optimizer/"
_TENSOR = "tensor/"


def save_training_state(
    path: Path, tensors: Mapping[str, Tensor], optimizer: Optimizer, metadata: Mapping[str, Any]
) -> None:
    """Write everything that a run needs to continue.

    Args:
        path: file to write, .safetensors.
        tensors: weights, averaged weights, states of generators; any names.
        optimizer: its state and settings are kept.
        metadata: JSON values: epoch, best score, history.
    """
    state = optimizer.state_dict()
    stored = {_TENSOR + name: tensor for name, tensor in tensors.items()}
    numbers: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                stored[f"{_STATE}{index}/{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    text = json.dumps({"groups": state["param_groups"], "numbers": numbers, "metadata": dict(metadata)})
    save_tensors(path, stored, {_KEY: text})


def load_training_state(path: Path, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_training_state` wrote; the optimizer takes over its state.

    Args:
        path: file to read.
        optimizer: made for the same parameters in the same order.

    Returns:
        The tensors, on the CPU, and the metadata.

    Raises:
        CheckpointError: if the file is missing or damaged, is no training state, or its optimizer had other parameters.
    """
    text = load_metadata(path).get(_KEY)
    if text is None:
        raise CheckpointError(f"{path}: holds no training state")
    values = json.loads(text)
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in values["numbers"].items()}
    tensors = {}
    for name, tensor in load_tensors(path).items():
        if name.startswith(_STATE):
            index, entry = name.removeprefix(_STATE).split("/")
            state.setdefault(int(index), {})[entry] = tensor
        else:
            tensors[name.removeprefix(_TENSOR)] = tensor
    _check_shapes(path, state, optimizer)
    try:
        optimizer.load_state_dict({"state": state, "param_groups": values["groups"]})
    except ValueError as error:
        raise CheckpointError(f"{path}: its optimizer does not fit this network: {error}") from error
    return tensors, values["metadata"]


def _check_shapes(path: Path, state: Mapping[int, Mapping[str, Any]], optimizer: Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in state.items():
        for name, value in entries.items():
            if not isinstance(value, Tensor) or value.ndim == 0 or index >= len(parameters):
                continue
            expected = torch.Size(parameters[index].shape)
            if value.shape != expected:
                found = f"{tuple(value.shape)}, expected {tuple(expected)}"
                raise CheckpointError(f"{path}: {name} of parameter {index} has shape {found}; made by another network")
