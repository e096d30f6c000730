from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moe_pipeline.datasets.dataset import RawDataset, open_dataset
from moe_pipeline.embeddings.augmentation import AugmentationSettings
from moe_pipeline.embeddings.cache import CacheRequest, EmbeddingCache, build_cache
from moe_pipeline.embeddings.crops import CropRecipe
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")
CPU = torch.device("cpu")


@pytest.fixture
def raw(tmp_path: Path, make_phantom_dataset: Callable[..., Path]) -> RawDataset:
    return open_dataset(make_phantom_dataset(tmp_path / "Dataset001_One", n_cases=2))


@pytest.fixture
def request_of_two(raw: RawDataset) -> CacheRequest:
    """Two cases, each as it is and in one augmented copy, with three crops."""
    return CacheRequest(
        dataset="Dataset001_One",
        cases=(raw.case("p000"), raw.case("p001")),
        recipe=CropRecipe(VIEW, low_res_voxels=16, crops=3, class_weights={1: 1.0, 3: 1.0}, mirror_axes=(0,)),
        copies={"p000": 2, "p001": 2},
        channel=0,
        foundation="tiny",
        foundation_sha256="a" * 64,
        plan_sha256="b" * 64,
        seed=0,
    )


def keys(cache: EmbeddingCache, copy_index: int) -> set[str]:
    return {entry.key for entry in cache.manifest.entries if entry.copy_index == copy_index}


def test_another_augmentation_encodes_the_copies_anew_and_nothing_else(
    tmp_path: Path, small_foundation: Foundation, request_of_two: CacheRequest
) -> None:
    def built(settings: AugmentationSettings) -> EmbeddingCache:
        recipe = replace(request_of_two.recipe, augmentation=settings)
        return build_cache(replace(request_of_two, recipe=recipe), small_foundation, tmp_path / "cache", CPU)

    first = built(AugmentationSettings())
    again = built(AugmentationSettings())
    other = built(AugmentationSettings(max_angle_degrees=60.0, rotate_chance=1.0))
    assert first.manifest.entries == again.manifest.entries
    assert keys(first, 0) == keys(other, 0)
    assert not keys(first, 1) & keys(other, 1)
    for number in first.of_cases(["p000", "p001"], augmented=False):
        assert torch.equal(first.load(number).embedding, other.load(number).embedding)
    augmented = first.of_cases(["p000"], augmented=True)[-1]
    assert not torch.equal(first.load(augmented).embedding, other.load(augmented).embedding)


def test_another_version_of_the_augmentation_encodes_the_copies_anew(
    tmp_path: Path, small_foundation: Foundation, request_of_two: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    monkeypatch.setattr("moe_pipeline.embeddings.augmentation.RECIPE_VERSION", 99)
    other = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    assert keys(first, 0) == keys(other, 0)
    assert not keys(first, 1) & keys(other, 1)


def test_another_jitter_encodes_everything_anew(
    tmp_path: Path, small_foundation: Foundation, request_of_two: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    monkeypatch.setattr("moe_pipeline.embeddings.cache.JITTER", 0.2)
    other = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    assert not {e.key for e in first.manifest.entries} & {e.key for e in other.manifest.entries}
