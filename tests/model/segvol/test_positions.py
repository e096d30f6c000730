"""Where points and tokens are said to lie: as published, or alike."""

from dataclasses import replace

import pytest
import torch

from moe_pipeline.model.config import DecoderConfig
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


def test_fresh_networks_let_neighbours_on_any_grid_share_their_positions(segvol_config: SegVolConfig) -> None:
    """To exp(-1/2), along each axis; as published, by how fine the grid is."""
    torch.manual_seed(0)
    encoder = replace(segvol_config.encoder, image_size=(16, 64, 96), patch_size=(4, 8, 8), width=768)  # 4 x 8 x 12
    wide = replace(segvol_config, encoder=encoder, decoder=DecoderConfig(transformer_dim=768))
    for published, expected in ((False, (0.61, 0.61, 0.61)), (True, (0.01, 0.29, 0.58))):
        places = SegVolPromptEncoder(replace(wide, published_positions=published)).dense_positions()[0]  # (C, d, h, w)
        middle = places[:, 1, 3, 5]
        neighbours = (places[:, 2, 3, 5], places[:, 1, 4, 5], places[:, 1, 3, 6])
        alike = [float(middle @ one / (768 / 2)) for one in neighbours]
        assert alike == pytest.approx(expected, abs=0.1)
