"""An expert joins and leaves; nobody else's weights, files or answers change."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.errors import DatasetError, PipelineError, StaleCacheError
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.mixture.gate_files import WRITTEN, added_folder, features_path
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import GateCard, ModelCard
from moe_pipeline.training.claims.learn_claims import BACKGROUND_CLICKS, ClaimSettings
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.gate import add_expert as joining
from moe_pipeline.training.gate.add_expert import add_expert, list_experts, remove_expert, update_expert
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace

ONE, TWO, THREE = "Dataset001_One", "Dataset002_Two", "Dataset003_Three"


@pytest.fixture(scope="module")
def enlarged(
    trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, cheap_claims: ClaimSettings
) -> Workspace:
    """The third expert joined; the raw data and embeddings of the others are gone."""
    root = tmp_path_factory.mktemp("enlarged") / "ws"
    shutil.copytree(trained_workspace.root, root, symlinks=True)
    place = Workspace(root)
    for name in (ONE, TWO):
        shutil.rmtree(place.raw(name))
        shutil.rmtree(place.embeddings(name))
    add_expert(place, place.model, place.raw(THREE), claims=cheap_claims)
    return place


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def features_of(place: Workspace, name: str) -> torch.Tensor:
    return load_tensors(features_path(place.model, name))["validation"].float()


def test_a_added_expert_needs_no_data_of_the_others(enlarged: Workspace) -> None:
    model = load_mixture(enlarged.model, weights_root=enlarged.weights)
    assert [expert.name for expert in model.experts] == [ONE, TWO, THREE]
    card = GateCard.load(added_folder(enlarged.model, THREE) / "gate.json")
    assert card.outputs == ("others", THREE)
    assert set(card.confusion) == {ONE, TWO, THREE, THREE + BACKGROUND_CLICKS, "synthetic"}
    assert card.claims is not None
    assert set(card.claims.experts) == {THREE}
    assert card.tau >= 0.5
    assert (added_folder(enlarged.model, THREE) / "gate.png").is_file()


def test_the_others_keep_their_prompts_bit_for_bit(trained_workspace: Workspace, enlarged: Workspace) -> None:
    before = load_mixture(trained_workspace.model, weights_root=trained_workspace.weights)
    after = load_mixture(enlarged.model, weights_root=enlarged.weights)
    assert before.router is not None
    assert after.router is not None
    owned = torch.cat([features_of(enlarged, name) for name in (ONE, TWO)])
    assert torch.equal(after.router.weights(owned)[:, :3], before.router.weights(owned))
    assert not after.router.weights(owned)[:, 3].any()
    for name in ("gate.safetensors", "gate.json"):
        assert (enlarged.model / name).read_bytes() == (trained_workspace.model / name).read_bytes()


def test_label_maps_change_only_where_the_added_expert_speaks(
    trained_workspace: Workspace, enlarged: Workspace, tmp_path: Path
) -> None:
    raw = trained_workspace.raw(ONE)
    for name, place in (("before", trained_workspace), ("after", enlarged)):
        options = predict_options(raw / "imagesTr", tmp_path / name, labels=raw / "labelsTr", model=place.model)
        assert not predict_and_score(place, options).failed
    after = pd.read_csv(tmp_path / "after" / "cases.csv")
    claimed = set(after.loc[after["expert"] == THREE, "case"])
    others = set(after["case"]) - claimed
    assert others
    for case in others:
        before_map, after_map = (tmp_path / name / f"{case}.nii.gz" for name in ("before", "after"))
        assert before_map.read_bytes() == after_map.read_bytes()


def test_leaving_restores_the_model_file_by_file(
    trained_workspace: Workspace, enlarged: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(enlarged.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    remove_expert(place.model, THREE)
    before, after = files_of(trained_workspace.model), files_of(place.model)
    assert before.pop(WRITTEN) != after.pop(WRITTEN)  # a journal only grows
    assert after == before
    assert (place.expert(THREE) / "expert.safetensors").is_file()


def test_an_expert_of_the_first_hour_may_leave_too(enlarged: Workspace, tmp_path: Path) -> None:
    shutil.copytree(enlarged.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    before = load_mixture(place.model, weights_root=place.weights)
    features = torch.cat([features_of(place, name) for name in (ONE, TWO, THREE)])
    remove_expert(place.model, ONE)
    after = load_mixture(place.model, weights_root=place.weights)
    assert before.router is not None
    assert after.router is not None
    assert [expert.name for expert in after.experts] == [TWO, THREE]
    assert torch.equal(after.router.weights(features)[:, 1:], before.router.weights(features)[:, 2:])
    assert not features_path(place.model, ONE).exists()
    assert len(list_experts(place.model)) == 2


def test_the_last_one_leaves_the_foundation_alone(trained_workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(trained_workspace.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    for name in (ONE, TWO):
        remove_expert(place.model, name)
    model = load_mixture(place.model, weights_root=place.weights)
    assert model.experts == ()
    assert model.router is None


def test_the_list_names_classes_view_and_share(enlarged: Workspace) -> None:
    first, _, last = list_experts(enlarged.model)
    assert (first.dataset, first.joined, last.dataset, last.joined) == (ONE, "with the gate", THREE, "later")
    assert "ball" in first.classes
    assert 0 <= last.answers <= 1


def test_joining_twice_gives_the_same_gate(enlarged: Workspace, tmp_path: Path, cheap_claims: ClaimSettings) -> None:
    shutil.copytree(enlarged.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    remove_expert(place.model, THREE)
    add_expert(place, place.model, place.raw(THREE), claims=cheap_claims)
    for name in ("gate.safetensors", "gate.json"):
        again, first = (added_folder(where.model, THREE) / name for where in (place, enlarged))
        assert again.read_bytes() == first.read_bytes()


def test_what_cannot_join_is_refused(enlarged: Workspace, trained_workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has an expert Dataset003_Three already"):
        add_expert(enlarged, enlarged.model, enlarged.raw(THREE))
    with pytest.raises(DatasetError, match="has no expert Dataset009_Nobody; it has: Dataset001_One"):
        remove_expert(enlarged.model, "Dataset009_Nobody")
    shutil.copytree(trained_workspace.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    path = place.expert(THREE) / "expert.json"
    card = ExpertCard.load(path)
    card.model_copy(update={"foundation_sha256": "0" * 64}).save(path)
    with pytest.raises(StaleCacheError, match="finetune it on that one"):
        add_expert(place, place.model, place.raw(THREE))
    card.model_copy(update={"channel": 1}).save(path)
    with pytest.raises(DatasetError, match="looks at channel 1"):
        add_expert(place, place.model, place.raw(THREE))
    features_path(place.model, TWO).unlink()
    card.save(path)
    with pytest.raises(DatasetError, match="keeps no features of Dataset002_Two"):
        add_expert(place, place.model, place.raw(THREE))
    assert ModelCard.load(place.model / "moe.json") == ModelCard.load(trained_workspace.model / "moe.json")


def test_an_imported_model_is_not_overwritten(trained_workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(trained_workspace.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    (place.model / "experts").mkdir()
    with pytest.raises(PipelineError, match="holds an imported model"):
        train_gate(place, [place.raw(ONE)], [], GateOptions(synthetic=0))


def test_an_updated_expert_is_as_if_it_was_removed_and_added_again(
    trained_workspace: Workspace, tmp_path: Path, cheap_claims: ClaimSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained_workspace.root, tmp_path / "ws", symlinks=True)
    place = Workspace(tmp_path / "ws")
    raw, model = place.raw(ONE), place.model
    shutil.rmtree(place.raw(TWO))
    shutil.rmtree(place.embeddings(TWO))
    finetune(place, raw, FinetuneOptions(epochs=1, click_proposer=None, overwrite=True, learning_rate=3e-3))
    with pytest.raises(StaleCacheError, match=f"renew it with `moe experts update {ONE}`"):
        load_mixture(model, weights_root=place.weights)
    with pytest.raises(DatasetError, match=f"has an expert {ONE} already; renew it with `moe experts update {ONE}`"):
        add_expert(place, model, raw)
    with pytest.raises(DatasetError, match=f"has no expert {THREE}; it has: {ONE}, {TWO}"):
        update_expert(place, model, place.raw(THREE))
    shutil.copytree(place.root, tmp_path / "by_hand", symlinks=True)
    (model / "notes.txt").write_text("whose ever")
    learnt: list[Any] = []
    learn = joining._learn

    def keep(*told: Any) -> Any:
        learnt.append(learn(*told))
        return learnt[-1]

    with monkeypatch.context() as patched:
        patched.setattr(joining, "_learn", keep)
        card = update_expert(place, model, raw, claims=cheap_claims)
    assert card.outputs == ("others", ONE)
    assert (model / "notes.txt").read_text() == "whose ever"

    with monkeypatch.context() as patched:
        patched.setattr(joining, "_learn", lambda *_: learnt[0])
        patched.setattr(joining, "save_features", disk_is_full)
        kept = files_of(model)
        with pytest.raises(OSError, match="no space"):
            update_expert(place, model, raw, claims=cheap_claims)
        assert files_of(model) == kept

    by_hand = Workspace(tmp_path / "by_hand")
    remove_expert(by_hand.model, ONE)
    add_expert(by_hand, by_hand.model, by_hand.raw(ONE), claims=cheap_claims)
    for name in ("gate.safetensors", f"added/{ONE}/gate.safetensors", f"added/{ONE}/gate.json"):
        assert (model / name).read_bytes() == (by_hand.model / name).read_bytes()
    after = load_mixture(by_hand.model, weights_root=place.weights)
    assert [expert.name for expert in after.experts] == [TWO, ONE]
    assert after.router is not None
    features = features_of(by_hand, TWO)
    earlier = load_mixture(trained_workspace.model, weights_root=place.weights).router
    assert earlier is not None
    assert torch.equal(after.router.weights(features)[:, 1], earlier.weights(features)[:, 2])


def disk_is_full(*_: object) -> None:
    raise OSError("no space")
