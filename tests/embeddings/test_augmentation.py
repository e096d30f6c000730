import numpy as np

from moe_pipeline.embeddings.augmentation import augment


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
