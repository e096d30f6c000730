"""A small foundation of SegVol's kind through everything: import, plan, finetune, gate, boxes, words."""

import json
import logging
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moe_pipeline.commands.doctor import examine
from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import read_geometry, read_label_map
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.mixture.share import export_model, import_model
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.planning import Plan
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.click_proposer.train import ClickProposerSettings
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.expert.full_finetune import finetune_whole
from moe_pipeline.training.expert.task import ExpertTask
from moe_pipeline.training.gate.add_expert import add_expert, remove_expert
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.weights import import_checkpoint, load_foundation
from moe_pipeline.weights.words import read_words
from moe_pipeline.workspace import Workspace
from tests.phantoms.segvol import write_vocabulary
from tests.phantoms.workspaces import SMALL_PLAN, add_planned

NAME, SECOND = "Dataset001_One", "Dataset002_Two"
OPTIONS = FinetuneOptions(epochs=2, click_proposer=None)


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one phantom dataset, planned for the foundation `tiny`, and its expert."""
    root = tmp_path_factory.mktemp("segvol")
    size = write_vocabulary(root / "words")
    config = SegVolConfig.from_dict(
        {
            "network": "segvol",
            "encoder": {
                "image_size": [16, 32, 32],
                "patch_size": [4, 8, 8],
                "width": 48,
                "depth": 1,
                "num_heads": 2,
                "mlp_dim": 48,
            },
            "decoder": {"transformer_dim": 48, "mlp_dim": 32, "iou_head_hidden_dim": 16},
            "text": {"vocab_size": size, "width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16, "max_words": 77},
        }
    )
    torch.manual_seed(0)
    weights = {f"model.{name}": value for name, value in SegVolFoundation(config).state_dict().items()}
    torch.save(weights, root / "pytorch_model.bin")
    place = Workspace(root / "ws")
    import_checkpoint(root / "pytorch_model.bin", place.weights, name="tiny", config=config, tokenizer=root / "words")
    add_planned(place, NAME, 6, **SMALL_PLAN)
    finetune(place, place.raw(NAME), OPTIONS)
    return place


def test_an_interrupted_training_ends_with_the_same_weights(
    finetuned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finetuned.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    expected = ExpertCard.load(place.expert(NAME, 0) / "expert.json")
    whole = ExpertTask.loss

    def stopped(task: ExpertTask, step: int) -> torch.Tensor:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return whole(task, step)

    with monkeypatch.context() as patch:
        patch.setattr(ExpertTask, "loss", stopped)
        with pytest.raises(PipelineError, match="interrupted after step 3"):
            finetune(place, place.raw(NAME), replace(OPTIONS, overwrite=True))
    found = finetune(place, place.raw(NAME), OPTIONS)
    assert found.weights_sha256 == expected.weights_sha256
    assert found.view.size_voxels == (32, 32, 16)


def test_its_decoder_learns(finetuned: Workspace, tmp_path: Path) -> None:
    shutil.copytree(finetuned.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    plan = Plan.load(place.plan(NAME))
    plan.model_copy(update={"steps_per_epoch": 100, "crops_per_case": 3}).save(place.plan(NAME))
    options = replace(OPTIONS, epochs=2, learning_rate=1e-3, overwrite=True)
    validation = finetune(place, place.raw(NAME), options).validation
    assert validation["dice_1"] > validation["general_dice_1"] + 0.1
    assert validation["dice_5"] > validation["general_dice_5"] + 0.3


@pytest.fixture(scope="module")
def gated(finetuned: Workspace, cheap_claims: ClaimSettings) -> Workspace:
    """With a gate, too."""
    train_gate(finetuned, [finetuned.raw(NAME)], [], GateOptions(synthetic=2, claims=cheap_claims))
    return finetuned


def answers(place: Workspace, out: Path, **asked: Any) -> dict[str, bytes]:
    """Label maps of the first dataset's training images, as files have them; clicks unless something else is asked."""
    raw = place.raw(NAME)
    report = predict_and_score(place, predict_options(raw / "imagesTr", out, **(asked or {"labels": raw / "labelsTr"})))
    assert not report.failed, report.text
    return {path.name: read_label_map(path).array.tobytes() for path in sorted(out.glob("*.nii.gz"))}


