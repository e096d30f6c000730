"""Where points and tokens are said to lie: as published, or alike."""

from dataclasses import replace

import pytest
import torch

from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.prompt_encoder import SegVolPromptEncoder


@pytest.mark.parametrize("published", [True, False])
def test_a_point_in_the_middle_of_a_token_lies_where_the_token_does(
    segvol_config: SegVolConfig, published: bool
) -> None:
    """Unless axes are exchanged as the published weights know them."""
    config = replace(segvol_config, published_positions=published)
    assert SegVolConfig.from_dict(config.to_dict()) == config
    encoder = SegVolPromptEncoder(config)
    token = torch.tensor([2, 1, 3])  # (z, y, x) of a grid of 3 x 4 x 5
    middle = (token + 0.5) * torch.tensor(config.encoder.patch_size) - 0.5
    sparse, _ = encoder((middle[None, None], torch.ones(1, 1)))
    place = sparse[0, 0] - encoder._kind(1)[0]
    same = torch.allclose(place, encoder.dense_positions()[0, :, 2, 1, 3], atol=1e-5)
    assert same != published


def test_the_switch_is_one(segvol_config: SegVolConfig) -> None:
    with pytest.raises(ValueError, match="published_positions must be true or false, got 'no'"):
        SegVolConfig.from_dict(segvol_config.to_dict() | {"published_positions": "no"})
