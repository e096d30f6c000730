import torch
from torch import Tensor, nn

from moe_pipeline.evaluation.forgetting.models import ComparedModel, EncodingMemory, load_compared_models
from moe_pipeline.workspace import Workspace


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images.mean((2, 3, 4))


def test_the_same_cube_is_encoded_once_until_it_is_forgotten() -> None:
    encoder = Counting()
    memory = EncodingMemory(encoder)
    one, other = torch.randn(1, 1, 4, 4, 4), torch.randn(1, 1, 4, 4, 4)
    first = memory(one)
    assert torch.equal(memory(one.clone()), first)
    assert not torch.equal(memory(other), first)
    assert torch.equal(memory(torch.cat([one, other]))[:1], first)  # another batch is another question
    assert encoder.calls == 3
    memory.forget()
    memory(one)
    assert encoder.calls == 4


def test_columns_share_one_foundation_and_name_what_they_see(trained_workspace: Workspace) -> None:
    models = load_compared_models(trained_workspace, trained_workspace.model, "cpu")
    names = ["general", "general in expert's view", "Dataset001_One", "Dataset002_Two", "moe"]
    assert [model.name for model in models] == names
    foundations = {id(mixture.foundation) for model in models for mixture in model.models()}
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
