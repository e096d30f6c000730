import torch

from moe_pipeline.model.nano.mask_ranker import MaskRanker


def ball(radius: float) -> torch.Tensor:
    """Logits (12, 12, 12) of a ball in the middle."""
    axis = torch.arange(12) - 5.5
    return 4 * (radius - (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt())


def test_it_learns_to_prefer_the_mask_that_the_image_shows() -> None:
    torch.manual_seed(0)
    radii = torch.tensor([2.0, 3.5, 5.0])
    logits = torch.stack([ball(float(radius)) for radius in radii])[None].expand(
        3, -1, -1, -1, -1
    )  # (3, 3, 12, 12, 12)
    images = (logits[0] > 0).float()[..., None]  # of three prompts, each showing one of the balls
    mask_ranker = MaskRanker(3, 8)
    optimizer = torch.optim.Adam(mask_ranker.parameters(), 1e-2)
    for _ in range(60):
        features = torch.cat([images, torch.randn(3, 12, 12, 12, 7)], dim=4)  # one channel tells, seven do not
        loss = torch.nn.functional.cross_entropy(mask_ranker(logits, features), torch.arange(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features = torch.cat([images, torch.randn(3, 12, 12, 12, 7)], dim=4)
    assert mask_ranker(logits, features).argmax(1).tolist() == [0, 1, 2]


def test_masks_are_not_bent_so_as_to_be_chosen() -> None:
    logits = torch.randn(2, 3, 8, 8, 8, requires_grad=True)
    features = torch.randn(2, 8, 8, 8, 4, requires_grad=True)
    mask_ranker = MaskRanker(3, 4)
    mask_ranker(logits, features).sum().backward()
    assert logits.grad is None
    assert features.grad is None
    learnt = mask_ranker.hidden.weight.grad
    assert learnt is not None
    assert learnt.abs().sum() > 0


def test_empty_and_full_masks_are_finite() -> None:
    logits = torch.stack([torch.full((8, 8, 8), value) for value in (-1e4, 0.0, 1e4)])[None]
    assert torch.isfinite(MaskRanker(3, 2)(logits, torch.ones(1, 8, 8, 8, 2))).all()
