import pytest
import torch
from torch.nn import functional as F

from moe_pipeline.model.layers import upsample


@pytest.mark.parametrize(("low", "size"), [(4, 8), (8, 32), (6, 9), (5, 5)])
@pytest.mark.parametrize("learning", [False, True])
def test_it_is_trilinear_interpolation(low: int, size: int, learning: bool) -> None:
    cubes = torch.randn(2, 1, low, low, low, requires_grad=learning)
    expected = F.interpolate(cubes, size=(size,) * 3, mode="trilinear", align_corners=False)
    assert torch.allclose(upsample(cubes, size), expected, atol=1e-5)


def test_each_cube_gets_the_same_bits_in_any_company() -> None:
    cubes = torch.randn(3, 1, 8, 8, 8)
    together = upsample(cubes, 32)
    assert torch.equal(together, torch.cat([upsample(cube[None], 32) for cube in cubes]))
