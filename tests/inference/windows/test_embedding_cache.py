import numpy as np
import pytest
import torch

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.views import extract_crop
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=2.0, size_voxels=16, normalisation="zscore_clipped")
STARTS = [(0, 0, 0), (8, 0, 4), (3, 5, 2), (8, 8, 8)]


@pytest.fixture
def image() -> Volume:
    geometry = Geometry((40, 44, 42), (1.5, 1.0, 1.5))
    return Volume(np.random.default_rng(0).normal(size=geometry.shape).astype(np.float32), geometry)


class Counting:
    """Counts the cubes that an encoder sees."""

    def __init__(self, foundation: SamFoundation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[int] = []
        encode = foundation.image_encoder.forward

        def forward(cubes: torch.Tensor) -> torch.Tensor:
            self.seen.append(len(cubes))
            return encode(cubes)

        monkeypatch.setattr(foundation.image_encoder, "forward", forward)


def test_each_crop_is_encoded_once(
    tiny_foundation: SamFoundation, image: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counting(tiny_foundation, monkeypatch)
    bank = CropBank(image, tiny_foundation, torch.device("cpu"))
    bank.encode(VIEW, [*STARTS, *STARTS])
    assert counted.seen == [1, 1, 1, 1]  # on a CPU one by one
    bank.crop(VIEW, STARTS[2])
    assert len(counted.seen) == 4
    bank.crop(VIEW.model_copy(update={"spacing_mm": 1.0}), STARTS[2])
    assert len(counted.seen) == 5


def test_together_they_get_what_each_gets_alone(tiny_foundation: SamFoundation, image: Volume) -> None:
    bank = CropBank(image, tiny_foundation, torch.device("cpu"))
    bank.encode(VIEW, STARTS)
    for start in STARTS:
        cube = extract_crop(image, bank.crop_grid(VIEW).cube(start), VIEW)
        with torch.no_grad():
            alone = tiny_foundation.image_encoder(torch.from_numpy(cube)[None, None])
        assert torch.equal(bank.crop(VIEW, start).embedding, alone)


def test_what_was_used_longest_ago_is_forgotten_first(
    tiny_foundation: SamFoundation, image: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = CropBank(image, tiny_foundation, torch.device("cpu"))
    size = bank.crop(VIEW, STARTS[0]).embedding.nbytes
    bank.most_bytes = 2 * size
    counted = Counting(tiny_foundation, monkeypatch)
    bank.crop(VIEW, STARTS[1])
    bank.crop(VIEW, STARTS[0])
    bank.crop(VIEW, STARTS[2])  # drops the second
    bank.crop(VIEW, STARTS[0])
    assert len(counted.seen) == 2
    bank.crop(VIEW, STARTS[1])
    assert len(counted.seen) == 3


def test_mirror_images_are_looked_at_too(tiny_foundation: SamFoundation, image: Volume) -> None:
    bank = CropBank(image, tiny_foundation, torch.device("cpu"), tta=True)
    crop = bank.crop(VIEW, STARTS[2])
    cube = extract_crop(image, bank.crop_grid(VIEW).cube(STARTS[2]), VIEW)
    assert len(crop.mirrored) == 4
    with torch.no_grad():
        mirrored = tiny_foundation.image_encoder(torch.from_numpy(cube[:, ::-1].copy())[None, None])
    assert torch.equal(crop.mirrored[2], mirrored)
    assert not torch.equal(crop.mirrored[0], mirrored)


def test_work_on_crops_is_done_once_for_each_key(tiny_foundation: SamFoundation, image: Volume) -> None:
    bank = CropBank(image, tiny_foundation, torch.device("cpu"))
    done: list[int] = []

    def number() -> int:
        done.append(0)
        return len(done)

    def work(key: int) -> int:
        return bank.once(key, number)

    assert [work(1), work(2), work(1)] == [1, 2, 1]
    assert [work(key) for key in range(3, 100)] == list(range(3, 100))
    assert work(1) == 100  # long ago
