from pathlib import Path

import pytest
import torch

from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.training.gate.synthetic_negatives import background_features

CPU = torch.device("cpu")
VIEW = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")
SHA = "a" * 64


def test_features_are_made_once_and_then_read(
    small_foundation: SamFoundation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = background_features(small_foundation, SHA, VIEW, 2, tmp_path, CPU)
    assert first.shape == (8, 5 * 48)
    assert torch.isfinite(first).all()
    assert not torch.equal(first[:4], first[4:])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("moe_pipeline.training.gate.synthetic_negatives.make_crop", refuse)
    assert torch.equal(background_features(small_foundation, SHA, VIEW, 2, tmp_path, CPU), first)
    with pytest.raises(AssertionError, match="made again"):
        background_features(small_foundation, "b" * 64, VIEW, 2, tmp_path, CPU)


def test_a_damaged_file_is_made_again(small_foundation: SamFoundation, tmp_path: Path) -> None:
    first = background_features(small_foundation, SHA, VIEW, 1, tmp_path, CPU)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(background_features(small_foundation, SHA, VIEW, 1, tmp_path, CPU), first)


def test_another_intensity_rule_gives_other_images(small_foundation: SamFoundation, tmp_path: Path) -> None:
    upstream = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_positive")
    one = background_features(small_foundation, SHA, VIEW, 1, tmp_path, CPU)
    other = background_features(small_foundation, SHA, upstream, 1, tmp_path, CPU)
    assert torch.isfinite(other).all()
    assert not torch.equal(one, other)


def test_another_generator_makes_other_features(
    small_foundation: SamFoundation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background_features(small_foundation, SHA, VIEW, 1, tmp_path, CPU)
    monkeypatch.setattr("moe_pipeline.training.gate.synthetic_negatives.GENERATOR_VERSION", 99)
    background_features(small_foundation, SHA, VIEW, 1, tmp_path, CPU)
    assert len(list(tmp_path.iterdir())) == 2
