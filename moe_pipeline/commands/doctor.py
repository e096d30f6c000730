"""What this installation has and can do."""

import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import read_geometry
from moe_pipeline.inference.memory import estimate_memory
from moe_pipeline.inference.options import ModelOptions
from moe_pipeline.model.sizes import read_sizes
from moe_pipeline.paths import ExpertFolder, ModelFolder
from moe_pipeline.planning.machine import Machine, this_machine
from moe_pipeline.presets import load_preset, planning_defaults
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.foundation import FoundationCard
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.records.run import library_versions
from moe_pipeline.weights.load import prompts_of
from moe_pipeline.weights.store import list_foundations
from moe_pipeline.weights.tensors import check_sha256
from moe_pipeline.workspace import Workspace

_OPTIONAL = {
    "huggingface_hub": "moe weights fetch",
    "pydicom": "reading DICOM",
    "highdicom": "writing DICOM SEG",
    "tokenizers": "text prompts",
}
_GIB = 1 << 30


def examine(place: Workspace) -> list[tuple[str, str]]:
    """Versions, devices, memory, disk, foundations, and what the workspace holds, as (topic, finding)."""
    memory = psutil.virtual_memory()
    rows = list(library_versions().items())
    rows += [
        ("processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads{_bf16()}"),
        ("GPU", _gpus()),
        ("memory", f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"),
        ("disk", _disk(place.root)),
    ]
    rows += [(f"optional {name}", _optional(name, use)) for name, use in _OPTIONAL.items()]
    cards = [stored.card for stored in list_foundations(place.weights)]
    machine = this_machine()
    rows += [(f"foundation {card.name}", _foundation(card, machine)) for card in cards]
    for stage in ("raw", "plans"):
        found = sorted(path.name for path in (place.root / stage).glob("Dataset*"))
        rows.append((f"workspace {stage}", ", ".join(found) or "none"))
    rows.append(("workspace experts", _experts(place)))
    return [*rows, ("workspace model", _model(place.model))]


def expect(case: Path, model: ModelOptions) -> list[tuple[str, str]]:
    """Memory that `moe predict` will take for one case at most, as (topic, finding).

    Raises:
        PipelineError: if the case or the model cannot be read.
    """
    grid = read_geometry(case)
    found = estimate_memory(model.load(), grid)
    sides = " x ".join(map(str, grid.shape))
    free = psutil.virtual_memory().available
    return [
        ("case", f"{case}: {sides} voxels"),
        ("model and one crop", f"{found.fixed / _GIB:.2f} GiB, measured"),
        ("crops kept", f"up to {found.crops / _GIB:.2f} GiB"),
        ("image and label map", f"{found.case / _GIB:.2f} GiB"),
        ("peak memory", f"{found.alone / _GIB:.2f} GiB for this case alone"),
        ("in a folder", f"{found.total / _GIB:.2f} GiB where the cases before and after are as large; times --jobs"),
        ("memory", f"{free / _GIB:.1f} GiB free: {'enough' if found.total < free else 'NOT enough'}"),
    ]


def _foundation(card: FoundationCard, machine: Machine) -> str:
    """What it takes; of networks of the published sizes also what they are for, and what they cost."""
    told = [f"takes {', '.join(prompts_of(card))}", card.view.in_words, f"licence: {card.licence}"]
    rules = planning_defaults().foundations.get(card.preset)
    if rules and read_sizes(card.config) == load_preset(card.preset).sizes:
        told.insert(0, f"for {rules.used_for}")
        seconds = rules.costs.encode_seconds * rules.costs.product_gflops / machine.speed
        told.append(f"about {rules.costs.fixed_memory_mb / 1000:.1f} GB and {seconds:.1g} s a crop")
    return "; ".join(told)


def _model(folder: Path) -> str:
    """Whether there is a model whose experts are the ones that its gate knows."""
    if not os.path.lexists(ModelFolder(folder).card):
        return "none: run `moe train-gate`"
    try:
        for entry in ModelCard.load(ModelFolder(folder).card).experts:
            own = ExpertFolder(folder / entry.folder)
            if ExpertCard.load(own.card).weights_sha256 != entry.weights_sha256:
                return f"cannot be used: {own.root} was trained again since; run `moe train-gate` again"
            check_sha256(own.weights, entry.weights_sha256)
    except PipelineError as error:
        return f"cannot be used: {error}"
    return "yes"


def _experts(place: Workspace) -> str:
    """Datasets with their folds that have a finished expert."""
    names = sorted(path.name for path in place.experts_root.glob("Dataset*"))
    folds = {name: place.expert_folds(name) for name in names}
    told = [f"{name} (fold {', '.join(map(str, known))})" for name, known in folds.items() if known]
    return "; ".join(told) or "none"


def _bf16() -> str:
    return ", bf16" if torch.cpu._is_avx512_bf16_supported() else ""


def _gpus() -> str:
    if not torch.cuda.is_available():
        return "none"
    devices = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return ", ".join(f"{device.name} with {device.total_memory / _GIB:.0f} GiB" for device in devices)


def _disk(root: Path) -> str:
    there = next(path for path in (root, *root.resolve().parents) if path.exists())
    usage = shutil.disk_usage(there)
    return f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free for {root}"


def _optional(name: str, use: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"not installed; needed for {use}"
