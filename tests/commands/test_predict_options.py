"""The options of `moe predict` that change how an object is looked at, and what is written beside the label map."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, tiny_foundation: SamFoundation, make_phantom_dataset: Callable[..., Path]
) -> Workspace:
    """A workspace with one foundation and one raw folder."""
    workspace = Workspace(tmp_path_factory.mktemp("options"))
    view = View(spacing_mm=1.5, size_voxels=16, normalisation="zscore_clipped")
    save_tiny(tiny_foundation, workspace.weights, view)
    make_phantom_dataset(workspace.raw("Dataset001_One"), n_cases=1)
    return workspace


def labels_with(place: Workspace, out: Path, **more: Any) -> np.ndarray:
    raw = place.raw("Dataset001_One")
    given = {"labels": raw / "labelsTr", "foundation": "tiny", **more}
    predict_and_score(place, predict_options(raw / "imagesTr", out, **given))
    return read_label_map(out / "p000.nii.gz").array


@pytest.mark.parametrize(
    "changes",
    [{"tta": True}, {"precision": "bf16"}, {"max_crops": 1}, {"zoom": "auto"}],
    ids=["tta", "precision", "max crops", "zoom"],
)
def test_an_option_is_used_and_recorded(place: Workspace, tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = labels_with(place, tmp_path / "plain")
    changed = labels_with(place, tmp_path / "changed", **changes)
    assert not np.array_equal(plain, changed)
    settings = json.loads((tmp_path / "changed" / "run.json").read_text())["settings"]
    assert {name: settings[name] for name in changes} == changes


def test_maps_lie_beside_the_label_maps_and_leave_them_alone(place: Workspace, tmp_path: Path) -> None:
    plain = labels_with(place, tmp_path / "plain")
    out = tmp_path / "maps"
    assert np.array_equal(plain, labels_with(place, out, save_probabilities=True, uncertainty=True))
    ball = read_volume(out / "probabilities" / "p000" / "1.nii.gz")
    bar = read_volume(out / "probabilities" / "p000" / "3.nii.gz")
    assert np.array_equal(plain > 0, np.maximum(ball.array, bar.array) > 0.5)
    doubt = read_volume(out / "uncertainty" / "p000.nii.gz")
    assert 0 < doubt.array.max() <= 1
    assert doubt.geometry == ball.geometry


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zoom": "both"}, "no zoom 'both'; there are: auto, in, out, off"),
        ({"precision": "fp8"}, "no precision 'fp8'; there are: fp32, bf16"),
        ({"device": "cuda:7"}, "device cuda:7 was asked for"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_predicted(
    place: Workspace, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        labels_with(place, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()
