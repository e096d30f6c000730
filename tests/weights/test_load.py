import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.errors import CheckpointError, PipelineError
from moe_pipeline.files import sha256_file
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.presets import load_preset
from moe_pipeline.records.foundation import FoundationCard, View
from moe_pipeline.weights import (
    import_checkpoint,
    list_foundations,
    verify_foundation,
)
from moe_pipeline.weights.load import read_config
from moe_pipeline.weights.store import find_foundation, save_foundation
from tests.phantoms.foundations import load_sam, save_tiny
from tests.phantoms.segvol import build_segvol


def save(foundation: SamFoundation, folder: Path) -> Path:
    return save_tiny(foundation, folder, View(spacing_mm=2, size_voxels=16))


def test_round_trip_is_exact_and_frozen(tiny: SamFoundation, tmp_path: Path) -> None:
    path = save(tiny, tmp_path)
    for loaded in (load_sam(path), load_sam("tiny", weights_root=tmp_path)):
        assert all(torch.equal(loaded.state_dict()[name], value) for name, value in tiny.state_dict().items())
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert not loaded.training
        assert torch.equal(loaded.mask_decoder.positions, tiny.mask_decoder.positions)


def test_loading_draws_no_random_numbers(tiny: SamFoundation, tmp_path: Path) -> None:
    path = save(tiny, tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_sam(path)
    assert torch.equal(torch.rand(3), expected)


def test_loading_does_not_load_torchs_compiler(tmp_path: Path) -> None:
    segvol, view = build_segvol(), View(spacing_mm=2, size_voxels=(80, 32, 12))
    save_foundation(segvol, tmp_path, name="flat", source="test", licence="none", preset="segvol", view=view)
    code = (
        "import sys\n"
        "from moe_pipeline.weights import load_foundation\n"
        "[load_foundation(name) for name in sys.argv[1:]]\n"
        "sys.exit('sympy' in sys.modules or 'torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "nano", str(tmp_path / "flat.safetensors")]
    assert subprocess.run(command, check=False).returncode == 0


def test_changed_file_is_refused(tiny: SamFoundation, tmp_path: Path) -> None:
    path = save(tiny, tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors: sha256 is .*, expected"):
        load_sam(path)
    with pytest.raises(CheckpointError, match="sha256"):
        verify_foundation("tiny", tmp_path)


def test_official_file_imported_and_loaded_directly_are_the_same(official: Path, tmp_path: Path) -> None:
    config = json.loads((official / "config.json").read_text())
    card = import_checkpoint(official / "checkpoint.pth", tmp_path, name="small", config=config, licence="CC0")
    assert card.source_sha256 == sha256_file(official / "checkpoint.pth")
    assert verify_foundation("small", tmp_path) == card
    assert "small" in [stored.card.name for stored in list_foundations(tmp_path)]
    imported = load_sam("small", weights_root=tmp_path)
    direct = load_sam(official / "checkpoint.pth", config)
    assert imported.config == direct.config == FoundationConfig.from_dict(config)
    assert all(torch.equal(direct.state_dict()[name], value) for name, value in imported.state_dict().items())
    with pytest.raises(CheckpointError, match="small exists already"):
        import_checkpoint(official / "checkpoint.pth", tmp_path, name="small", config=config)


def test_an_imported_view_has_the_encoders_size(official: Path, tmp_path: Path) -> None:
    config = json.loads((official / "config.json").read_text())
    card = import_checkpoint(official / "checkpoint.pth", tmp_path, name="small", config=config)
    assert (card.view.size_voxels, card.view.spacing_mm) == ((64,) * 3, (1.5,) * 3)


def test_a_card_whose_view_does_not_fit_its_encoder_is_refused(tiny: SamFoundation, tmp_path: Path) -> None:
    path = save(tiny, tmp_path)
    card = FoundationCard.load(path.with_suffix(".json"))
    card.model_copy(update={"view": View(spacing_mm=2, size_voxels=128)}).save(path.with_suffix(".json"))
    for check in (load_sam, verify_foundation):
        with pytest.raises(
            CheckpointError, match=r"tiny\.safetensors: its view has 128 voxels, but its encoder takes 16"
        ):
            check(path)


def test_official_file_of_other_sizes_lists_the_difference(official: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"of another shape: .*bias \(96,\), expected \(768,\)"):
        import_checkpoint(official / "checkpoint.pth", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bf16_keeps_norms_and_result_in_fp32(official: Path) -> None:
    config = json.loads((official / "config.json").read_text())
    reference = np.load(official / "reference.npz")
    foundation = load_sam(official / "checkpoint.pth", config, dtype=torch.bfloat16)
    encoder = foundation.image_encoder
    assert encoder.blocks[0].mlp.lin1.weight.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert encoder.blocks[0].norm1.weight.dtype == torch.float32  # type: ignore[union-attr]
    embedding = encoder(torch.from_numpy(reference["image_q"]).float()[None, None] / 32)
    assert embedding.dtype == torch.float32
    expected = torch.from_numpy(reference["image_embedding"])
    assert ((embedding - expected).norm() / expected.norm()).item() < 0.05


def test_bad_configuration_is_named(official: Path) -> None:
    with pytest.raises(CheckpointError, match=r"invalid configuration: encoder: unknown keys: colour"):
        load_sam(official / "checkpoint.pth", {"encoder": {"colour": 1}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not readable as JSON"),
        ("[1]", "invalid configuration"),
        ('{"encoder": {}}', "invalid configuration: encoder: .*img_size"),
    ],
)
def test_a_faulty_configuration_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "sizes.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=rf"sizes\.json: {message}"):
        read_config(path)


def test_contradicting_configuration_is_refused(tiny: SamFoundation, official: Path, tmp_path: Path) -> None:
    path = save(tiny, tmp_path)
    with pytest.raises(CheckpointError, match="its card states other sizes"):
        load_sam(path, json.loads((official / "config.json").read_text()))


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_absent_device_is_an_error(tiny: SamFoundation, tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match=r"(there are|sees only): cpu"):
        load_sam(save(tiny, tmp_path), device=name)


LIMIT_BYTES = 16_000_000


def test_nano_comes_with_the_package_and_fits_its_preset() -> None:
    stored = find_foundation("nano")
    preset = load_preset("nano")
    foundation = load_sam("nano")
    assert stored.builtin
    assert foundation.config == preset.config
    assert stored.card.view == preset.view
    assert stored.path.stat().st_size <= LIMIT_BYTES
    assert not any(parameter.requires_grad for parameter in foundation.parameters())


def test_nano_finds_a_small_bright_ball_that_it_is_shown() -> None:
    """A sanity check that the weights are trained: one click on an obvious object gives most of it.

    A small one: what is larger than some 2 % of the cube comes out too small, as its card says.
    """
    foundation = load_sam("nano")
    size = foundation.config.encoder.img_size
    place = torch.cartesian_prod(*[torch.arange(size)] * 3).reshape(size, size, size, 3).float()
    ball = ((place - 31.5).square().sum(-1) < 6**2)[None, None]
    noise = torch.randn(ball.shape, generator=torch.Generator().manual_seed(0))
    image = ball * 2.0 + 0.3 * noise
    image = (image - image.mean()) / image.std()
    with torch.no_grad():
        embedding = foundation.image_encoder(image)
        low = torch.zeros(1, 1, *[foundation.config.low_resolution_size] * 3)
        points = torch.tensor([[[31.0, 33.0, 30.0]]]), torch.ones(1, 1, dtype=torch.long)
        sparse, dense = foundation.prompt_encoder(points=points, mask=low)
        logits, _ = foundation.mask_decoder(embedding, sparse, dense)
    mask = torch.nn.functional.interpolate(logits, size=(size, size, size), mode="trilinear") > 0
    overlap = 2 * (mask & ball).sum() / (mask.sum() + ball.sum())
    assert overlap > 0.7
