import torch

from moe_pipeline.model.nano.click_distance import ClickField


def field() -> ClickField:
    torch.manual_seed(0)
    return ClickField(width=6, grid_size=4, patch_size=8).requires_grad_(False)


def test_shape_and_locality() -> None:
    network = field()
    nothing = network(torch.zeros(1, 1, 3), torch.full((1, 1), -1))
    click = network(torch.tensor([[[3.5, 3.5, 27.5]]]), torch.ones(1, 1))  # centre of token (0, 0, 3)
    assert click.shape == (1, 6, 4, 4, 4)
    change = (click - nothing).abs().sum(1)[0]
    assert change[0, 0, 3] == change.max()
    assert change[3, 3, 0] < 0.5 * change.max()


def test_inside_and_outside_clicks_differ_and_their_order_does_not_matter() -> None:
    network = field()
    places = torch.tensor([[[4.0, 9.0, 20.0], [25.0, 3.0, 11.0]]])
    one = network(places, torch.tensor([[1, 0]]))
    assert torch.allclose(one, network(places.flip(1), torch.tensor([[0, 1]])), atol=1e-6)
    assert not torch.allclose(one, network(places, torch.tensor([[0, 1]])))


def test_the_axes_are_not_swapped() -> None:
    network = field()
    along_x = network(torch.tensor([[[20.0, 3.5, 3.5]]]), torch.ones(1, 1))
    along_z = network(torch.tensor([[[3.5, 3.5, 20.0]]]), torch.ones(1, 1))
    distance_part = torch.allclose(along_x, along_z.transpose(2, 4), atol=1e-6)
    assert not distance_part  # directions tell the axes apart
    assert not torch.allclose(along_x, along_z)
