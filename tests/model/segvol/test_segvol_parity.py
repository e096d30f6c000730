"""SegVol's network against arrays that the original code computed with the same weights."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from tests.phantoms.segvol import Arrays

TOLERANCE = 2e-4
CASES = [
    "point1",
    "point4",
    "box",
    "box_absent",
    "text",
    "point4_text",
    "box_text",
    "point4_box",
    "point4_box_text",
    "none",
]


def largest_difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).detach().abs().max()) if found.numel() else 0.0


def prompts(reference: Arrays, case: str) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]:
    points = (reference[f"{case}/points"], reference[f"{case}/labels"]) if f"{case}/points" in reference else None
    return points, reference.get(f"{case}/box"), reference["text_embedding"] if "text" in case else None


@torch.no_grad()
def test_image_encoder(segvol: SegVolFoundation, segvol_reference: Arrays, segvol_image: Tensor) -> None:
    encoder = segvol.image_encoder
    tokens = encoder.patch_embedding(segvol_image)
    assert largest_difference(tokens, segvol_reference["inter_patch_embed"]) <= TOLERANCE
    assert largest_difference(encoder.blocks[0](tokens), segvol_reference["inter_block0"]) <= TOLERANCE
    assert largest_difference(encoder(segvol_image), segvol_reference["image_embedding"]) <= TOLERANCE
    with torch.enable_grad():  # another way of attending
        assert largest_difference(encoder(segvol_image), segvol_reference["image_embedding"]) <= TOLERANCE


@torch.no_grad()
def test_positions_and_words(segvol: SegVolFoundation, segvol_reference: Arrays) -> None:
    assert largest_difference(segvol.prompt_encoder.dense_positions(), segvol_reference["dense_pe"]) <= TOLERANCE
    ids, known = segvol_reference["clip/input_ids"], segvol_reference["clip/attention_mask"]
    pooled = segvol.text_encoder.pool(ids, known)
    assert largest_difference(pooled, segvol_reference["clip/pooler_output"]) <= TOLERANCE
    assert largest_difference(segvol.text_encoder(ids, known), segvol_reference["clip/text_embedding"]) <= TOLERANCE
    with pytest.raises(ValueError, match="16 words at most"):
        segvol.text_encoder(ids.repeat(1, 3), known.repeat(1, 3))


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_case(segvol: SegVolFoundation, segvol_reference: Arrays, segvol_config: SegVolConfig, case: str) -> None:
    points, box, text = prompts(segvol_reference, case)
    sparse, dense = segvol.prompt_encoder(points, box, text)
    logits, iou = segvol.mask_decoder(segvol_reference["image_embedding"], sparse, dense, text)
    assert largest_difference(sparse, segvol_reference[f"{case}/sparse"]) <= TOLERANCE
    assert largest_difference(dense, segvol_reference[f"{case}/dense"]) <= TOLERANCE
    assert largest_difference(logits, segvol_reference[f"{case}/low_res_masks"]) <= TOLERANCE
    assert largest_difference(iou, segvol_reference[f"{case}/iou"]) <= TOLERANCE
    size = segvol_config.encoder.image_size
    whole = F.interpolate(logits, size=size, mode="trilinear", align_corners=False)
    plane = whole[0, 0, size[0] // 2]
    assert largest_difference(plane, segvol_reference[f"{case}/logits_plane"]) <= TOLERANCE
    if case == "box_text":
        assert largest_difference(whole, segvol_reference["box_text/logits"]) <= TOLERANCE


@torch.no_grad()
def test_three_masks(segvol: SegVolFoundation, segvol_reference: Arrays) -> None:
    points, box, text = prompts(segvol_reference, "point4_box_text")
    prompt = segvol.prompt_encoder(points, box, text)
    logits, iou = segvol.mask_decoder(segvol_reference["image_embedding"], *prompt, text, multimask_output=True)
    assert largest_difference(logits, segvol_reference["point4_box_text_multimask/low_res_masks"]) <= TOLERANCE
    assert largest_difference(iou, segvol_reference["point4_box_text_multimask/iou"]) <= TOLERANCE


@pytest.mark.parametrize("with_gradients", [False, True])
def test_prompts_on_two_embeddings(segvol: SegVolFoundation, segvol_reference: Arrays, with_gradients: bool) -> None:
    embedding = segvol_reference["image_embedding"]
    embeddings = torch.cat([embedding, embedding.flip(4)])  # the fixture's second one is the first, mirrored
    points, _, _ = prompts(segvol_reference, "batch2")
    with torch.set_grad_enabled(with_gradients):
        sparse, dense = segvol.prompt_encoder(points)
        logits, iou = segvol.mask_decoder(embeddings, sparse, dense)
    assert largest_difference(sparse, segvol_reference["batch2/sparse"]) <= TOLERANCE
    assert largest_difference(logits, segvol_reference["batch2/low_res_masks"]) <= TOLERANCE
    assert largest_difference(iou, segvol_reference["batch2/iou"]) <= TOLERANCE


def test_decoder_gradients(segvol: SegVolFoundation, segvol_reference: Arrays) -> None:
    points, box, text = prompts(segvol_reference, "box_text")
    prompt = segvol.prompt_encoder(points, box, text)
    logits, iou = segvol.mask_decoder(segvol_reference["image_embedding"], *prompt, text)
    target = (torch.linspace(-1, 1, logits.numel()) > 0).reshape(logits.shape).float()
    loss = ((logits.sigmoid() - target) ** 2).mean() + (iou**2).mean()
    assert loss.item() == pytest.approx(float(segvol_reference["grad_loss"]), abs=1e-5)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in segvol.mask_decoder.named_parameters()}
    expected = {k.removeprefix("grad_norm/"): v for k, v in segvol_reference.items() if k.startswith("grad_norm/")}
    assert expected.keys() == gradients.keys()
    for name, norm in expected.items():
        gradient = gradients[name]
        found = 0.0 if gradient is None else float(gradient.norm())
        assert found == pytest.approx(float(norm), rel=2e-4, abs=1e-5), name


@torch.no_grad()
def test_shapes_that_do_not_fit_are_named(
    segvol: SegVolFoundation, segvol_reference: Arrays, segvol_image: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"\(B, 1, 12, 32, 80\), got \(1, 1, 80, 32, 12\)"):
        segvol.image_encoder(segvol_image.transpose(2, 4))
    points, box, text = prompts(segvol_reference, "point4_box_text")
    assert points is not None
    assert box is not None
    assert text is not None
    for wrong in (
        ((points[0], points[1][:, :2]), None, None),
        (None, box.reshape(1, 2, 3), None),
        (None, None, text[0]),
        (points, box.repeat(2, 1), None),
    ):
        with pytest.raises(ValueError, match=r"must be|different numbers"):
            segvol.prompt_encoder(*wrong)


def test_all_norms_have_the_published_epsilon(segvol: SegVolFoundation) -> None:
    """The fixture does not show it of all of them: its tokens vary too much."""
    norms = [module for module in segvol.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 2 * 3 + 1 + 2 * 4 + 1 + 1 + 2 * 2 + 1
    assert {norm.eps for norm in norms} == {1e-5}


def test_sizes_are_read_back_and_checked() -> None:
    published = SegVolConfig()
    assert SegVolConfig.from_dict(published.to_dict()) == published
    assert published.encoder.grid == (8, 16, 16)
    assert published.geometry.crop_size == (256, 256, 32)  # (x, y, z)
    assert published.geometry.low_resolution_size == (64, 64, 32)
    with torch.device("meta"):
        network = SegVolFoundation(published)
    parts = {
        name: sum(value.numel() for value in part.state_dict().values()) for name, part in network.named_children()
    }
    unused = {"prompt_encoder": 13_388, "text_encoder": 77}  # mask branch, position_ids: not in this network
    assert {name: n + unused.get(name, 0) for name, n in parts.items()} == {
        "image_encoder": 87_388_416,
        "mask_decoder": 29_923_716,
        "prompt_encoder": 19_148,
        "text_encoder": 63_560_013,
    }
    for part, wrong, match in (
        ("encoder", {"patch_size": [4, 16, 15]}, "no multiple"),
        ("encoder", {"patch_size": [2, 16, 16]}, "no multiple of 4"),
        ("encoder", {"patches": 3}, "unknown keys: patches"),
        ("decoder", {"transformer_dim": 384}, "differ"),
        ("text", {"num_heads": 7}, "no multiple of 7"),
    ):
        with pytest.raises(ValueError, match=match):
            SegVolConfig.from_dict({"network": "segvol", part: wrong})
    with pytest.raises(ValueError, match="network must be segvol"):
        SegVolConfig.from_dict({})
