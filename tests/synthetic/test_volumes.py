from pathlib import Path

import pytest
import torch

from moe_pipeline.synthetic.appearance import clip_and_standardise
from moe_pipeline.synthetic.draws import Draws
from moe_pipeline.synthetic.fields import doubling, grid
from moe_pipeline.synthetic.frame import draw_frame
from moe_pipeline.synthetic.gallery import write_gallery
from moe_pipeline.synthetic.targets import LARGEST, SMALLEST, same_component
from moe_pipeline.synthetic.volumes import GENERATOR_VERSION, SyntheticBatch, make_batch

SIZE = 32


@pytest.fixture(scope="module")
def batch() -> SyntheticBatch:
    return make_batch(7, 64, SIZE, targets_per_image=3)


def test_same_seed_same_batch() -> None:
    one, other = make_batch(3, 4, SIZE), make_batch(3, 4, SIZE)
    assert torch.equal(one.image, other.image)
    assert torch.equal(one.target, other.target)


def test_another_seed_is_another_batch() -> None:
    assert not torch.equal(make_batch(3, 1, SIZE).image, make_batch(4, 1, SIZE).image)


def test_a_sample_depends_on_seed_and_index_only(batch: SyntheticBatch) -> None:
    for index in (0, 5, 63):
        alone = make_batch(7, 1, SIZE, first=index, targets_per_image=3)
        torch.testing.assert_close(alone.image[0], batch.image[index], rtol=0, atol=1e-4)
        assert torch.equal(alone.target[0], batch.target[index])


def test_shapes_and_types(batch: SyntheticBatch) -> None:
    assert batch.image.shape == (64, 1, SIZE, SIZE, SIZE)
    assert batch.image.dtype == torch.float32
    assert batch.target.shape == (64, 3, SIZE, SIZE, SIZE)
    assert batch.target.dtype == torch.bool


def test_every_target_has_a_size_worth_a_click(batch: SyntheticBatch) -> None:
    share = batch.target.float().mean((2, 3, 4))
    assert share.min() >= SMALLEST
    assert share.max() <= LARGEST


def test_the_targets_of_an_image_differ(batch: SyntheticBatch) -> None:
    same = (batch.target[:, 0] == batch.target[:, 1]).flatten(1).all(1)
    assert same.float().mean() < 0.1


def test_images_are_normalised_inside_the_field_of_view(batch: SyntheticBatch) -> None:
    assert batch.image.isfinite().all()
    frame = draw_frame(Draws(7, range(64), SIZE, torch.device("cpu")), SIZE)
    for image, box in zip(batch.image[:, 0], frame.boxes, strict=True):
        inside = image[box]
        assert abs(inside.mean()) < 1e-3
        assert abs(inside.std(correction=0) - 1) < 1e-3
        outside = torch.ones_like(image, dtype=torch.bool)
        outside[box] = False
        assert (image[outside] == image.min()).all()


def test_targets_lie_inside_the_field_of_view(batch: SyntheticBatch) -> None:
    frame = draw_frame(Draws(7, range(64), SIZE, torch.device("cpu")), SIZE)
    for target, box in zip(batch.target, frame.boxes, strict=True):
        assert target[(slice(None), *box)].sum() == target.sum()


def test_images_are_varied(batch: SyntheticBatch) -> None:
    frame = draw_frame(Draws(7, range(64), SIZE, torch.device("cpu")), SIZE)
    assert set(frame.scenes) == {0, 1, 2, 3}
    filled = torch.tensor([sum(1 for part in box if part.stop - part.start == SIZE) == 3 for box in frame.boxes])
    assert 0.2 < filled.float().mean() < 0.7
    share = batch.target.float().mean((2, 3, 4)).flatten()
    assert share.quantile(0.1) < 0.003
    assert share.quantile(0.9) > 0.05


def test_targets_are_brighter_or_darker_than_their_surroundings(batch: SyntheticBatch) -> None:
    mask = batch.target[:, :1].float()
    grown = torch.nn.functional.max_pool3d(mask, 5, 1, 2)
    ring = grown - mask
    contrast = (batch.image * mask).sum((1, 2, 3, 4)) / mask.sum((1, 2, 3, 4))
    contrast = contrast - (batch.image * ring).sum((1, 2, 3, 4)) / ring.sum((1, 2, 3, 4))
    brighter = (contrast > 0).float().mean()
    assert 0.2 < brighter < 0.8
    assert contrast.abs().median() > 0.15


def test_normalise_of_a_known_image() -> None:
    image = torch.zeros(32, 32, 32)
    image[8:16] = torch.arange(8 * 32 * 32).reshape(8, 32, 32).float()
    box = (slice(8, 16), slice(0, 32), slice(0, 32))
    values = image[box].flatten().double()
    low, high = values.quantile(0.005), values.quantile(0.995)
    values = values.clamp(low, high)
    expected = (values - values.mean()) / values.std(correction=0)
    result = clip_and_standardise(image, box)
    torch.testing.assert_close(result[box].flatten().double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result[0], torch.full((32, 32), expected.min().item()), rtol=1e-4, atol=1e-4)


def test_only_the_component_of_the_highest_ticket_is_kept() -> None:
    mask = torch.zeros(1, 1, 32, 32, 32, dtype=torch.bool)
    mask[..., 2:10, 2:10, 2:10] = True
    mask[..., 20:30, 4:30, 20:30] = True
    tickets = torch.zeros(1, 32, 32, 32)
    tickets[0, 4, 4, 4] = 1
    expected = torch.zeros_like(mask)
    expected[..., 2:10, 2:10, 2:10] = True
    assert torch.equal(same_component(mask, tickets), expected)


def test_a_bent_component_is_kept_whole() -> None:
    mask = torch.zeros(1, 1, 32, 32, 32, dtype=torch.bool)
    mask[..., 4:8, 4:28, 4:8] = mask[..., 4:28, 24:28, 4:8] = mask[..., 24:28, 24:28, 4:28] = True
    tickets = torch.zeros(1, 32, 32, 32)
    tickets[0, 4, 4, 4] = 1
    assert torch.equal(same_component(mask, tickets), mask)


def test_doubling_interpolates_a_ramp_exactly() -> None:
    device = torch.device("cpu")
    fine = doubling(8, device) @ grid(4, device)[0, :, 0, 0]
    torch.testing.assert_close(fine[1:-1], grid(8, device)[0, 1:-1, 0, 0])


@pytest.mark.parametrize(("n", "size", "message"), [(1, 33, "size must be even"), (0, 32, "must be at least 1")])
def test_nonsense_is_refused(n: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_batch(0, n, size)


def test_gallery_is_a_picture(tmp_path: Path) -> None:
    write_gallery(tmp_path / "sheet.png", seed=0, n=2, size=SIZE)
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_other_volumes_come_with_another_generator_version() -> None:
    """If this fails after a change of the generator: raise GENERATOR_VERSION, or caches keep the old volumes."""
    batch = make_batch(5, 3, 32, targets_per_image=2)
    assert GENERATOR_VERSION == 1
    voxels = batch.target.flatten(2).sum(2).flatten()
    torch.testing.assert_close(voxels, torch.tensor([273, 578, 621, 9, 29, 134]), rtol=0.02, atol=1)
    middle = batch.image[:, 0, 8:24, 8:24, 8:24].mean((1, 2, 3))
    torch.testing.assert_close(middle, torch.tensor([0.253, -0.5, 0.4409]), rtol=0, atol=5e-3)
