import math

import torch

from moe_pipeline.model.foundation import Candidates
from moe_pipeline.training.engine.losses import (
    choice_loss,
    dice_loss,
    imitation_loss,
    interaction_loss,
    iou_of_logits,
    mask_loss,
    occupancy,
    size_class,
)


def test_occupancy_is_the_filled_fraction_of_each_voxel() -> None:
    target = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    target[0, 0, :2, :2, 0] = True  # half of the first 2x2x2 low-resolution voxel
    filled = occupancy(target, (2, 2, 2))
    assert filled.shape == (1, 1, 2, 2, 2)
    assert filled[0, 0, 0, 0, 0] == 0.5
    assert filled.sum() == 0.5


def test_dice_loss_of_sure_answers() -> None:
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 1, 4)
    right = torch.tensor([50.0, 50.0, -50.0, -50.0]).view_as(target)
    half = torch.tensor([50.0, -50.0, 50.0, -50.0]).view_as(target)
    assert dice_loss(right, target).item() < 1e-5
    assert math.isclose(dice_loss(half, target).item(), 0.5, abs_tol=1e-4)
    assert mask_loss(right, target).item() < mask_loss(half, target).item()


def test_iou_of_logits_by_hand() -> None:
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 1, 4)
    logits = torch.tensor([1.0, -1.0, 1.0, -1.0]).view_as(target)
    both = torch.cat([logits, 9 * target - 1], dim=1)  # a half right one, and the right one
    torch.testing.assert_close(iou_of_logits(both, target), torch.tensor([[1 / 3, 1.0]]))
    assert iou_of_logits(-torch.ones_like(target), torch.zeros_like(target)).item() == 1


def test_the_iou_head_is_punished_for_a_wrong_guess() -> None:
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
    logits, chosen = torch.tensor([9.0, -9.0]).view_as(target), torch.tensor([0])
    honest, wrong = (Candidates(logits, torch.tensor([[iou]]), chosen) for iou in (1.0, 0.0))
    difference = interaction_loss(wrong, target, 0.5) - interaction_loss(honest, target, 0.5)
    assert math.isclose(difference.item(), 0.5, abs_tol=1e-6)


def test_each_first_mask_learns_its_own_sizes() -> None:
    target = torch.zeros(3, 1, 10, 10, 10)
    for row, n_voxels in enumerate((4, 20, 300)):  # 0.4, 2 and 30 % of the cube
        target[row].view(-1)[:n_voxels] = 1
    assert size_class(target, 3).tolist() == [0, 1, 2]
    logits = torch.zeros(3, 4, 10, 10, 10, requires_grad=True)
    candidates = Candidates(logits, torch.full((3, 4), 0.5), torch.tensor([3, 1, 0]))
    interaction_loss(candidates, target, 0.2).backward()
    assert logits.grad is not None
    touched = logits.grad.flatten(2).abs().sum(2) > 0
    assert touched.tolist() == [[False, True, False, False], [False, False, True, False], [True, False, False, False]]


def test_the_choice_learns_which_mask_is_best() -> None:
    target = torch.zeros(1, 1, 1, 1, 2)
    target[..., 0] = 1
    logits = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).view(1, 4, 1, 1, 2)  # the third is right
    preference = torch.zeros(1, 3, requires_grad=True)
    interaction_loss(Candidates(logits, torch.zeros(1, 4), torch.tensor([1]), preference), target, 1.0).backward()
    assert preference.grad is not None
    assert (preference.grad[0] < 0).tolist() == [False, True, False]
    sure = torch.tensor([[-9.0, 9.0, -9.0]])
    assert choice_loss(sure, torch.tensor([[0.5, 1.0, 0.0]])).item() < 0.01


def test_only_the_masks_that_compete_learn_their_iou() -> None:
    target = torch.zeros(2, 1, 4, 4, 4)
    iou = torch.full((2, 4), 0.5, requires_grad=True)
    candidates = Candidates(-torch.ones(2, 4, 4, 4, 4), iou, torch.tensor([2, 0]))
    interaction_loss(candidates, target, 1.0).backward()
    assert iou.grad is not None
    assert iou.grad.bool().tolist() == [[False, True, True, True], [True, False, False, False]]


def test_balance_weighs_small_objects_up() -> None:
    target = torch.zeros(1, 1, 1, 1, 100)
    target[..., 0] = 1.0  # 1 %: weighed 0.5 / 0.01 = 50 times
    logits = torch.zeros_like(target)
    plain, balanced = mask_loss(logits, target), mask_loss(logits, target, balance=1.0)
    assert math.isclose((balanced - plain).item(), 50 * math.log(2) / 100, rel_tol=1e-4)


def test_an_answer_like_the_teachers_has_nothing_to_learn_and_only_masks_that_compete_are_compared() -> None:
    torch.manual_seed(0)
    taught = Candidates(torch.randn(2, 4, 3, 3, 3), torch.rand(2, 4), torch.tensor([2, 0]), torch.randn(2, 3))
    same = taught.logits.clone().requires_grad_()
    imitation_loss(Candidates(same, taught.iou, taught.chosen, taught.preference), taught, 0.2).backward()
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-5
    other = torch.zeros_like(same).requires_grad_()
    imitation_loss(Candidates(other, taught.iou, taught.chosen, taught.preference), taught, 0.2).backward()
    assert other.grad is not None
    touched = other.grad.flatten(2).abs().sum(2) > 0
    assert touched.tolist() == [[False, True, True, True], [True, False, False, False]]


def test_an_iou_that_is_guessed_otherwise_than_the_teachers_costs_its_square() -> None:
    logits, chosen = torch.zeros(1, 1, 1, 1, 2), torch.tensor([0])
    taught, other = (Candidates(logits, torch.tensor([[iou]]), chosen) for iou in (0.75, 0.25))
    difference = imitation_loss(other, taught, 0.4) - imitation_loss(taught, taught, 0.4)
    assert math.isclose(difference.item(), 0.4 * 0.25, abs_tol=1e-6)
