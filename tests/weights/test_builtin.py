import torch

from moe_pipeline.presets import load_preset
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import find_foundation

LIMIT_BYTES = 16_000_000


def test_nano_comes_with_the_package_and_fits_its_preset() -> None:
    stored = find_foundation("nano")
    preset = load_preset("nano")
    foundation = load_foundation("nano")
    assert stored.builtin
    assert foundation.config == preset.config
    assert stored.card.view == preset.view
    assert stored.path.stat().st_size <= LIMIT_BYTES
    assert not any(parameter.requires_grad for parameter in foundation.parameters())


def test_nano_finds_a_small_bright_ball_that_it_is_shown() -> None:
    """A sanity check that the weights are trained: one click on an obvious object gives most of it.

    A small one: what is larger than some 2 % of the cube comes out too small, as its card says.
    """
    foundation = load_foundation("nano")
    size = foundation.config.encoder.img_size
    place = torch.cartesian_prod(*[torch.arange(size)] * 3).reshape(size, size, size, 3).float()
    ball = ((place - 31.5).square().sum(-1) < 6**2)[None, None]
    noise = torch.randn(ball.shape, generator=torch.Generator().manual_seed(0))
    image = ball * 2.0 + 0.3 * noise
    image = (image - image.mean()) / image.std()
    with torch.no_grad():
        embedding = foundation.image_encoder(image)
        low = torch.zeros(1, 1, *[foundation.config.low_resolution_size] * 3)
        points = torch.tensor([[[31.0, 33.0, 30.0]]]), torch.ones(1, 1, dtype=torch.long)
        sparse, dense = foundation.prompt_encoder(points=points, mask=low)
        logits, _ = foundation.mask_decoder(embedding, sparse, dense)
    mask = torch.nn.functional.interpolate(logits, size=(size, size, size), mode="trilinear") > 0
    overlap = 2 * (mask & ball).sum() / (mask.sum() + ball.sum())
    assert overlap > 0.7
