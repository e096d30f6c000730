import pytest
import torch
from torch.nn import functional as F

from moe_pipeline.model.geometry import Sides
from moe_pipeline.model.layers import upsample


@pytest.mark.parametrize(
    ("low", "size"),
    [((4, 4, 4), (8, 8, 8)), ((8, 16, 4), (32, 16, 12)), ((6, 5, 4), (9, 9, 9)), ((5, 5, 5), (5, 5, 5))],
)
@pytest.mark.parametrize("learning", [False, True])
def test_it_is_trilinear_interpolation(low: Sides, size: Sides, learning: bool) -> None:
    cubes = torch.randn(2, 1, *low, requires_grad=learning)
    expected = F.interpolate(cubes, size=size, mode="trilinear", align_corners=False)
    assert torch.allclose(upsample(cubes, size), expected, atol=1e-5)


def test_each_cube_gets_the_same_bits_in_any_company() -> None:
    cubes = torch.randn(3, 1, 8, 8, 8)
    together = upsample(cubes, (32, 32, 32))
    assert torch.equal(together, torch.cat([upsample(cube[None], (32, 32, 32)) for cube in cubes]))
