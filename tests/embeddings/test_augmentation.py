from dataclasses import fields, replace
from typing import Any

import numpy as np

from moe_pipeline.embeddings.augmentation import RECIPE_VERSION, AugmentationSettings, augment


def crop() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.zeros((16, 16, 16), np.uint16)
    labels[4:10, 5:11, 6:12] = 300
    return (labels / 100 + random.normal(0, 0.1, labels.shape)).astype(np.float32), labels


def test_same_seed_same_copy_and_another_seed_another() -> None:
    image, labels = crop()
    for seed in range(20):  # enough for every transform to have its turn
        first, again, other = (augment(image, labels, chosen, (0, 1, 2)) for chosen in (seed, seed, seed + 1))
        assert np.array_equal(first[0], again[0])
        assert np.array_equal(first[1], again[1])
        assert not np.array_equal(first[0], other[0])


def test_the_input_is_not_changed_and_the_global_generator_neither() -> None:
    image, labels = crop()
    before = image.copy(), labels.copy()
    np.random.seed(7)  # the caller's own stream
    expected = np.random.RandomState(7).rand()
    augment(image, labels, 3, ())
    assert np.array_equal(image, before[0])
    assert np.array_equal(labels, before[1])
    assert np.random.rand() == expected


def test_labels_stay_labels_and_follow_the_image() -> None:
    image, labels = crop()
    for seed in range(12):
        changed_image, changed_labels = augment(image, labels, seed, (0, 1, 2))
        assert changed_labels.dtype == labels.dtype
        assert set(np.unique(changed_labels)) <= {0, 300}
        inside = changed_image[changed_labels == 300].mean()
        outside = changed_image[changed_labels == 0].mean()
        assert inside > outside


def test_without_mirror_axes_nothing_is_mirrored() -> None:
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[2:6, 6:10, 6:10] = 1  # on the low side of the first axis
    image = labels.astype(np.float32)
    for seed in range(10):
        _, changed = augment(image, labels, seed, ())
        assert np.argwhere(changed)[:, 0].mean() < 8


def test_unlike_spacings_are_not_turned_into_each_other() -> None:
    labels = np.zeros((16, 16, 8), np.uint8)
    labels[:, :, :4] = 1  # a layer: turned in voxels of 1 x 1 x 4 mm, it would be sheared
    image = labels.astype(np.float32)
    settings = AugmentationSettings(rotate_chance=1.0, scale_chance=0.0)
    layers, tilted = (
        augment(image, labels, 1, (), settings, spacing)[1][5:11, 5:11] for spacing in ((1, 1, 4), (1, 1, 1))
    )
    assert (layers == layers[:1, :1]).all()
    assert not (tilted == tilted[:1, :1]).all()


def test_other_copies_come_with_another_recipe_version() -> None:
    """If this fails after a change of what is done: raise RECIPE_VERSION, or caches keep the old copies."""
    image, labels = crop()
    copies = [augment(image, labels, seed, (0, 1, 2)) for seed in range(6)]
    assert RECIPE_VERSION == 1
    assert [int((changed > 0).sum()) for _, changed in copies] == [216, 290, 349, 310, 150, 373]
    means = [float(changed.mean()) for changed, _ in copies]
    np.testing.assert_allclose(means, [0.0876, 0.1257, 0.2159, 0.159, -0.1297, 0.2624], atol=2e-3)


def test_every_setting_changes_the_copies() -> None:
    image, labels = crop()
    most: dict[str, Any] = {field.name: 1.0 for field in fields(AugmentationSettings) if field.name.endswith("chance")}
    always = AugmentationSettings(**most)
    plain = augment(image, labels, 1, (), always)[0]
    for field in fields(AugmentationSettings):
        value = getattr(always, field.name)
        changed: Any = 0.0 if field.name in most else 45.0 if isinstance(value, float) else (0.3, 0.4)
        other = replace(always, **{field.name: changed})
        assert not np.array_equal(augment(image, labels, 1, (), other)[0], plain), field.name
        assert other.recipe() != always.recipe()
