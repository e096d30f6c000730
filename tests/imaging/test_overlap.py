import numpy as np
import pytest

from moe_pipeline.imaging.overlap import dice


def test_dice_of_half_overlapping_bars() -> None:
    prediction = np.array([1, 1, 0, 0], dtype=bool)
    reference = np.array([0, 1, 1, 0], dtype=bool)
    assert dice(prediction, reference) == 0.5


def test_dice_of_absent_class_is_nan_and_of_a_false_alarm_zero() -> None:
    empty, full = np.zeros(4, bool), np.ones(4, bool)
    assert np.isnan(dice(empty, empty))
    assert dice(full, empty) == 0
    assert dice(full, full) == 1


def test_dice_rejects_label_maps() -> None:
    with pytest.raises(TypeError, match="prediction must be boolean, got uint8"):
        dice(np.zeros(3, np.uint8), np.zeros(3, bool))


def test_dice_rejects_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"prediction \(3,\), reference \(4,\)"):
        dice(np.zeros(3, bool), np.zeros(4, bool))
