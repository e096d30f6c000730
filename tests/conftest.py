"""Settings and fixtures shared by all tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from moe_pipeline.mixture import folder as model_folder
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.training.claims import scan_features
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.engine import loggers
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace
from tests.phantoms import dicom
from tests.phantoms.foundations import SeesBrightness, build_tiny, foundation_alone, save_tiny
from tests.phantoms.images import write_phantom_dataset
from tests.phantoms.made_once import made_once
from tests.phantoms.workspaces import PLANNED_VIEW, SMALL_PLAN, add_planned

torch.set_num_threads(1)  # tests run side by side; more threads each only fight


_CHEAP_CLAIMS = ClaimSettings(risk=0.5, confidence=0.5, own=4, background=2, foreign=1, synthetic=2, named=2)


@pytest.fixture(scope="session", autouse=True)
def _quick() -> Iterator[None]:
    """No synthetic scans are made that nobody asks for, and charts are drawn in the tests of charts alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_features, "_CHUNK", 4)
        patch.setattr(loggers, "draw_learning_curve", _no_chart)
        patch.setattr(model_folder, "draw_gate", _no_chart)
        yield


def _no_chart(*told: Any) -> None:
    told[-1].write_bytes(b"a chart")


@pytest.fixture(scope="session")
def cheap_claims() -> ClaimSettings:
    """Four scans instead of 3,300: enough to show that what is asked for is done, not that it is worth anything."""
    return _CHEAP_CLAIMS


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Root of the real test volumes (MOE_TEST_DATA); skips where there are none."""
    folder = os.environ.get("MOE_TEST_DATA")
    if not folder:
        pytest.skip("MOE_TEST_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """For tests marked `gpu`; skips where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def dicom_phantoms() -> ModuleType:
    """Functions that write small DICOM objects: `phantoms/dicom.py`."""
    return dicom


@pytest.fixture(scope="session")
def tiny_foundation() -> SamFoundation:
    """A network of 16-voxel cubes with random weights, always the same ones; frozen."""
    return build_tiny(16)


@pytest.fixture(scope="session")
def small_foundation() -> SamFoundation:
    """The same with 32-voxel cubes, the smallest that the synthetic volumes have."""
    return build_tiny(32)


@pytest.fixture(scope="session")
def make_phantom_dataset() -> Callable[..., Path]:
    """Writes a small nnU-Net v2 raw folder; see `write_phantom_dataset`."""
    return write_phantom_dataset


@pytest.fixture(scope="session")
def make_planned_workspace(small_foundation: SamFoundation) -> Callable[..., Workspace]:
    """Makes a workspace with one planned phantom dataset: (root, name, n_cases, **of_plan)."""

    def make(root: Path, name: str, n_cases: int, **of_plan: int) -> Workspace:
        place = Workspace(root)
        save_tiny(small_foundation, place.weights, PLANNED_VIEW)
        add_planned(place, name, n_cases, **of_plan)
        return place

    return make


@pytest.fixture(scope="session")
def trained_workspace(tmp_path_factory: pytest.TempPathFactory, small_foundation: SamFoundation) -> Workspace:
    """Three phantom datasets with an expert each; the model knows the first two, with some synthetic volumes beside.

    Nobody may change it; copy its root first.
    """

    def make(root: Path) -> None:
        place = Workspace(root)
        save_tiny(small_foundation, place.weights, PLANNED_VIEW)
        for seed, name in enumerate(("Dataset001_One", "Dataset002_Two", "Dataset003_Three")):
            add_planned(place, name, 6, seed, **SMALL_PLAN)
            finetune(place, place.raw(name), FinetuneOptions(epochs=1, click_proposer=None))
        both = [place.raw(name) for name in ("Dataset001_One", "Dataset002_Two")]
        train_gate(place, both, [], GateOptions(synthetic=4, claims=_CHEAP_CLAIMS))

    return Workspace(made_once(tmp_path_factory, "trained", make))


@pytest.fixture
def place(trained_workspace: Workspace, tmp_path: Path) -> Workspace:
    """A copy of `trained_workspace` that a test may spoil."""
    shutil.copytree(trained_workspace.root, tmp_path / "ws", symlinks=True)
    return Workspace(tmp_path / "ws")


@pytest.fixture
def bright_view() -> View:
    return View(spacing_mm=1.0, size_voxels=16, normalisation="zscore_clipped")


@pytest.fixture
def no_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bright is what is above 50, in whatever company."""
    monkeypatch.setattr("moe_pipeline.imaging.views.normalise", lambda crop, *_: crop - 50.0)


@pytest.fixture
def follower(bright_view: View, no_scaling: None) -> Mixture:  # noqa: ARG001 - for what it does
    """A foundation alone that follows what is bright."""
    return foundation_alone(SeesBrightness(), bright_view)


@pytest.fixture
def greedy(bright_view: View, no_scaling: None) -> Mixture:  # noqa: ARG001
    """A foundation alone that takes everything bright that it sees."""
    return foundation_alone(SeesBrightness(connected=False), bright_view)
