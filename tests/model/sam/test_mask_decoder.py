import copy

import pytest
import torch
from torch import Tensor

from moe_pipeline.model.sam.foundation import SamFoundation

Prompts = tuple[Tensor, Tensor]


@pytest.fixture
def embedding() -> Tensor:
    return torch.randn(1, 48, 8, 8, 8, generator=torch.Generator().manual_seed(1))


def some_prompts(foundation: SamFoundation, n_prompts: int, *, with_mask: bool) -> Prompts:
    generator = torch.Generator().manual_seed(2)
    coordinates = 64 * torch.rand(n_prompts, 2, 3, generator=generator)
    labels = torch.randint(0, 2, (n_prompts, 2), generator=generator)
    mask = torch.randn(n_prompts, 1, 32, 32, 32, generator=generator) if with_mask else None
    sparse, dense = foundation.prompt_encoder(points=(coordinates, labels), mask=mask)
    return sparse, dense


def close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    return all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("with_mask", [True, False])
@torch.no_grad()
def test_prompts_get_the_same_bits_in_any_company(small: SamFoundation, embedding: Tensor, with_mask: bool) -> None:
    sparse, dense = some_prompts(small, 5, with_mask=with_mask)
    decoder = small.mask_decoder
    singles = [decoder(embedding, sparse[i : i + 1], dense[i : i + 1]) for i in range(5)]
    expected = (torch.cat([logits for logits, _ in singles]), torch.cat([iou for _, iou in singles]))
    assert expected[0].shape == (5, 1, 32, 32, 32)
    for form in (embedding, decoder.prepare(embedding), embedding.expand(5, -1, -1, -1, -1)):
        found = decoder(form, sparse, dense)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("with_mask", [True, False])
def test_with_and_without_gradients_it_is_the_same(small: SamFoundation, embedding: Tensor, with_mask: bool) -> None:
    prompts = some_prompts(small, 3, with_mask=with_mask)
    learning = small.mask_decoder(embedding, *prompts)
    with torch.no_grad():
        assert close(small.mask_decoder(embedding, *prompts), learning)
        assert close(small.mask_decoder(embedding, prompts[0], prompts[1].contiguous()), learning)


@torch.no_grad()
def test_each_prompt_may_have_its_own_embedding(small: SamFoundation) -> None:
    embeddings = torch.randn(3, 48, 8, 8, 8)
    sparse, dense = some_prompts(small, 3, with_mask=False)
    logits, iou = small.mask_decoder(embeddings, sparse, dense)
    for i in range(3):
        single = small.mask_decoder(embeddings[i : i + 1], sparse[i : i + 1], dense[i : i + 1])
        assert close((logits[i : i + 1], iou[i : i + 1]), single)


@torch.no_grad()
def test_multimask_gives_the_other_masks(small: SamFoundation, embedding: Tensor) -> None:
    logits, iou = small.mask_decoder(embedding, *some_prompts(small, 2, with_mask=True), multimask_output=True)
    assert logits.shape == (2, 3, 32, 32, 32)
    assert iou.shape == (2, 3)


@pytest.mark.parametrize("learning", [True, False])
def test_no_prompts_give_no_masks(small: SamFoundation, embedding: Tensor, learning: bool) -> None:
    with torch.set_grad_enabled(learning):
        prompts = some_prompts(small, 0, with_mask=True)
        for multimask, n_masks in ((False, 1), (True, 3)):
            logits, iou = small.mask_decoder(embedding, *prompts, multimask_output=multimask)
            assert logits.shape == (0, n_masks, 32, 32, 32)
            assert iou.shape == (0, n_masks)


@pytest.mark.parametrize("prepared", [True, False])
def test_gradients_do_not_depend_on_what_is_shared(small: SamFoundation, embedding: Tensor, prepared: bool) -> None:
    sparse, dense = (part.detach() for part in some_prompts(small, 3, with_mask=False))
    decoder = small.mask_decoder
    image = decoder.prepare(embedding) if prepared else embedding
    shared = torch.autograd.grad(
        sum(part.square().mean() for part in decoder(image, sparse, dense)), parameters(decoder)
    )
    whole = decoder(embedding.expand(3, -1, -1, -1, -1), sparse, dense.contiguous())
    expected = torch.autograd.grad(sum(part.square().mean() for part in whole), parameters(decoder))
    for found, other in zip(shared, expected, strict=True):
        assert torch.allclose(found, other, atol=1e-5, rtol=1e-3)


def parameters(decoder: torch.nn.Module) -> list[Tensor]:
    unused = [f"output_hypernetworks_mlps.{i}." for i in (1, 2, 3)] + ["token_to_image.k_proj.bias"]
    return [value for name, value in decoder.named_parameters() if not any(part in name for part in unused)]


@torch.no_grad()
def test_a_copy_stands_alone(small: SamFoundation, embedding: Tensor) -> None:
    prompts = some_prompts(small, 1, with_mask=True)
    expert = copy.deepcopy(small.mask_decoder)
    expected = small.mask_decoder(embedding, *prompts)
    small.mask_decoder.positions.zero_()
    assert all(torch.equal(one, other) for one, other in zip(expert(embedding, *prompts), expected, strict=True))
    assert "positions" not in expert.state_dict()


def test_learns_under_autocast(small: SamFoundation, embedding: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, iou = small.mask_decoder(embedding, *some_prompts(small, 2, with_mask=True))
        (logits.float().square().mean() + iou.float().mean()).backward()
    gradient = small.mask_decoder.mask_tokens.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()


def test_embedding_of_another_shape_is_refused(small: SamFoundation) -> None:
    prompts = some_prompts(small, 1, with_mask=False)
    with pytest.raises(ValueError, match=r"embedding must have shape \(B, 48, 8, 8, 8\), got \(1, 48, 4, 4, 4\)"):
        small.mask_decoder(torch.zeros(1, 48, 4, 4, 4), *prompts)
