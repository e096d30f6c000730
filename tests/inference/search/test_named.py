"""Words find their object in the whole image, and go with the click that it gets."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from moe_pipeline.errors import CheckpointError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import TextRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.search import named
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.foundation import Candidates, PromptEmbedding
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.records.foundation import View
from tests.phantoms.foundations import SeesBrightness, foundation_alone

IMAGE = Geometry((24, 20, 10), (2.0, 2.0, 5.0))
SIZE = (12, 10, 10)
VIEW = View(spacing_mm="native", size_voxels=SIZE, normalisation="foreground")


class Reads:
    """A foundation whose decoder takes what is bright where there is text alone, and notes what else it is asked."""

    takes = frozenset({"points", "boxes", "text"})
    geometry = FoundationGeometry(SIZE, SIZE, SIZE)

    def __init__(self) -> None:
        self.decoder = self
        self.asked: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    def encode(self, crops: Tensor) -> Tensor:
        return functional.interpolate(crops, size=SIZE)

    def encode_text(self, ids: Tensor, known: Tensor) -> Tensor:
        return (ids * known).float().sum(1, keepdim=True)

    def embed_turn(
        self, points: tuple[Tensor, Tensor], previous: Tensor, boxes: Tensor | None, text: Tensor | None
    ) -> Any:
        assert previous.shape[2:] == SIZE
        self.asked.append((points[0], boxes, text))
        return None

    def embed_prompts(self, text: Tensor) -> Any:
        return PromptEmbedding(text, text, text)

    def prepare(self, embedding: Tensor) -> Tensor:
        return embedding

    def decode(self, embedding: Tensor, prompts: Any) -> Candidates:
        logits = torch.full((1, 1, *SIZE), -4.0)
        if prompts is not None and float(prompts.text) > 0:
            logits = torch.where(embedding[:, :1] > 0.5, 4.0, -4.0)
        return Candidates(logits, torch.ones(1, 1), torch.zeros(1, dtype=torch.long))


@pytest.fixture
def image() -> Volume:
    array = np.random.default_rng(0).normal(size=IMAGE.shape).astype(np.float32)
    array[14:18, 5:12, 3:7] += 50
    return Volume(array, IMAGE)


@pytest.fixture
def model() -> Mixture:
    return foundation_alone(Reads(), VIEW)


def asked(model: Mixture) -> list[tuple[Tensor, Tensor | None, Tensor | None]]:
    foundation: Any = model.foundation
    return list(foundation.asked)


class Numbers:
    """Stands in for a vocabulary: a text is the number of letters of its name; nothing is called nothing."""

    def encode(self, names: list[str]) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([[0 if name == "nothing" else len(name)] for name in names])
        return ids, torch.ones_like(ids)


def test_words_find_their_object_and_go_with_the_click(
    model: Mixture, image: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "words_of", lambda _: Numbers())
    names = named.named_classes(["liver", "nothing"], [])
    assert names == {1: "liver", 2: "nothing"}
    result = segment_case(model, TextRequest("a", image, names), SegmentOptions(max_crops=1))
    found, missing = result.rows
    assert (missing.class_name, missing.status, missing.prompt_source) == ("nothing", "absent", "text")
    assert (found.class_name, found.prompt_source) == ("liver", "text")
    clicks, boxes, text = asked(model)[0]
    assert boxes is None
    assert text is not None
    assert text.tolist() == [[5.0]]
    (prompt,) = result.clicked
    x, y, z = IMAGE.world_to_voxel(prompt.clicks_mm)[0].round()
    assert 14 <= x < 18
    assert 5 <= y < 12
    assert 3 <= z < 7
    assert clicks.shape[1] == 1


def test_why_there_can_be_no_text_is_said(model: Mixture, tmp_path: Any) -> None:
    with pytest.raises(PromptError, match="takes no text prompts"):
        named.words_of(foundation_alone(SeesBrightness(), VIEW))
    with pytest.raises(CheckpointError, match=r"x\.tokenizer: no such file.*--tokenizer"):
        named.words_of(replace(model, weights_file=tmp_path / "x.safetensors"))
