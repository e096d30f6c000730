import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moe_pipeline.commands.doctor import examine
from moe_pipeline.errors import RecordError
from moe_pipeline.evaluation.forgetting.models import load_compared_models
from moe_pipeline.files import sha256_file
from moe_pipeline.journal.lock import LockedError, locked
from moe_pipeline.mixture.expert import find_expert
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.mixture.share import export_model
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.records.planning import Fold, Splits
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.expert.full_finetune import finetune_whole
from moe_pipeline.training.expert.session import LOCK
from moe_pipeline.training.gate.add_expert import add_expert
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace

NAME = "Dataset001_One"
OPTIONS = FinetuneOptions(epochs=1, click_proposer=None)


@pytest.fixture
def planned(tmp_path: Path, make_planned_workspace: Callable[..., Workspace]) -> Workspace:
    small = {"crops_per_case": 2, "copies_per_case": 2, "steps_per_epoch": 2, "batch_size": 4}
    return make_planned_workspace(tmp_path / "ws", NAME, 5, **small)


def test_each_fold_has_an_expert_of_its_own_and_the_model_names_the_one_it_took(
    planned: Workspace, tmp_path: Path, cheap_claims: ClaimSettings
) -> None:
    raw, files = planned.raw(NAME), ("expert.safetensors", "expert.json", "log.csv")
    finetune(planned, raw, OPTIONS)
    before = {file: sha256_file(planned.expert(NAME, 0) / file) for file in files}
    card = finetune(planned, raw, replace(OPTIONS, fold=1))
    assert {file: sha256_file(planned.expert(NAME, 0) / file) for file in files} == before
    assert (card.fold, find_expert(planned, NAME, 1)) == (1, card)
    assert sorted(path.name for path in (planned.root / "experts" / NAME).iterdir()) == ["fold_0", "fold_1"]
    assert ("workspace experts", f"{NAME} (fold 0, 1)") in examine(planned)

    train_gate(planned, [raw], [], GateOptions(fold=1, synthetic=2, claims=cheap_claims))
    (entry,) = ModelCard.load(planned.model / "moe.json").experts
    assert entry.folder == f"../experts/{NAME}/fold_1"
    assert load_mixture(planned.model, weights_root=planned.weights).hashes[NAME] == card.weights_sha256
    export_model(planned.model, tmp_path / "given", planned.weights)
    assert sha256_file(tmp_path / "given" / "experts" / NAME / "expert.safetensors") == card.weights_sha256

    finetune_whole(planned, raw, replace(OPTIONS, fold=0))
    assert "sft of Dataset001_One" not in [m.name for m in load_compared_models(planned, planned.model, "cpu")]
    finetune_whole(planned, raw, replace(OPTIONS, fold=1))
    assert "sft of Dataset001_One" in [m.name for m in load_compared_models(planned, planned.model, "cpu")]


def test_one_fold_is_trained_by_one_process_and_others_by_others(planned: Workspace) -> None:
    out = planned.expert(NAME, 0)
    with locked(out / LOCK, "moe finetune Dataset001_One --fold 0"):
        with pytest.raises(LockedError, match=r"fold_0: process \d+ on .* writes here \(moe finetune .* --fold 0\)"):
            finetune(planned, planned.raw(NAME), OPTIONS)
        assert sorted(path.name for path in out.iterdir()) == [LOCK]
        assert not planned.embeddings(NAME).exists()  # nothing was encoded for nothing
        finetune(planned, planned.raw(NAME), replace(OPTIONS, fold=1))
    finetune(planned, planned.raw(NAME), OPTIONS)
    assert planned.expert_folds(NAME) == [0, 1]
    assert not list(planned.root.rglob(LOCK))


def test_a_missing_expert_is_named_with_those_there_are(planned: Workspace) -> None:
    with pytest.raises(RecordError, match=rf"there is none; run `moe finetune {NAME} --fold 2`"):
        find_expert(planned, NAME, 2)
    card = {"fold": 3}
    for fold in (0, 3):
        planned.expert(NAME, fold).mkdir(parents=True)
        (planned.expert(NAME, fold) / "expert.json").write_text(json.dumps(card))
    with pytest.raises(RecordError, match=r"fold_2: no finished expert here, there are experts of fold 0, 3; run"):
        find_expert(planned, NAME, 2)
    with pytest.raises(RecordError, match=r"which expert\? there are experts of fold 0, 3: give --fold"):
        find_expert(planned, NAME)


def test_the_only_expert_joins_whatever_its_fold_and_one_of_an_older_layout_is_to_be_moved(
    place: Workspace, cheap_claims: ClaimSettings
) -> None:
    three = "Dataset003_Three"
    finetune(place, place.raw(three), replace(OPTIONS, fold=1))
    with pytest.raises(RecordError, match="fold 0, 1: give --fold"):
        add_expert(place, place.model, place.raw(three))
    add_expert(place, place.model, place.raw(three), fold=1, claims=cheap_claims)
    assert ModelCard.load(place.model / "moe.json").experts[-1].folder == f"../experts/{three}/fold_1"
    old = place.experts_root / "Dataset001_One"
    for path in (old / "fold_0").iterdir():
        path.rename(old / path.name)
    (old / "fold_0").rmdir()
    with pytest.raises(RecordError, match=r"a folder per fold now; move all files of this one to .*fold_0/"):
        find_expert(place, "Dataset001_One")


def test_a_class_of_held_back_cases_only_is_said(planned: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    bars = ("p000", "p002", "p004")  # the others have none
    splits = Splits.load(planned.splits(NAME))
    folds = (Fold(train=("p001", "p003"), validation=bars), Fold(train=bars, validation=("p001", "p003")))
    splits.model_copy(update={"folds": folds}).save(planned.splits(NAME))
    with caplog.at_level(logging.WARNING):
        finetune(planned, planned.raw(NAME), replace(OPTIONS, fold=1))
        assert "only held-back cases have" not in caplog.text
        finetune(planned, planned.raw(NAME), OPTIONS)
    assert f"{NAME}, fold 0: only held-back cases have the class bar, no training case does" in caplog.text