def test_a_second_expert_joins_looks_for_its_classes_and_leaves(
    gated: Workspace, tmp_path: Path, cheap_claims: ClaimSettings
) -> None:
    shutil.copytree(gated.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    before = answers(place, tmp_path / "before")
    add_planned(place, SECOND, 4, seed=3, **SMALL_PLAN)
    proposer = ClickProposerSettings(steps=12, hidden=8, depth=1, search_crops=6, synthetic=2)
    finetune(place, place.raw(SECOND), replace(OPTIONS, epochs=1, click_proposer=proposer))
    add_expert(place, place.model, place.raw(SECOND), claims=cheap_claims)
    assert len(answers(place, tmp_path / "searched", experts=[SECOND])) == len(before)
    export_model(place.model, tmp_path / "given.zip", place.weights)
    import_model(tmp_path / "given.zip", tmp_path / "taken")
    assert [entry.name for entry in load_mixture(tmp_path / "taken", weights_root=place.weights).experts] == [
        NAME,
        SECOND,
    ]
    remove_expert(place.model, SECOND)
    assert answers(place, tmp_path / "after") == before


def test_the_whole_network_is_finetuned_but_its_words(finetuned: Workspace) -> None:
    place = finetuned
    finetune_whole(place, place.raw(NAME), replace(OPTIONS, epochs=1))
    file = place.sft(NAME) / "foundation.safetensors"
    start, end = (load_foundation(source, weights_root=place.weights).state_dict() for source in ("tiny", file))
    moved = {name.partition(".")[0] for name, tensor in start.items() if not torch.equal(tensor, end[name])}
    assert moved == {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert len(read_words(file).encode(["ball"])[0]) == 1


def test_boxes_and_words_are_answered_by_gate_and_experts(
    gated: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = gated
    images = place.raw(NAME) / "imagesTr"
    one = sorted(images.glob("*_0000.nii.gz"))[0]
    (tmp_path / "in").mkdir()
    shutil.copy(one, tmp_path / "in" / one.name)
    case = one.name.removesuffix("_0000.nii.gz")
    x, y, z = read_geometry(one).shape
    box = {"class_id": 1, "class_name": "ball", "points": [], "labels": [], "box": [[2, 2, 1], [x - 3, y - 3, z - 2]]}
    written = {"schema_version": 1, "space": "voxel_xyz", "cases": {case: [box]}}
    (tmp_path / "prompts.json").write_text(json.dumps(written))
    for name, given in (("boxes", {"prompts": tmp_path / "prompts.json"}), ("words", {"text": ("liver", "ball")})):
        options = predict_options(tmp_path / "in", tmp_path / name, **given)
        report = predict_and_score(place, options)
        assert not report.failed, report.text
        assert {row.prompt_source for row in report.rows} == {"prompts" if name == "boxes" else "text"}
        assert "this foundation takes none" not in report.text
        labels = read_label_map(tmp_path / name / f"{case}.nii.gz")
        assert labels.geometry.shape == read_geometry(one).canonical().shape
    told = dict(examine(place))
    assert told["foundation nano"].startswith(
        "for learning the tool, tests; takes mask, points; 1.5 mm, 64 voxels; lic"
    )
    assert "GB and" in told["foundation nano"]
    licence = "licence: none stated"
    assert told["foundation tiny"].startswith(
        f"takes boxes, points, text; the whole image as 32 x 32 x 16 voxels; {licence}"
    )
    export_model(place.model, tmp_path / "given", place.weights, with_foundation=True)
    mixture = load_mixture(tmp_path / "given")
    assert mixture.weights_file is not None
    assert len(read_words(mixture.weights_file).encode(["ball"])[0]) == 1
    assert [expert.name for expert in mixture.experts] == [NAME]
    assert np.isfinite(mixture.tau)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
