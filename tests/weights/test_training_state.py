from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moe_pipeline.errors import CheckpointError
from moe_pipeline.weights.tensors import save_tensors
from moe_pipeline.weights.training_state import load_training_state, remove_training_state, save_training_state


def make_network(width: int = 4) -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, 2))
    groups: list[dict[str, Any]] = [
        {"params": network[0].parameters()},
        {"params": network[2].parameters(), "lr": 3e-3},
    ]
    return network, torch.optim.AdamW(groups, lr=1 / 3e3, betas=(0.9, 0.95))


def train(network: nn.Module, optimizer: torch.optim.Optimizer, n_steps: int, generator: torch.Generator) -> None:
    for _ in range(n_steps):
        loss = (network(torch.randn(5, 3, generator=generator)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    network, optimizer = make_network()
    generator = torch.Generator().manual_seed(1)
    train(network, optimizer, 3, generator)
    tensors = network.state_dict() | {"generator": generator.get_state()}
    save_training_state(path, tensors, [optimizer], {"epoch": 3, "best": 1 / 3, "history": [0.1, None]})
    train(network, optimizer, 4, generator)

    resumed, resumed_optimizer = make_network()
    loaded, metadata = load_training_state(path, [resumed_optimizer])
    again = torch.Generator()
    again.set_state(loaded.pop("generator"))
    resumed.load_state_dict(loaded)
    train(resumed, resumed_optimizer, 4, again)

    assert metadata == {"epoch": 3, "best": 1 / 3, "history": [0.1, None]}
    for name, tensor in weights(network).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    assert resumed_optimizer.param_groups[1]["lr"] == 3e-3


def test_fresh_optimizer_has_no_state_to_lose(tmp_path: Path) -> None:
    network, optimizer = make_network()
    save_training_state(tmp_path / "state.safetensors", network.state_dict(), [optimizer], {})
    tensors, metadata = load_training_state(tmp_path / "state.safetensors", [optimizer])
    assert tensors.keys() == network.state_dict().keys()
    assert metadata == {}


def test_state_of_another_network_is_refused(tmp_path: Path) -> None:
    network, optimizer = make_network()
    train(network, optimizer, 1, torch.Generator().manual_seed(1))
    save_training_state(tmp_path / "state.safetensors", network.state_dict(), [optimizer], {})
    with pytest.raises(CheckpointError, match=r"exp_avg of parameter 0 has shape \(4, 3\), expected \(5, 3\)"):
        load_training_state(tmp_path / "state.safetensors", [make_network(width=5)[1]])
    with pytest.raises(CheckpointError, match="its optimizer does not fit this network"):
        load_training_state(tmp_path / "state.safetensors", [torch.optim.AdamW(network.parameters())])
    with pytest.raises(CheckpointError, match="1 optimizers, expected 2"):
        load_training_state(tmp_path / "state.safetensors", [optimizer, optimizer])


def test_plain_weights_are_no_training_state(tmp_path: Path) -> None:
    save_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="holds no training state"):
        load_training_state(tmp_path / "weights.safetensors", [make_network()[1]])


def test_only_a_training_state_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    remove_training_state(path)
    network, optimizer = make_network()
    save_training_state(path, network.state_dict(), [optimizer], {})
    remove_training_state(path)
    assert not path.exists()
    save_tensors(path, {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="was not written by moe; move it away"):
        remove_training_state(path)
    path.write_text("theirs")
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        remove_training_state(path)
    assert path.read_text() == "theirs"
