from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from moe_pipeline.datasets.dataset import RawDataset, open_dataset
from moe_pipeline.embeddings.augmentation import AugmentationSettings
from moe_pipeline.embeddings.cache import CacheRequest, EmbeddingCache, build_cache
from moe_pipeline.embeddings.crops import Crop, CropRecipe, classes_in, cut_crops
from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.weights.tensors import load_tensors

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
        recipe=CropRecipe(VIEW, low_res_voxels=(16, 16, 16), crops=3, class_weights={1: 1.0, 3: 1.0}, mirror_axes=(0,)),
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
    tmp_path: Path, small_foundation: SamFoundation, request_of_two: CacheRequest
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
    tmp_path: Path, small_foundation: SamFoundation, request_of_two: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    monkeypatch.setattr("moe_pipeline.embeddings.augmentation.RECIPE_VERSION", 99)
    other = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    assert keys(first, 0) == keys(other, 0)
    assert not keys(first, 1) & keys(other, 1)


def test_another_jitter_encodes_everything_anew(
    tmp_path: Path, small_foundation: SamFoundation, request_of_two: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    monkeypatch.setattr("moe_pipeline.embeddings.cache.JITTER", 0.2)
    other = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    assert not {e.key for e in first.manifest.entries} & {e.key for e in other.manifest.entries}


def test_a_sample_is_read_alone(
    tmp_path: Path, small_foundation: SamFoundation, request_of_two: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    files = {e.key: load_tensors(tmp_path / "crops" / f"{e.key}.safetensors") for e in cache.manifest.entries}
    asked: list[tuple[str, object]] = []

    class Counting:
        """A safetensors reader that notes what is read."""

        def __init__(self, path: Path, framework: str) -> None:
            self.file = safe_open(path, framework=framework)

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_tensor(self, name: str) -> torch.Tensor:
            asked.append((name, ...))
            return self.file.get_tensor(name)

        def get_slice(self, name: str) -> Any:
            part = self.file.get_slice(name)

            def read(_: object, place: int) -> torch.Tensor:
                asked.append((name, place))
                return part[place]

            return type("Part", (), {"__getitem__": read})()

    monkeypatch.setattr("moe_pipeline.weights.tensors.safe_open", Counting)
    numbers = iter(range(len(cache)))
    for entry in cache.manifest.entries:
        for crop, classes in enumerate(entry.classes):
            if not classes:
                continue
            asked.clear()
            sample = cache.load(next(numbers))
            assert sorted(asked, key=str) == [("embedding", crop), (f"labels.{crop}", ...)]
            assert torch.equal(sample.embedding, files[entry.key]["embedding"][crop])
            assert sample.classes == classes == classes_in(sample.labels, {1, 3})


def test_a_second_run_reads_no_embedding_and_gives_the_same_samples(
    tmp_path: Path, small_foundation: SamFoundation, request_of_two: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_cache(request_of_two, small_foundation, tmp_path, CPU)

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("moe_pipeline.embeddings.cache._encode_entry", refuse)
    again = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    assert again.manifest.entries == first.manifest.entries
    for number in range(len(first)):
        assert torch.equal(first.load(number).embedding, again.load(number).embedding)


def test_samples_hold_what_was_cut_and_encoded(
    tmp_path: Path, small_foundation: SamFoundation, request_of_two: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[Crop] = []

    def noted(*arguments: object) -> list[Crop]:
        crops = cut_crops(*arguments)  # type: ignore[arg-type]
        cut.extend(crops)
        return crops

    monkeypatch.setattr("moe_pipeline.embeddings.cache.cut_crops", noted)
    cache = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    seen = [crop for crop in cut if crop.classes({1, 3})]
    assert len(cache) == len(seen) > 0
    for number, crop in enumerate(seen):
        sample = cache.load(number)
        np.testing.assert_array_equal(sample.labels, crop.labels)
        encoded = small_foundation.image_encoder(torch.from_numpy(crop.image)[None, None])[0]
        torch.testing.assert_close(sample.embedding.float(), encoded, atol=2e-3, rtol=2e-3)


def test_a_damaged_file_is_named(tmp_path: Path, small_foundation: SamFoundation, request_of_two: CacheRequest) -> None:
    cache = build_cache(request_of_two, small_foundation, tmp_path, CPU)
    path = tmp_path / "crops" / f"{cache.manifest.entries[0].key}.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"not a readable safetensors file"):
        cache.load(0)
