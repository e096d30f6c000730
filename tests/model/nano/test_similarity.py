import math

import torch

from moe_pipeline.model.layers import channels_last
from moe_pipeline.model.nano.high_resolution_features import (
    PROMPT_FEATURES,
    clicked_voxels,
    prompt_features_per_voxel,
    unpack,
)
from moe_pipeline.model.nano.similarity import SIMILARITIES, similarity


def test_voxels_are_compared_with_the_mean_of_the_clicked_ones() -> None:
    high_res = torch.zeros(1, 4, 4, 4, 16)
    high_res[..., :4] = torch.arange(4.0)[:, None]  # the first group of keys grows along z
    clicked = torch.zeros(2, 3, 4, 4, 4)
    clicked[0, 0, 0, 0, 1] = clicked[0, 0, 3, 3, 3] = 1.0  # the mean of 1 and 3
    clicked[1, 1, 2, 2, 0] = 0.5
    alike = similarity(high_res, clicked)
    assert alike.shape == (2, 4, 4, 4, SIMILARITIES)
    by_reference = alike.unflatten(4, (3, -1))  # (2, 4, 4, 4, references, groups)
    expected = torch.tensor([math.exp(-((z - 2) ** 2) / 2) for z in range(4)])
    torch.testing.assert_close(by_reference[0, 1, 2, :, 0, 0], expected)
    assert (by_reference[0, ..., 0, 1:] == 1).all()  # the other groups are the same everywhere
    assert (by_reference[0, ..., 1:, :] == 0).all()  # nobody clicked outside, nothing was answered
    torch.testing.assert_close(by_reference[1, 0, 0, :, 1, 0], torch.tensor([math.exp(-(z**2) / 2) for z in range(4)]))
    assert (by_reference[1, ..., [0, 2], :] == 0).all()


def test_the_references_are_clicks_inside_outside_and_the_last_answer() -> None:
    clicks = torch.tensor([[[5.0, 5.0, 5.0], [13.0, 9.0, 3.0]]]), torch.tensor([[1, 0]])
    mask = torch.full((1, 1, 8, 8, 8), -3.0)
    mask[0, 0, 6, 6, 6] = 3.0
    prompt_features = channels_last(unpack(prompt_features_per_voxel(clicks, mask, 1, 8, 2)))
    assert prompt_features.shape[4] == PROMPT_FEATURES
    inside, outside, answered = clicked_voxels(prompt_features)[0]
    assert inside.argmax() == (2 * 8 + 2) * 8 + 2
    assert outside.argmax() == (6 * 8 + 4) * 8 + 1
    assert answered.nonzero().tolist() == [[6, 6, 6]]
