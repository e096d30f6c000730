"""The five steps on phantoms with a tiny foundation: what each promises, from raw folder to table."""

import csv
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.errors import CheckpointError, DatasetError, PipelineError, RecordError, StaleCacheError
from moe_pipeline.imaging.io.files import read_geometry, read_label_map
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.planning import Fold, Plan, Splits
from moe_pipeline.training.claims.learn_claims import BACKGROUND_CLICKS, ClaimSettings
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.expert.task import ExpertTask
from moe_pipeline.training.gate.fit import GateTask
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import load_sam, save_tiny
from tests.phantoms.workspaces import PLANNED_VIEW, SMALL_PLAN, add_planned

DATASETS = ("Dataset001_One", "Dataset002_Two", "Dataset003_Rest")
OPTIONS = FinetuneOptions(epochs=2, click_proposer=None)


def prepare(root: Path, foundation: SamFoundation) -> Workspace:
    place = Workspace(root)
    save_tiny(foundation, place.weights, PLANNED_VIEW)
    for seed, name in enumerate(DATASETS):
        add_planned(place, name, 6, seed, **SMALL_PLAN)
    return place


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, small_foundation: SamFoundation, cheap_claims: ClaimSettings
) -> Workspace:
    """A workspace after finetuning two datasets and training the gate with a third as general."""
    place = prepare(tmp_path_factory.mktemp("workspace"), small_foundation)
    for name in DATASETS[:2]:
        finetune(place, place.raw(name), OPTIONS)
    gate = GateOptions(synthetic=4, claims=cheap_claims)
    train_gate(place, [place.raw(name) for name in DATASETS[:2]], [place.raw(DATASETS[2])], gate)
    return place


