from pathlib import Path

import pytest
import torch

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import sha256_file
from moe_pipeline.weights.tensors import load_metadata, load_tensors, save_tensors


def test_round_trip_keeps_bits_types_and_texts(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 2, dtype=torch.float16),
        "brain": torch.randn(5, dtype=torch.bfloat16),
        "transposed": torch.randn(3, 4).t(),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
    }
    tensors["shared"] = tensors["transposed"]
    path = tmp_path / "weights.safetensors"
    digest = save_tensors(path, tensors, {"made_by": "a test"})
    assert digest == sha256_file(path)
    loaded = load_tensors(path, digest)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert load_metadata(path) == {"made_by": "a test"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


def test_another_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: sha256 is [0-9a-f]{64}, expected 0000"):
        load_tensors(path, "0" * 64)


@pytest.mark.parametrize("keep", [0, 4, 60, 200])
def test_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_tensors(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such weights file"):
        load_tensors(tmp_path / "nowhere.safetensors")
