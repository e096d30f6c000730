"""The network against arrays that the original code computed with the same weights."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from moe_pipeline.model.sam.foundation import SamFoundation

TOLERANCE = 1e-5
CASES = ["point1", "point3", "point3_multimask", "point1_zeromask", "point3_mask", "mask_only", "none", "batch2"]
Reference = dict[str, Tensor]


def largest_difference(found: Tensor, expected: Tensor) -> float:
    assert torch.broadcast_shapes(found.shape, expected.shape) == found.shape
    return float((found - expected).abs().max()) if found.numel() else 0.0


def prompts(reference: Reference, case: str) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
    points = (reference[f"{case}/points"], reference[f"{case}/labels"]) if f"{case}/points" in reference else None
    masks = {
        "point3_mask": reference["mask_prompt"],
        "mask_only": reference["mask_prompt"],
        "point1_zeromask": torch.zeros_like(reference["mask_prompt"]),
    }
    return points, masks.get(case)


@torch.no_grad()
def test_embedding(small: SamFoundation, reference: Reference, image: Tensor) -> None:
    assert largest_difference(small.image_encoder(image), reference["image_embedding"]) <= TOLERANCE


@torch.no_grad()
def test_dense_positions(small: SamFoundation, reference: Reference) -> None:
    assert largest_difference(small.prompt_encoder.dense_positions(), reference["dense_pe"]) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_case(small: SamFoundation, reference: Reference, case: str) -> None:
    points, mask = prompts(reference, case)
    sparse, dense = small.prompt_encoder(points=points, mask=mask)
    multimask = case.endswith("_multimask")
    logits, iou = small.mask_decoder(reference["image_embedding"], sparse, dense, multimask_output=multimask)
    assert largest_difference(sparse, reference[f"{case}/sparse"]) <= TOLERANCE
    assert largest_difference(dense, reference[f"{case}/dense"]) <= TOLERANCE
    assert largest_difference(logits, reference[f"{case}/low_res_masks"]) <= TOLERANCE
    assert largest_difference(iou, reference[f"{case}/iou"]) <= TOLERANCE


@torch.no_grad()
def test_three_step_loop(small: SamFoundation, reference: Reference) -> None:
    logits = None
    coordinates, labels = reference["point3/points"], reference["point3/labels"]
    for n_clicks in (1, 2, 3):
        points = (coordinates[:, :n_clicks], labels[:, :n_clicks])
        previous = torch.zeros(1, 1, 32, 32, 32) if logits is None else logits
        sparse, dense = small.prompt_encoder(points=points, mask=previous)
        logits, iou = small.mask_decoder(reference["image_embedding"], sparse, dense)
    assert logits is not None
    assert largest_difference(logits, reference["loop3/low_res_masks"]) <= TOLERANCE
    assert largest_difference(iou, reference["loop3/iou"]) <= TOLERANCE
    full = F.interpolate(logits, size=(64, 64, 64), mode="trilinear", align_corners=False)
    expected = np.unpackbits(reference["loop3/full_mask_packed"].numpy()).astype(bool).reshape(64, 64, 64)
    assert ((full[0, 0] > 0).numpy() == expected).mean() > 0.9999


def test_decoder_gradients(small: SamFoundation, reference: Reference) -> None:
    sparse, dense = small.prompt_encoder(
        points=(reference["point3/points"], reference["point3/labels"]), mask=reference["mask_prompt"]
    )
    logits, iou = small.mask_decoder(reference["image_embedding"], sparse, dense)
    target = (torch.linspace(-1, 1, logits.numel()) > 0).reshape(logits.shape).float()
    loss = ((logits.sigmoid() - target) ** 2).mean() + (iou**2).mean()
    assert loss.item() == pytest.approx(float(reference["grad_loss"]), abs=1e-6)
    loss.backward()
    norms = {name: parameter.grad for name, parameter in small.mask_decoder.named_parameters()}
    checked = 0
    for name, expected in reference.items():
        if name.startswith("grad_norm/"):
            gradient = norms[name.removeprefix("grad_norm/")]
            found = 0.0 if gradient is None else float(gradient.norm())
            assert found == pytest.approx(float(expected), rel=1e-4, abs=1e-7), name
            checked += 1
    assert checked > 50
