import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.config import DecoderConfig, EncoderConfig, FoundationConfig, PromptConfig
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from moe_pipeline.training.engine.loop import LoopSettings
from moe_pipeline.training.pretrain import (
    DecoderPretrainTask,
    PaintingSources,
    PretrainOptions,
    PretrainSettings,
    PretrainTask,
    _command,
    _credits,
    _licence,
    pretrain,
    pretrain_foundation,
)
from moe_pipeline.weights.load import import_checkpoint, load_foundation
from moe_pipeline.weights.words import read_words
from tests.phantoms.label_maps import write_heads
from tests.phantoms.segvol import write_vocabulary

CPU = torch.device("cpu")
SETTINGS = PretrainSettings(
    volumes=1, painted_targets=2, max_clicks=2, sequences=2, validation_volumes=1, validation_clicks=2
)
LOOP = LoopSettings(steps=4, learning_rate=1e-3, warmup_steps=1, validate_every=2, kernel_rate=3e-3)


def like_nano() -> SamFoundation:
    """Nano's kind of network, as small as synthetic volumes allow."""
    torch.manual_seed(0)
    return build_foundation(
        FoundationConfig(
            encoder=EncoderConfig(
                img_size=32,
                patch_size=8,
                embed_dim=192,
                depth=1,
                num_heads=2,
                out_chans=192,
                stem="conv",
                high_res_chans=16,
            ),
            prompt=PromptConfig(embed_dim=192, swap_dense_axes=False, click_field=True),
            decoder=DecoderConfig(transformer_dim=192, mlp_dim=32, num_heads=8, ranked_clicks=1),
        )
    )


def moved(before: dict[str, Tensor], foundation: SamFoundation) -> set[str]:
    return {name for name, tensor in foundation.named_parameters() if not torch.equal(tensor, before[name])}


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("label_maps")
    write_heads(folder)
    return folder


@pytest.mark.parametrize(("kind", "on_maps"), [(PretrainTask, True), (DecoderPretrainTask, False)])
def test_a_resumed_pretraining_ends_with_the_same_weights(
    kind: type[PretrainTask],
    on_maps: bool,
    label_maps: Path,
    whole_and_in_parts: Callable[..., tuple[dict[str, Tensor], ...]],
) -> None:
    sources = PaintingSources(label_maps if on_maps else None)
    expected, resumed = whole_and_in_parts(lambda: kind(like_nano(), SETTINGS, CPU, sources), LOOP, 2)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.items())


@pytest.mark.parametrize(("kind", "parts"), [(PretrainTask, {"image_encoder"}), (DecoderPretrainTask, set())])
def test_a_frozen_encoder_stays_bit_for_bit(kind: type[PretrainTask], parts: set[str], tmp_path: Path) -> None:
    foundation = like_nano()
    before = {name: tensor.detach().clone() for name, tensor in foundation.named_parameters()}
    task = kind(foundation, SETTINGS, CPU)
    result = pretrain(task, LOOP, tmp_path, CPU)
    task.close()
    changed = {name.partition(".")[0] for name in moved(before, foundation)}
    assert changed == {"prompt_encoder", "mask_decoder"} | parts
    assert result.steps == LOOP.steps
    assert {"dice_1", "dice_2", "iou_r"} <= set(result.rows[-1])


def test_flat_crops_and_boxes_are_learnt_from_too(tmp_path: Path) -> None:
    """A small network of SegVol's kind, as a file states it; then it is imported with a vocabulary."""
    n_words = write_vocabulary(tmp_path / "words")
    sizes = {
        "network": "segvol",
        "published_positions": False,
        "encoder": {"image_size": [16, 32, 32], "patch_size": [4, 8, 8], "width": 48, "depth": 1, "num_heads": 2},
        "decoder": {"transformer_dim": 48, "mlp_dim": 32, "iou_head_hidden_dim": 16},
        "text": {"vocab_size": n_words, "width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16},
    }
    view = {"spacing_mm": [1.5, 1.5, 3], "size_voxels": [32, 32, 16], "normalisation": "zscore_clipped"}
    preset = tmp_path / "small.json"
    preset.write_text(json.dumps({"like": "segvol", "config": sizes, "view": view}))
    out = tmp_path / "out"
    made = pretrain_foundation(out, PretrainOptions(preset=str(preset), name="small", steps=4, precision="fp32"))
    torch.manual_seed(0)
    before = SegVolFoundation(SegVolConfig.from_dict(sizes)).state_dict()
    after = load_foundation(out / "small.safetensors").state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {f"prompt_encoder.point_embeddings.{kind}.weight" for kind in range(4)} <= moved  # both corners of boxes
    assert not any(name.startswith("text_encoder.") for name in moved)
    card = import_checkpoint(out / "small.safetensors", tmp_path / "weights", tokenizer=tmp_path / "words")
    assert (card.preset, card.view, card.config, card.licence) == (made.preset, made.view, made.config, "Apache-2.0")
    assert card.training["samples"] == 12
    assert read_words(tmp_path / "weights" / "small.safetensors").encode(["liver"])[0].shape[0] == 1
    preset.write_text(json.dumps({"like": "nobody", "config": sizes, "view": view}))
    with pytest.raises(CheckpointError, match="no preset 'nobody'; there are: nano"):
        pretrain_foundation(out, PretrainOptions(preset=str(preset), name="small"))


def test_validation_is_the_mean_over_drawn_volumes_and_held_out_label_maps(label_maps: Path) -> None:
    foundation = like_nano()
    of_both = PretrainTask(foundation, SETTINGS, CPU, PaintingSources(label_maps)).validate()
    of_drawn = PretrainTask(foundation, SETTINGS, CPU).validate()
    assert of_both["drawn_1"] == of_drawn["dice_1"]
    for click in (1, 2):
        mean = (of_both[f"drawn_{click}"] + of_both[f"anatomy_{click}"]) / 2
        assert of_both[f"dice_{click}"] == pytest.approx(mean)
    assert of_both["score"] == pytest.approx((of_both["dice_1"] + of_both["dice_2"]) / 2)
    assert "drawn_1" not in of_drawn


def test_the_card_names_whose_label_maps_it_learnt_from(label_maps: Path) -> None:
    assert _credits(label_maps) == [
        {"title": "boxes", "licence": "CC0-1.0"},
        {"title": "cubes", "licence": "MIT"},
    ]
    assert _licence(label_maps) == "Apache-2.0; learnt from label maps under CC0-1.0, MIT"
    assert _licence(None) == "Apache-2.0"


def test_the_card_names_the_command_with_every_option_that_has_a_value() -> None:
    options = PretrainOptions(max_minutes=5, steps=9, frozen_encoder=True, start="nano", label_maps=Path("/here/maps"))
    assert _command(options) == (
        "moe pretrain --preset nano --name nano --max-minutes 5 --steps 9 --learning-rate 0.0008 --precision bf16 "
        "--seed 0 --device cpu --start nano --frozen-encoder --label-maps maps --painters 1"
    )
    assert _command(PretrainOptions()).endswith("--seed 0 --device cpu --painters 1")
