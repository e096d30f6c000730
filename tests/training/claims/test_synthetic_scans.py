"""Synthetic scans are the same whenever they are made, and features of some come with the package."""

from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.mixture.model import load_foundation_alone
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.foundation import View
from moe_pipeline.training.claims.scan_features import scan_features
from moe_pipeline.training.interactive.synthetic_scans import CALIBRATION, TRAINING, synthetic_scan
from moe_pipeline.weights.store import find_foundation

CPU = torch.device("cpu")
VIEW = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")


def test_a_scan_depends_on_its_set_and_number_alone(small_foundation: Foundation) -> None:
    first, click = synthetic_scan(CALIBRATION, 3, VIEW, small_foundation, CPU)
    again, same = synthetic_scan(CALIBRATION, 3, VIEW, small_foundation, CPU)
    other, _ = synthetic_scan(TRAINING, 3, VIEW, small_foundation, CPU)
    assert np.array_equal(first.image.array, again.image.array)
    assert np.array_equal(click.place_mm, same.place_mm)
    assert not np.array_equal(first.image.array, other.image.array)
    assert 0.5 <= first.image.geometry.spacing_mm[0] <= 3.0
    voxel = np.rint(first.labels.geometry.world_to_voxel(click.place_mm[None])[0]).astype(int)
    assert first.labels.array[tuple(voxel)] == click.class_id == 1


def test_features_of_scans_are_kept_and_made_again_where_damaged(small_foundation: Foundation, tmp_path: Path) -> None:
    made = scan_features(3, VIEW, small_foundation, "small", tmp_path, CPU)
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    assert torch.equal(scan_features(2, VIEW, small_foundation, "small", tmp_path, CPU), made[:2])
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(b"damaged")
    assert torch.equal(scan_features(3, VIEW, small_foundation, "small", tmp_path, CPU), made)


def test_what_comes_with_the_package_is_what_would_be_made(tmp_path: Path) -> None:
    card = find_foundation("nano", None).card
    foundation = load_foundation_alone("nano").foundation
    shipped = scan_features(1650, card.view, foundation, card.weights_sha256, tmp_path, CPU)
    assert len(shipped) == 1650
    assert not list(tmp_path.iterdir())
    case, click = synthetic_scan(CALIBRATION, 1, card.view, foundation, CPU)
    embedding = case.window(card.view, click).embedding
    assert shipped[1, :192].numpy() == pytest.approx(embedding[0, :192].flatten(1).mean(1).numpy(), abs=5e-3)
