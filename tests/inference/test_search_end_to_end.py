"""An expert with a click proposer, from finetuning to a folder predicted without prompts."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.commands.container import predict_container
from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.errors import CheckpointError, PipelineError, PromptError, StaleCacheError
from moe_pipeline.imaging.io.files import read_geometry, read_label_map
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.presets import load_challenge
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.click_proposer.train import ClickProposerSettings, ClickProposerTask
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace

NAME = "Dataset001_One"
SMALL = ClickProposerSettings(steps=24, hidden=16, depth=1, search_crops=12, synthetic=2)
OPTIONS = FinetuneOptions(epochs=1, click_proposer=SMALL)


@pytest.fixture(scope="module")
def searching(
    trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, cheap_claims: ClaimSettings
) -> Workspace:
    """A workspace whose one expert can search."""
    root = tmp_path_factory.mktemp("searching") / "ws"
    shutil.copytree(trained_workspace.root, root, symlinks=True)
    place = Workspace(root)
    finetune(place, place.raw(NAME), OPTIONS)
    train_gate(place, [place.raw(NAME)], [], GateOptions(synthetic=4, claims=cheap_claims))
    return place


@pytest.fixture
def workspace(searching: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """A copy that a test may spoil."""
    shutil.copytree(searching.root, tmp_path / "ws", symlinks=True)
    yield Workspace(tmp_path / "ws")
    shutil.rmtree(tmp_path / "ws")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_is_predicted_without_prompts(searching: Workspace, tmp_path: Path) -> None:
    images = searching.raw(NAME) / "imagesTr"
    report = predict_and_score(searching, predict_options(images, tmp_path / "out"))
    assert not report.failed
    rows = rows_of(tmp_path / "out" / "cases.csv")
    assert {row["prompt_source"] for row in rows} == {"automatic"}
    assert {(row["case"], row["class_id"]) for row in rows} == {(f"p{n:03d}", c) for n in range(6) for c in "13"}
    for path in images.iterdir():
        written = tmp_path / "out" / path.name.replace("_0000", "")
        assert not read_geometry(written).differences(read_geometry(path), tolerance_mm=1e-5)
        named = {int(row["class_id"]) for row in rows if row["case"] in path.name and row["status"] == "ok"}
        assert set(np.unique(read_label_map(written).array)) - {0} == named


def test_a_search_can_be_restricted_and_contradictions_are_refused(searching: Workspace, tmp_path: Path) -> None:
    images = searching.raw(NAME) / "imagesTr"
    predict_and_score(searching, predict_options(images, tmp_path / "out", classes=("ball",)))
    assert {row["class_name"] for row in rows_of(tmp_path / "out" / "cases.csv")} == {"ball"}
    with pytest.raises(PipelineError, match="--classes and --experts say what to search for"):
        predict_and_score(
            searching,
            predict_options(images, tmp_path / "out", labels=searching.raw(NAME) / "labelsTr", experts=("1",)),
        )
    with pytest.raises(PromptError, match="no expert of this model can propose prompts"):
        predict_and_score(searching, predict_options(images, tmp_path / "none", foundation="tiny"))
    assert not (tmp_path / "none").exists()


def test_the_card_says_how_well_it_proposes(searching: Workspace) -> None:
    card = ExpertCard.load(searching.expert(NAME) / "expert.json")
    assert card.click_proposer is not None
    assert card.click_proposer.classes == (1, 3)
    assert set(card.click_proposer.validation) == {"hit", "distance_mm", "found", "left_out"}
    assert set(card.click_proposer.objects) == {1, 3}
    files = {path.name for path in (searching.expert(NAME) / "click_proposer").iterdir()}
    assert files == {"checkpoint.safetensors", "log.csv", "curve.png", "run.json"}


@pytest.mark.parametrize("where", ["samples", "steps"])
def test_a_killed_click_proposer_goes_on_to_the_same_weights(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    out = workspace.expert(NAME)
    before = ExpertCard.load(out / "expert.json").click_proposer
    for path in [*out.glob("click_proposer*"), *workspace.embeddings(NAME).glob("*/search")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    loss = ClickProposerTask.loss

    def killed_step(task: ClickProposerTask, step: int) -> torch.Tensor:
        if step == 14:
            raise MemoryError
        return loss(task, step)

    def killed_encoding(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        if where == "steps":
            patch.setattr(ClickProposerTask, "loss", killed_step)
        else:
            patch.setattr("moe_pipeline.training.click_proposer.search_crops.make_crop", killed_encoding)
        with pytest.raises(MemoryError):
            finetune(workspace, workspace.raw(NAME), OPTIONS)
    assert ExpertCard.load(out / "expert.json").click_proposer is None
    assert finetune(workspace, workspace.raw(NAME), OPTIONS).click_proposer == before


def test_a_model_refuses_a_click_proposer_that_it_does_not_know(workspace: Workspace) -> None:
    out = workspace.expert(NAME)
    (out / "click_proposer.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"click_proposer\.safetensors: sha256 is"):
        load_mixture(workspace.model, weights_root=workspace.weights)
    finetune(workspace, workspace.raw(NAME), FinetuneOptions(epochs=1, click_proposer=None))
    assert not (out / "click_proposer.safetensors").exists()
    with pytest.raises(StaleCacheError, match=r"the click proposer of Dataset001_One is None.*train-gate"):
        load_mixture(workspace.model, weights_root=workspace.weights)


def test_in_a_container_the_experts_look_for_the_challenges_class_alone(
    searching: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = load_challenge("sppin2023")
    assert challenge.container is not None
    container = challenge.container.model_copy(update={"class_name": "ball"})
    monkeypatch.setattr(
        "moe_pipeline.commands.container.challenges",
        lambda: {"sppin2023": challenge.model_copy(update={"container": container})},
    )
    (tmp_path / container.images).mkdir(parents=True)
    shutil.copy(searching.raw(NAME) / "imagesTr" / "p000_0000.nii.gz", tmp_path / container.images)
    report = predict_container(searching, predict_options(tmp_path, tmp_path / "out"), "sppin2023")
    assert [(row.class_name, row.prompt_source) for row in report.rows] == [("ball", "automatic")]
    assert set(np.unique(read_label_map(tmp_path / "out" / container.label_map).array)) <= {0, 1}
