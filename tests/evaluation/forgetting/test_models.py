import torch
from torch import Tensor, nn

from moe_pipeline.evaluation.forgetting.models import Column, Remembering, load_columns
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
    memory = Remembering(encoder)
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
    columns = load_columns(trained_workspace, trained_workspace.model, "cpu")
    names = ["general", "general in expert's view", "Dataset001_One", "Dataset002_Two", "moe"]
    assert [column.name for column in columns] == names
    foundations = {id(model.foundation) for column in columns for model in column.models()}
    assert len(foundations) == 1
    assert columns[0].view == "1.5 mm, 32 voxels"
    assert columns[1].model_for("elsewhere") is None
    assert columns[4].model_for("elsewhere") is columns[4].everywhere


def test_an_answer_is_known_by_all_that_made_it(trained_workspace: Workspace) -> None:
    general, _, one, two, moe = load_columns(trained_workspace, trained_workspace.model, "cpu")
    identities = [column.identity("Dataset001_One") for column in (general, one, two, moe)]
    assert len(set(identities)) == 4
    again = load_columns(trained_workspace, trained_workspace.model, "cpu")
    assert [column.identity("Dataset001_One") for column in (again[0], *again[2:])] == identities
    other_gate = Column(moe.name, moe.view, moe.everywhere, gate="another")
    assert other_gate.identity("Dataset001_One") != identities[-1]