@pytest.fixture
def workspace(trained: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may spoil."""
    shutil.copytree(trained.root, tmp_path / "ws", symlinks=True)
    return Workspace(tmp_path / "ws")


def cache_folder(place: Workspace, name: str) -> Path:
    """Of the expert's view; the gate caches the general one too."""
    return place.embeddings(name) / Plan.load(place.plan(name)).view.short_name


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_finetuning_moves_the_decoder_and_nothing_else(trained: Workspace) -> None:
    foundation = load_sam("tiny", weights_root=trained.weights)
    stored = load_tensors(trained.weights / "tiny.safetensors")
    for name, tensor in foundation.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    expert = load_tensors(trained.expert(DATASETS[0]) / "expert.safetensors")
    decoder = foundation.mask_decoder.state_dict()
    assert set(expert) == set(decoder)
    assert any(not torch.equal(expert[name], decoder[name]) for name in decoder)


def test_the_experts_folder_holds_exactly_its_files(trained: Workspace) -> None:
    files = {path.name for path in trained.expert(DATASETS[0]).iterdir()}
    assert files == {"expert.safetensors", "expert.json", "log.csv", "curve.png", "run.json", "checkpoint.safetensors"}
    log = rows_of(trained.expert(DATASETS[0]) / "log.csv")
    assert [row["step"] for row in log] == ["3", "6"]
    card = ExpertCard.load(trained.expert(DATASETS[0]) / "expert.json")
    assert card.best_step in (3, 6)
    assert card.mirror_axes == Plan.load(trained.plan(DATASETS[0])).mirror_axes
    assert {"dice_1", "dice_5", "general_dice_1", "general_dice_5"} <= set(card.validation)


def test_the_same_seed_gives_the_same_expert(workspace: Workspace) -> None:
    before = ExpertCard.load(workspace.expert(DATASETS[0]) / "expert.json").weights_sha256
    shutil.rmtree(workspace.expert(DATASETS[0]))
    shutil.rmtree(workspace.embeddings(DATASETS[0]))
    assert finetune(workspace, workspace.raw(DATASETS[0]), OPTIONS).weights_sha256 == before


def test_a_second_run_encodes_nothing_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("moe_pipeline.model.sam.image_encoder.ImageEncoder.forward", refuse)
    finetune(workspace, workspace.raw(DATASETS[0]), OPTIONS)


def test_a_killed_encoding_goes_on_with_what_is_missing(workspace: Workspace) -> None:
    folder = cache_folder(workspace, DATASETS[0])
    files = sorted((folder / "crops").iterdir())
    contents = {path.name: path.read_bytes() for path in files}
    (folder / "manifest.json").unlink()
    for path in files[::3]:
        path.unlink()
    with pytest.raises(RecordError, match="no such file"):
        EmbeddingCache.open(folder)
    finetune(workspace, workspace.raw(DATASETS[0]), OPTIONS)
    assert {path.name: path.read_bytes() for path in (folder / "crops").iterdir()} == contents


def test_an_edited_plan_is_a_new_expert_not_a_mix_of_both(workspace: Workspace) -> None:
    path = workspace.plan(DATASETS[0])
    Plan.load(path).model_copy(update={"batch_size": 2}).save(path)
    with pytest.raises(StaleCacheError, match=r"another task or on other data.*--overwrite"):
        finetune(workspace, workspace.raw(DATASETS[0]), OPTIONS)


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_stopped_training_goes_on_to_the_same_expert(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    before = ExpertCard.load(workspace.expert(DATASETS[0]) / "expert.json").weights_sha256
    shutil.rmtree(workspace.expert(DATASETS[0]))
    whole = ExpertTask.loss

    def stopped(task: ExpertTask, step: int) -> torch.Tensor:
        if step == 4:
            if how == "killed":
                raise MemoryError
            signal.raise_signal(signal.SIGINT)
        return whole(task, step)

    with monkeypatch.context() as patch:
        patch.setattr(ExpertTask, "loss", stopped)
        with pytest.raises(MemoryError if how == "killed" else PipelineError):
            finetune(workspace, workspace.raw(DATASETS[0]), OPTIONS)
    assert not (workspace.expert(DATASETS[0]) / "expert.json").exists()
    assert finetune(workspace, workspace.raw(DATASETS[0]), OPTIONS).weights_sha256 == before


def test_validation_cases_are_not_trained_on(trained: Workspace) -> None:
    cache = EmbeddingCache.open(cache_folder(trained, DATASETS[0]))
    splits = json.loads(trained.splits(DATASETS[0]).read_text())
    held_out = set(splits["folds"][0]["validation"])
    copies = {entry.case: 0 for entry in cache.manifest.entries}
    for entry in cache.manifest.entries:
        copies[entry.case] += 1
    assert {copies[case] for case in held_out} == {1}
    assert {copies[case] for case in set(copies) - held_out} == {2}


def test_every_prediction_lies_on_its_images_grid(trained: Workspace, tmp_path: Path) -> None:
    images = trained.raw(DATASETS[0]) / "imagesTr"
    options = predict_options(images, tmp_path / "out", labels=trained.raw(DATASETS[0]) / "labelsTr", clicks=2)
    report = predict_and_score(trained, options)
    assert not report.failed
    for path in images.iterdir():
        written = tmp_path / "out" / path.name.replace("_0000", "")
        assert not read_geometry(written).differences(read_geometry(path), tolerance_mm=1e-5)
    dice = rows_of(tmp_path / "out" / "dice.csv")
    assert list(dice[0])[:4] == ["case", "class_id", "class_name", "dice"]
    assert {row["prompt_source"] for row in rows_of(tmp_path / "out" / "cases.csv")} == {"labels"}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]["tiny"]


def test_what_goes_to_the_general_expert_is_the_foundations_own_byte_for_byte(
    trained: Workspace, tmp_path: Path
) -> None:
    images, labels = trained.raw(DATASETS[1]) / "imagesTr", trained.raw(DATASETS[1]) / "labelsTr"
    alone = predict_options(images, tmp_path / "alone", labels=labels, clicks=2, foundation="tiny")
    routed = predict_options(images, tmp_path / "routed", labels=labels, clicks=2, tau=0.999)
    predict_and_score(trained, alone)
    predict_and_score(trained, routed)
    experts: dict[str, set[str]] = {}
    for row in rows_of(tmp_path / "routed" / "cases.csv"):
        experts.setdefault(row["case"], set()).add(row["expert"])
    answered = [case for case, names in experts.items() if names <= {"general", ""}]  # absent classes name nobody
    assert answered
    for case in answered:
        file = f"{case}.nii.gz"
        assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "routed" / file).read_bytes()


