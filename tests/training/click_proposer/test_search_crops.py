from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.embeddings.augmentation import AugmentationSettings
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.training.click_proposer.search_crops import (
    SearchRecipe,
    cut_search_crops,
    encode_search_crops,
    encode_synthetic,
)

VIEW = View(spacing_mm=1.0, size_voxels=32, normalisation="zscore_clipped")
RECIPE = SearchRecipe(VIEW, low_res_voxels=(8, 8, 8), classes=(1, 2), crops=12, mirror_axes=(), channel=0, seed=0)
CPU = torch.device("cpu")


def phantom(side: int) -> tuple[Volume, Volume]:
    """Two boxes, class 1 at low and class 2 at high indices, bright on noise."""
    geometry = Geometry((side, side, side), (1.0, 1.0, 1.0))
    labels = np.zeros(geometry.shape, np.uint8)
    third = side // 3
    labels[3:third, 3:third, 3:third] = 1
    labels[-third:-3, -third:-3, -third:-3] = 2
    image = np.random.default_rng(0).normal(size=geometry.shape).astype(np.float32) + 5 * (labels > 0)
    return Volume(image, geometry), Volume(labels, geometry)


def present(crops: list[np.ndarray]) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in np.unique(labels) if v) for labels in crops]


def test_a_scan_that_fits_the_cube_lacks_a_class_only_where_it_ends_before_it() -> None:
    crops = cut_search_crops(*phantom(30), RECIPE, seed=1)
    found = present([crop.labels for crop in crops])
    assert len(crops) == 12
    assert all(len(classes) < 2 for classes in found)  # ended before one of them
    assert {(1,), (2,)} <= set(found)


def test_a_large_scan_is_seen_off_centre_anywhere_and_ended() -> None:
    crops = cut_search_crops(*phantom(80), RECIPE, seed=1)
    found = present([crop.labels for crop in crops])
    assert any(classes == () for classes in found)
    assert any(classes for classes in found)
    assert {crop.image.shape for crop in crops} == {(32, 32, 32)}


def test_same_seed_same_crops() -> None:
    one, again, other = (cut_search_crops(*phantom(50), RECIPE, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a.image, b.image) for a, b in zip(one, other, strict=True))


def test_a_scan_without_any_class_gives_crops_without_any_class() -> None:
    image, labels = phantom(50)
    empty = Volume(np.zeros_like(labels.array), labels.geometry)
    assert set(present([crop.labels for crop in cut_search_crops(image, empty, RECIPE, 1)])) == {()}


def test_a_second_run_encodes_nothing_and_a_damaged_file_is_made_again(
    tmp_path: Path,
    small_foundation: SamFoundation,
    make_phantom_dataset: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = open_dataset(make_phantom_dataset(tmp_path / "Dataset001_One", n_cases=2))
    cases, recipe = [raw.case("p000"), raw.case("p001")], replace(RECIPE, classes=(1, 3), crops=3)
    arguments = (recipe, small_foundation, "sha", tmp_path / "kept", CPU)
    first = list(encode_search_crops(cases, *arguments))
    assert first[0].embedding.shape == (3, 48, 4, 4, 4)
    assert first[0].labels.shape == (3, 32, 32, 32)
    next((tmp_path / "kept").iterdir()).write_bytes(b"damaged")
    again = list(encode_search_crops(cases, *arguments))

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("moe_pipeline.model.sam.image_encoder.ImageEncoder.forward", refuse)
    third = list(encode_search_crops(cases, *arguments))
    for one, other, last in zip(first, again, third, strict=True):
        assert torch.equal(one.embedding, other.embedding)
        assert torch.equal(one.embedding, last.embedding)
        assert np.array_equal(one.labels, last.labels)


def test_synthetic_volumes_are_kept_too(tmp_path: Path, small_foundation: SamFoundation) -> None:
    made = encode_synthetic(2, VIEW, small_foundation, "sha", tmp_path, CPU)
    assert made.shape == (2, 48, 4, 4, 4)
    assert made.dtype == torch.float16
    assert torch.equal(made, encode_synthetic(2, VIEW, small_foundation, "sha", tmp_path, CPU))


def test_another_augmentation_or_recipe_version_encodes_anew(
    tmp_path: Path,
    small_foundation: SamFoundation,
    make_phantom_dataset: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = open_dataset(make_phantom_dataset(tmp_path / "Dataset001_One", n_cases=2))
    recipe = replace(RECIPE, classes=(1,), crops=4)  # the fourth is augmented

    def kept(recipe: SearchRecipe) -> tuple[int, torch.Tensor]:
        encoded = list(encode_search_crops([raw.case("p000")], recipe, small_foundation, "sha", tmp_path / "kept", CPU))
        return len(list((tmp_path / "kept").iterdir())), encoded[0].embedding

    n_files, first = kept(recipe)
    assert kept(recipe)[0] == n_files == 1
    n_files, other = kept(replace(recipe, augmentation=AugmentationSettings(rotate_chance=1.0, max_angle_degrees=60)))
    assert n_files == 2
    assert torch.equal(first[:3], other[:3])  # of the same places, and not augmented
    assert not torch.equal(first[3], other[3])
    monkeypatch.setattr("moe_pipeline.embeddings.augmentation.RECIPE_VERSION", 99)
    assert kept(recipe)[0] == 3


def test_another_generator_of_synthetic_volumes_encodes_anew(
    tmp_path: Path, small_foundation: SamFoundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_synthetic(1, VIEW, small_foundation, "sha", tmp_path, CPU)
    monkeypatch.setattr("moe_pipeline.training.click_proposer.search_crops.GENERATOR_VERSION", 99)
    encode_synthetic(1, VIEW, small_foundation, "sha", tmp_path, CPU)
    assert len(list(tmp_path.iterdir())) == 2
