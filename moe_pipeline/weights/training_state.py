"""The exact state of a training run in one file, so that it continues bit for bit as if it had never stopped."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from moe_pipeline.errors import CheckpointError
from moe_pipeline.weights.tensors import load_metadata, load_tensors, save_tensors

_KEY = "training_state_2"
_STATE = "optimizer/"
_TENSOR = "tensor/"


def save_training_state(
    path: Path, tensors: Mapping[str, Tensor], optimizers: Sequence[Optimizer], metadata: Mapping[str, Any]
) -> None:
    """Write everything that a run needs to continue.

    Args:
        path: file to write, .safetensors.
        tensors: weights, averaged weights, states of generators; any names.
        optimizers: their states and settings are kept.
        metadata: JSON values: epoch, best score, history.
    """
    states = [optimizer.state_dict() for optimizer in optimizers]
    stored = {_TENSOR + name: tensor for name, tensor in tensors.items()}
    numbers: list[dict[str, dict[str, Any]]] = []
    for k, state in enumerate(states):
        numbers.append({})
        for index, entries in state["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    stored[f"{_STATE}{k}/{index}/{name}"] = value
                else:
                    numbers[k].setdefault(str(index), {})[name] = value
    groups = [state["param_groups"] for state in states]
    save_tensors(path, stored, {_KEY: json.dumps({"groups": groups, "numbers": numbers, "metadata": dict(metadata)})})


def load_training_state(path: Path, optimizers: Sequence[Optimizer]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_training_state` wrote; the optimizers take over their states.

    Args:
        path: file to read.
        optimizers: of the same kinds, made for the same parameters in the same order.

    Returns:
        The tensors, on the CPU, and the metadata.

    Raises:
        CheckpointError: if the file is missing or damaged, is no training state of this version, or its optimizers had
            other parameters.
    """
    text = load_metadata(path).get(_KEY)
    if text is None:
        raise CheckpointError(f"{path}: holds no training state of this version; start anew with --overwrite")
    values = json.loads(text)
    if len(values["groups"]) != len(optimizers):
        found = f"{len(values['groups'])} optimizers, expected {len(optimizers)}"
        raise CheckpointError(f"{path}: {found}; start anew with --overwrite")
    states: list[dict[int, dict[str, Any]]] = [
        {int(index): dict(entries) for index, entries in numbers.items()} for numbers in values["numbers"]
    ]
    tensors = {}
    for name, tensor in load_tensors(path).items():
        if name.startswith(_STATE):
            k, index, entry = name.removeprefix(_STATE).split("/")
            states[int(k)].setdefault(int(index), {})[entry] = tensor
        else:
            tensors[name.removeprefix(_TENSOR)] = tensor
    for optimizer, state, groups in zip(optimizers, states, values["groups"], strict=True):
        _check_shapes(path, state, optimizer)
        try:
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        except ValueError as error:
            raise CheckpointError(f"{path}: its optimizer does not fit this network: {error}") from error
    return tensors, values["metadata"]


def training_state_metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of a training state without its tensors; None where there is none, or it is of another version."""
    text = load_metadata(path).get(_KEY) if path.is_file() else None
    found: dict[str, Any] | None = json.loads(text)["metadata"] if text else None
    return found


def remove_training_state(path: Path) -> None:
    """Remove the checkpoint of an earlier run, if there is one.

    Raises:
        CheckpointError: if it is no training state of ours; it stays.
    """
    if os.path.lexists(path):
        if load_metadata(path).get(_KEY) is None:
            raise CheckpointError(f"{path}: is in the way and was not written by moe; move it away")
        path.unlink()


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
