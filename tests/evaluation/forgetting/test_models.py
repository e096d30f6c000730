from moe_pipeline.evaluation.forgetting.models import ComparedModel, load_compared_models
from moe_pipeline.workspace import Workspace


def test_columns_share_one_foundation_and_name_what_they_see(trained_workspace: Workspace) -> None:
    models = load_compared_models(trained_workspace, trained_workspace.model, "cpu")
    names = ["general", "general in expert's view", "Dataset001_One", "Dataset002_Two", "moe"]
    assert [model.name for model in models] == names
    foundations = {id(one.foundation) for model in models for one in (model.everywhere, *model.by_set.values()) if one}
    assert len(foundations) == 1
    assert models[0].view == "1.5 mm, 32 voxels"
    assert models[1].model_for("elsewhere") is None
    assert models[4].model_for("elsewhere") is models[4].everywhere


def test_an_answer_is_known_by_all_that_made_it(trained_workspace: Workspace) -> None:
    general, _, one, two, moe = load_compared_models(trained_workspace, trained_workspace.model, "cpu")
    identities = [model.identity("Dataset001_One") for model in (general, one, two, moe)]
    assert len(set(identities)) == 4
    again = load_compared_models(trained_workspace, trained_workspace.model, "cpu")
    assert [model.identity("Dataset001_One") for model in (again[0], *again[2:])] == identities
    other_gate = ComparedModel(moe.name, moe.view, moe.everywhere, gate="another")
    assert other_gate.identity("Dataset001_One") != identities[-1]


def test_experts_may_answer_their_own_sets_only(trained_workspace: Workspace) -> None:
    place = trained_workspace
    general, _, one, two, moe = load_compared_models(place, place.model, "cpu", experts_everywhere=False)
    assert general.model_for("other") is not None
    assert moe.model_for("other") is not None
    assert one.model_for("Dataset001_One") is not None
    assert one.model_for("Dataset002_Two") is None
    assert two.model_for("Dataset001_One") is None
    everywhere = load_compared_models(place, place.model, "cpu")
    assert everywhere[2].identity("Dataset001_One") == one.identity("Dataset001_One"), "what is known is not lost"
