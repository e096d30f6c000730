"""Settings and fixtures shared by all tests."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.foundation import Foundation, build_foundation
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.records.foundation import View
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.gate.train_gate import GateOptions, train_gate
from moe_pipeline.weights.store import save_foundation
from moe_pipeline.workspace import Workspace

torch.set_num_threads(1)  # tests run side by side; more threads each only fight


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
    """Functions that write small DICOM objects: `dicom_phantoms.py`."""
    spec = importlib.util.spec_from_file_location("dicom_phantoms", Path(__file__).with_name("dicom_phantoms.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_foundation() -> Foundation:
    """A network of 16-voxel cubes with random weights, always the same ones; frozen."""
    return build_tiny(16)


@pytest.fixture(scope="session")
def small_foundation() -> Foundation:
    """The same with 32-voxel cubes, the smallest that the synthetic volumes have."""
    return build_tiny(32)


def build_tiny(size: int) -> Foundation:
    torch.manual_seed(0)
    sizes = {
        "encoder": {"img_size": size, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 2, "out_chans": 48},
        "prompt": {"embed_dim": 48, "swap_dense_axes": False, "click_field": True},
        "decoder": {"transformer_dim": 48, "mlp_dim": 32, "iou_head_hidden_dim": 16},
    }
    foundation = build_foundation(FoundationConfig.from_dict(sizes))
    return foundation.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def make_phantom_dataset() -> Callable[..., Path]:
    """Writes a small nnU-Net v2 raw folder; see `write_phantom_dataset`."""
    return write_phantom_dataset


def write_phantom_dataset(folder: Path, n_cases: int = 3, *, channels: int = 1, seed: int = 0) -> Path:
    """Cases p000, p001, ... with unequal sides, anisotropic voxels and changing axis orders.

    Class 1 `ball` is a bright ellipsoid in every case, class 3 `bar` a dark bar in every second one.
    """
    random = np.random.default_rng(seed)
    for number in range(n_cases):
        shape = (20 + 2 * number, 26, 14)  # x, y, z
        x, y, z = np.indices(shape)
        ball = ((x - 8) / 5) ** 2 + ((y - 12) / 7) ** 2 + ((z - 6) / 4) ** 2 <= 1
        bar = (x >= 15) & (x < 18) & (y >= 5) & (y < 20) & (z == 9) & (number % 2 == 0)
        labels = np.where(ball, 1, np.where(bar, 3, 0)).astype(np.uint8)
        for channel in range(channels):
            image = random.normal(100 + 80 * ball - 60 * bar, 5).astype(np.float32)
            write_phantom(folder / "imagesTr" / f"p{number:03d}_{channel:04d}.nii.gz", image, number)
        write_phantom(folder / "labelsTr" / f"p{number:03d}.nii.gz", labels, number)
    description = {
        "channel_names": {str(channel): f"MR{channel}" for channel in range(channels)},
        "labels": {"background": 0, "ball": 1, "bar": 3},
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_phantom(path: Path, array: np.ndarray, orientation: int = 0) -> None:
    """One file with voxels of 1.0 x 1.2 x 2.5 mm; `orientation` picks an axis order, oblique by 10 degrees."""
    order = [(0, 1, 2), (1, 2, 0), (2, 0, 1)][orientation % 3]
    cos, sin = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    tilt = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    image = sitk.GetImageFromArray(array.transpose())  # (x, y, z) -> (z, y, x)
    image.SetSpacing((1.0, 1.2, 2.5))
    image.SetOrigin((-7.0, 11.0 + orientation, 30.0))
    image.SetDirection((tilt @ np.eye(3)[:, list(order)]).ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="session")
def make_planned_workspace(small_foundation: Foundation) -> Callable[..., Workspace]:
    """Makes a workspace with one planned phantom dataset: (root, name, n_cases, **of_plan)."""

    def make(root: Path, name: str, n_cases: int, **of_plan: int) -> Workspace:
        place = Workspace(root)
        view = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")
        save_foundation(
            small_foundation, place.weights, name="tiny", source="test", licence="free", preset="nano", view=view
        )
        folder = write_phantom_dataset(place.raw(name), n_cases=n_cases)
        plan = plan_dataset(folder, place.plans(name), "tiny", place.weights).plan
        plan.model_copy(update=of_plan).save(place.plan(name))
        return place

    return make


@pytest.fixture(scope="session")
def trained_workspace(tmp_path_factory: pytest.TempPathFactory, small_foundation: Foundation) -> Workspace:
    """Three phantom datasets with an expert each; the model knows the first two, with some synthetic volumes beside.

    Nobody may change it; copy its root first.
    """
    place = Workspace(tmp_path_factory.mktemp("trained"))
    view = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")
    save_foundation(
        small_foundation, place.weights, name="tiny", source="test", licence="none", preset="nano", view=view
    )
    for seed, name in enumerate(("Dataset001_One", "Dataset002_Two", "Dataset003_Three")):
        folder = write_phantom_dataset(place.raw(name), n_cases=6, seed=seed)
        plan = plan_dataset(folder, place.plans(name), "tiny", place.weights).plan
        small = {"crops_per_case": 2, "copies_per_case": 2, "steps_per_epoch": 3, "batch_size": 4}
        plan.model_copy(update=small).save(place.plan(name))
        finetune(place, place.raw(name), FinetuneOptions(epochs=1, click_proposer=None))
    train_gate(place, [place.raw(name) for name in ("Dataset001_One", "Dataset002_Two")], [], GateOptions(synthetic=4))
    return place


# A foundation whose answers are known: it sees brightness, and its decoders follow what is bright from the clicks.

LOW = 8  # low-resolution voxels along the edge of a cube of 16 voxels
SURE = 4.0


class SeesBrightness:
    """Stands in for a foundation. Each low-resolution voxel's mean intensity is its embedding."""

    def __init__(self, *, connected: bool = True) -> None:
        self.config = SimpleNamespace(low_resolution_size=LOW)
        self.mask_decoder = Follows(connected=connected)

    def image_encoder(self, image: Tensor) -> Tensor:
        return functional.avg_pool3d(image, image.shape[-1] // LOW)

    def prompt_encoder(self, points: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Any, Tensor]:
        return points, mask


class Follows:
    """Says +-4: the bright voxels that touch a click inside, or simply all bright voxels."""

    def __init__(self, *, connected: bool) -> None:
        self.connected = connected
        self.asked: list[tuple[int, bool]] = []

    def __call__(self, embedding: Tensor, sparse: tuple[Tensor, Tensor], dense: Tensor) -> tuple[Tensor, None]:
        coordinates, labels = sparse
        self.asked.append((int(labels.numel()), bool(dense.any())))
        bright = embedding[0, 0].numpy() > 0
        if self.connected:
            numbers, _ = ndimage.label(bright, np.ones((3, 3, 3)))
            low_res_voxels = (coordinates[0][labels[0] == 1].numpy() + 0.5) // 2
            bright = np.isin(numbers, [numbers[tuple(voxel.astype(int))] for voxel in low_res_voxels]) & (numbers > 0)
        return torch.from_numpy(np.where(bright, SURE, -SURE).astype(np.float32))[None, None], None


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


def foundation_alone(foundation: Any, view: View) -> Mixture:
    """A mixture without experts."""
    return Mixture(
        foundation=foundation,
        view=view,
        experts=(),
        router=None,
        tau=0.0,
        selector="general",
        device=torch.device("cpu"),
        hashes={},
    )