def test_a_bad_image_is_a_row_and_the_others_finish(trained: Workspace, tmp_path: Path) -> None:
    images = tmp_path / "images"
    labels = trained.raw(DATASETS[0]) / "labelsTr"
    images.mkdir()
    for path in (trained.raw(DATASETS[0]) / "imagesTr").iterdir():
        shutil.copy(path, images / path.name.replace("_0000", ""))
    broken = sorted(images.iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:-100])
    report = predict_and_score(trained, predict_options(images, tmp_path / "out", labels=labels))
    assert report.failed
    rows = rows_of(tmp_path / "out" / "cases.csv")
    failed = [row for row in rows if row["status"] == "failed"]
    assert [row["case"] for row in failed] == [broken.name.removesuffix(".nii.gz")]
    assert broken.name in failed[0]["message"]
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == len(list(images.iterdir())) - 1
    assert not list((tmp_path / "out").glob(".*"))


def test_clicks_from_a_file_give_a_label_map_without_references(trained: Workspace, tmp_path: Path) -> None:
    source = sorted((trained.raw(DATASETS[0]) / "imagesTr").iterdir())[0]
    (tmp_path / "images").mkdir()
    shutil.copy(source, tmp_path / "images" / "scan.nii.gz")
    x, y, z = (side // 2 for side in read_geometry(source).shape)
    prompt = {"class_id": 5, "class_name": "organ", "points": [[x, y, z]], "labels": [1]}
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"space": "voxel_xyz", "cases": {"scan": [prompt]}}))
    report = predict_and_score(trained, predict_options(tmp_path / "images", tmp_path / "out", prompts=file))
    assert not report.failed
    labels = read_label_map(tmp_path / "out" / "scan.nii.gz")
    assert set(np.unique(labels.array)) <= {0, 5}
    assert not (tmp_path / "out" / "dice.csv").exists()


def test_references_found_beside_the_images_are_inputs_too(workspace: Workspace, tmp_path: Path) -> None:
    raw = workspace.raw(DATASETS[0])
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"space": "voxel_xyz", "cases": {}}))
    with pytest.raises(PipelineError, match="never written to"):
        predict_and_score(workspace, predict_options(raw / "imagesTr", raw / "labelsTr", prompts=prompts))


def test_references_for_none_of_the_cases_are_no_success(trained: Workspace, tmp_path: Path) -> None:
    raw = trained.raw(DATASETS[0])
    (tmp_path / "others").mkdir()
    shutil.copy(raw / "labelsTr" / "p000.nii.gz", tmp_path / "others" / "somebody.nii.gz")
    options = predict_options(
        raw / "imagesTr", tmp_path / "out", labels=raw / "labelsTr", references=tmp_path / "others"
    )
    report = predict_and_score(trained, options)
    assert report.failed
    assert "no reference in" in report.text
    assert (tmp_path / "out" / "run.json").is_file()


