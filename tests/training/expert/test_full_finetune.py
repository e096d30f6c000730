import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.errors import PipelineError
from moe_pipeline.records.planning import Plan
from moe_pipeline.training.expert.full_finetune import finetune_whole
from moe_pipeline.training.expert.session import FinetuneOptions
from moe_pipeline.training.expert.task import WholeTask
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.workspace import Workspace

NAME = "Dataset001_One"
OPTIONS = FinetuneOptions(epochs=2)


@pytest.fixture
def planned(tmp_path: Path, make_planned_workspace: Callable[..., Workspace]) -> Workspace:
    small = {"crops_per_case": 2, "copies_per_case": 2, "steps_per_epoch": 2, "batch_size": 4}
    return make_planned_workspace(tmp_path / "ws", NAME, 5, **small)


def test_the_whole_network_learns_and_is_a_foundation_of_its_own(planned: Workspace) -> None:
    before = find_foundation("tiny", planned.weights)
    card = finetune_whole(planned, planned.raw(NAME), OPTIONS)
    assert find_foundation("tiny", planned.weights).card == before.card
    start, end = (
        load_foundation(source, weights_root=planned.weights).state_dict()
        for source in ("tiny", planned.sft(NAME) / "foundation.safetensors")
    )
    moved = {name.split(".")[0] for name, tensor in start.items() if not torch.equal(tensor, end[name])}
    assert moved == {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert card.view == Plan.load(planned.plan(NAME)).view
    assert (card.licence, card.source_sha256) == ("CC0", before.card.weights_sha256)
    assert {"dice_1", "dice_5", "general_dice_1", "general_dice_5"} <= set(card.training["validation"])
    files = {path.name for path in planned.sft(NAME).iterdir()}
    assert files == {
        *("foundation.safetensors", "foundation.json", "run.json"),
        *("log.csv", "curve.png", "checkpoint.safetensors"),
    }
    assert not (planned.expert(NAME) / "expert.json").exists()


def test_it_sees_the_images_that_an_expert_sees_encoded(planned: Workspace) -> None:
    finetune_whole(planned, planned.raw(NAME), FinetuneOptions(epochs=1))
    (folder,) = planned.embeddings(NAME).iterdir()
    view = Plan.load(planned.plan(NAME)).view
    assert folder.name == f"{view.short_name}_images"
    sample = EmbeddingCache.open(folder).load(0)
    assert sample.embedding.shape == (1, 32, 32, 32)
    assert sample.labels.shape == (32, 32, 32)


def test_an_interrupted_training_goes_on_to_the_same_network(
    planned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finetune_whole(planned, planned.raw(NAME), OPTIONS).weights_sha256
    whole = WholeTask.loss

    def stopped(task: WholeTask, step: int) -> torch.Tensor:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return whole(task, step)

    with monkeypatch.context() as patch:
        patch.setattr(WholeTask, "loss", stopped)
        with pytest.raises(PipelineError, match="interrupted after step 3"):
            finetune_whole(planned, planned.raw(NAME), FinetuneOptions(epochs=2, overwrite=True))
    assert finetune_whole(planned, planned.raw(NAME), OPTIONS).weights_sha256 == expected