def test_the_models_channel_is_the_one_that_is_shown(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.model / "moe.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "channel": 1}))
    raw = workspace.raw(DATASETS[0])
    images = tmp_path / "images"
    shutil.copytree(raw / "imagesTr", images)
    report = predict_and_score(workspace, predict_options(images, tmp_path / "none", labels=raw / "labelsTr"))
    assert report.failed
    assert "the model looks at channel 1" in report.text
    for first in list(images.iterdir()):
        shutil.copy(first, images / first.name.replace("_0000", "_0001"))
    assert not predict_and_score(workspace, predict_options(images, tmp_path / "out", labels=raw / "labelsTr")).failed


def test_an_expert_of_another_fold_or_plan_is_refused(workspace: Workspace) -> None:
    options = GateOptions(fold=1, synthetic=0)
    with pytest.raises(RecordError, match=r"fold_1: no finished expert here, there are experts of fold 0; run"):
        train_gate(workspace, [workspace.raw(DATASETS[0])], [], options)
    shutil.copytree(workspace.expert(DATASETS[0], 0), workspace.expert(DATASETS[0], 1))
    with pytest.raises(StaleCacheError, match="was trained on fold 0, the gate is asked for fold 1"):
        train_gate(workspace, [workspace.raw(DATASETS[0])], [], options)
    path = workspace.plan(DATASETS[0])
    Plan.load(path).model_copy(update={"batch_size": 2}).save(path)
    with pytest.raises(StaleCacheError, match=r"was made by the plan .*--overwrite"):
        train_gate(workspace, [workspace.raw(DATASETS[0])], [], GateOptions(synthetic=0))


def test_a_class_that_no_held_out_case_has_is_refused_before_training(workspace: Workspace) -> None:
    plan, splits = (Plan.load(workspace.plan(DATASETS[0])), Splits.load(workspace.splits(DATASETS[0])))
    plan.model_copy(update={"classes": {3: "bar"}, "class_weights": {3: 1.0}}).save(workspace.plan(DATASETS[0]))
    bars = Fold(train=("p000", "p002", "p004"), validation=("p001", "p003", "p005"))  # odd cases have no bar
    others = Fold(train=bars.validation, validation=bars.train)
    splits.model_copy(update={"folds": (bars, others)}).save(workspace.splits(DATASETS[0]))
    for fold, part in enumerate(("validation", "training")):
        with pytest.raises(DatasetError, match=f"no {part} case of fold {fold} has any of the classes bar"):
            finetune(workspace, workspace.raw(DATASETS[0]), replace(OPTIONS, fold=fold, overwrite=True))
    assert (workspace.expert(DATASETS[0]) / "expert.safetensors").is_file()


def test_an_interrupted_gate_is_not_saved(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (workspace.model / "gate.safetensors").read_bytes()
    whole = GateTask.loss

    def stopped(task: GateTask, step: int) -> torch.Tensor:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return whole(task, step)

    monkeypatch.setattr(GateTask, "loss", stopped)
    with pytest.raises(PipelineError, match="interrupted after step 3"):
        train_gate(workspace, [workspace.raw(DATASETS[0])], [], GateOptions(synthetic=0))
    assert (workspace.model / "gate.safetensors").read_bytes() == before


@pytest.mark.parametrize("part", ["imagesTr", "labelsTr"])
def test_inputs_are_never_written_to(workspace: Workspace, part: str) -> None:
    raw = workspace.raw(DATASETS[0])
    before = {path.name: path.read_bytes() for path in (raw / part).iterdir()}
    with pytest.raises(PipelineError, match="never written to"):
        predict_and_score(workspace, predict_options(raw / "imagesTr", raw / part, labels=raw / "labelsTr"))
    assert {path.name: path.read_bytes() for path in (raw / part).iterdir()} == before


def test_an_expert_trained_again_makes_the_gate_stale(workspace: Workspace) -> None:
    path = workspace.expert(DATASETS[0]) / "expert.json"
    ExpertCard.load(path).model_copy(update={"weights_sha256": "0" * 64}).save(path)
    with pytest.raises(StaleCacheError, match="run `moe train-gate` again"):
        load_mixture(workspace.model, weights_root=workspace.weights)


def test_a_gate_file_that_does_not_fit_its_record_is_refused(workspace: Workspace) -> None:
    path = workspace.model / "gate.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "hidden": record["hidden"] + 1}))
    with pytest.raises(CheckpointError, match=r"gate.safetensors: does not fit gate.json"):
        load_mixture(workspace.model, weights_root=workspace.weights)


def test_a_gate_needs_each_dataset_once(trained: Workspace) -> None:
    twice = [trained.raw(DATASETS[0])] * 2
    with pytest.raises(DatasetError, match="each dataset once"):
        train_gate(trained, twice, [])


def test_one_expert_without_general_data_makes_a_model(workspace: Workspace, cheap_claims: ClaimSettings) -> None:
    card = train_gate(
        workspace,
        [workspace.raw(DATASETS[0])],
        [],
        GateOptions(synthetic=0, background_clicks=False, claims=cheap_claims),
    )
    assert card.outputs == ("general", DATASETS[0])
    assert card.general_datasets == ()
    assert load_mixture(workspace.model, weights_root=workspace.weights).experts[0].name == DATASETS[0]


def test_the_gate_says_how_well_it_routes(trained: Workspace) -> None:
    gate = json.loads((trained.model / "gate.json").read_text())
    elsewhere = {name + BACKGROUND_CLICKS for name in DATASETS[:2]}
    assert set(gate["confusion"]) == {*DATASETS, "synthetic", *elsewhere}
    for shares in gate["confusion"].values():
        assert abs(sum(shares.values()) - 1) < 1e-6
    assert gate["claims"]["guarantee"]["prompts"] > gate["claims"]["guarantee"]["synthetic"]  # the general dataset's
    assert 0 <= gate["calibration_error"] <= 1


def test_options_reach_the_loop(workspace: Workspace) -> None:
    shutil.rmtree(workspace.expert(DATASETS[1]))
    card = finetune(workspace, workspace.raw(DATASETS[1]), replace(OPTIONS, epochs=1))
    assert card.settings["steps"] == 3
