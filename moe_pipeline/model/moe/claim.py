"""The claim: how sure it is that the expert whom the gate would ask does no worse than the general one.

Pooled features of an image hardly tell a click on an organ from one beside it, or a painted image from a real one. What
both decoders make of the click, and where the expert would have clicked by itself, do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_pipeline.model.geometry import Sides
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, OODDetector

EVIDENCE = (
    "heat_at_click",
    "heat_of_hottest",
    "presence",
    "heat_in_mask",
    "expert_at_click",
    "expert_certainty",
    "expert_iou",
    "general_at_click",
    "general_certainty",
    "general_iou",
    "agreement",
    "size_ratio",
    "ood",
    "own_ood",
)
"""What a claim rests on; see `evidence`."""

_MOST = 4.0  # standard deviations that one number may count
_MOST_OF_TWO, _SHARE_OF_TWO = 6.0, 0.5  # the same of a product of two, and what it counts beside one number
_LITTLE = 1e-6
_OUTSIDE = -10.0  # logit where a decoder sees nothing
_OWN_OOD = EVIDENCE.index("own_ood")


@dataclass(frozen=True, slots=True)
class FirstMask:
    """A decoder's answer to the first click, in its own window.

    Attributes:
        logits: (*low), low resolution.
        iou: the decoder's own estimate.
        click: (3,) voxels of the window.
        spacing_mm: edges of a voxel along x, y and z.
        size: voxels of the window.
    """

    logits: Tensor
    iou: float
    click: Tensor
    spacing_mm: tuple[float, float, float]
    size: Sides

    @property
    def voxel(self) -> tuple[float, ...]:
        """Window voxels along the edges of a low-resolution voxel."""
        return tuple(side / low for side, low in zip(self.size, self.logits.shape, strict=True))

    @property
    def volume_ml(self) -> float:
        """Sum of the probabilities."""
        voxel_mm3 = prod(n * mm for n, mm in zip(self.voxel, self.spacing_mm, strict=True))
        return float(self.logits.sigmoid().sum()) * voxel_mm3 / 1000

    @property
    def certainty(self) -> float:
        """Mean |2 p - 1| inside the mask, weighted by p."""
        p = self.logits.sigmoid()
        return float(((2 * p - 1).abs() * p).sum() / p.sum().clamp(min=_LITTLE))

    @property
    def at_click(self) -> float:
        """Probability at the click."""
        x, y, z = _cell(self.click, self.voxel, self.logits.shape)
        return float(self.logits[x, y, z].sigmoid())


@dataclass(frozen=True, slots=True)
class ProposedClicks:
    """What an expert's click proposer makes of its window.

    Attributes:
        heat: (K, *G), chance of a click in each place.
        presence: (K,), chance that the window shows the class.
    """

    heat: Tensor
    presence: Tensor


def evidence(
    expert: FirstMask, general: FirstMask, proposal: ProposedClicks | None, ood_scores: tuple[float, float]
) -> Tensor:
    """What is known of one prompt before an expert may answer it.

    Args:
        expert: its first answer, in its own window.
        general: the general expert's, in the foundation's.
        proposal: of the expert's click proposer; NaN stands where there is none.
        ood_scores: how far the image is from the expert's own, over what its OOD detectors let pass: in the
            foundation's view, and in the expert's.

    Returns:
        (E,) float32, in the order of `EVIDENCE`.
    """
    heat = [float("nan")] * 4 if proposal is None else _heat(expert, proposal)
    overlap = agreement(expert, general)
    ratio = torch.tensor(expert.volume_ml + 1e-4).log() - torch.tensor(general.volume_ml + 1e-4).log()
    own = [expert.at_click, expert.certainty, expert.iou]
    theirs = [general.at_click, general.certainty, general.iou]
    distances = torch.tensor(ood_scores).clamp(min=_LITTLE).log().tolist()
    return torch.tensor([*heat, *own, *theirs, overlap, float(ratio), *distances])


def _heat(expert: FirstMask, proposal: ProposedClicks) -> list[float]:
    """The first four numbers, of the class whose heat is highest around the click."""
    sides = proposal.heat.shape[1:]
    around = functional.avg_pool3d(proposal.heat[:, None], 3, stride=1, padding=1, divisor_override=1)[:, 0]
    x, y, z = _cell(expert.click, [n / side for n, side in zip(expert.size, sides, strict=True)], sides)
    here = around[:, x, y, z]  # (K,)
    k = int(here.argmax())
    n_x, n_y, n_z = sides
    mask = functional.adaptive_avg_pool3d(expert.logits[None, None], (n_x, n_y, n_z))[0, 0].sigmoid()
    inside = (proposal.heat[k] * mask).sum() / proposal.heat[k].sum().clamp(min=1e-9)
    hottest = here[k] / around[k].max().clamp(min=1e-9)
    return [float((here[k] + _LITTLE).log()), float(hottest), float(proposal.presence[k]), float(inside)]


def _cell(click: Tensor, edges: Sequence[float], shape: Sequence[int]) -> tuple[int, int, int]:
    """The cell of a coarse grid, each some voxels wide, that holds a click (3,)."""
    cell = ((click + 0.5) / torch.tensor(edges)).long().tolist()
    x, y, z = (min(max(at, 0), n - 1) for at, n in zip(cell, shape, strict=True))
    return x, y, z


def agreement(expert: FirstMask, general: FirstMask) -> float:
    """Soft Dice of both answers where both decoders look, on the finer one's low-resolution voxels."""
    fine, coarse = (expert, general) if prod(expert.spacing_mm) < prod(general.spacing_mm) else (general, expert)
    there, seen = _onto(coarse, fine)
    p, q = fine.logits.sigmoid() * seen, there.sigmoid() * seen
    return float(2 * (p * q).sum() / (p.sum() + q.sum()).clamp(min=_LITTLE))


def _onto(source: FirstMask, target: FirstMask) -> tuple[Tensor, Tensor]:
    """One window's logits on the low-resolution voxels of another, and where that window sees them: (*low) both."""
    axes = []
    for axis in range(3):
        centres = (torch.arange(target.logits.shape[axis]) + 0.5) * target.voxel[axis] - 0.5  # voxels of the target
        away_mm = (centres - target.click[axis]) * target.spacing_mm[axis]  # from the click, which both windows show
        voxels = away_mm / source.spacing_mm[axis] + source.click[axis]
        axes.append(2 * (voxels + 0.5) / source.size[axis] - 1)  # (l,), in (-1, 1) inside
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (*low, 3)
    seen = (place.abs() <= 1).all(-1)
    lifted = (source.logits - _OUTSIDE)[None, None]
    grid = place.flip(-1)[None].to(lifted)  # last axis first, as grid_sample wants it
    found = functional.grid_sample(lifted, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found[0, 0] + _OUTSIDE, seen


class ClaimHead(nn.Module):
    """Evidence -> chance that an expert does no worse than the general one, and from which chance on it may answer.

    What is unknown counts as average. Nothing is claimed where an OOD detector in the expert's own view does not know
    the image: there, other things tell it from other images than in the foundation's view.

    Args:
        width: channels of the embedding that the OOD detector looks at.
        ood_rank: its principal directions.
    """

    centre: Tensor
    scale: Tensor
    weight: Tensor
    threshold: Tensor

    def __init__(self, width: int, ood_rank: int) -> None:
        super().__init__()
        size = len(EVIDENCE)
        pairs = size * (size + 1) // 2
        self.ood_detector = OODDetector(N_IMAGE_GROUPS * width, ood_rank)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("weight", torch.zeros(size + pairs + 1))  # bias last
        self.register_buffer("threshold", torch.tensor(0.5))

    def terms(self, evidence: Tensor) -> Tensor:
        """What is weighted: standardised numbers, products of two of them, and a one for the bias.

        Args:
            evidence: (P, E).

        Returns:
            (P, E + E (E + 1) / 2 + 1).
        """
        values = ((evidence - self.centre) / self.scale).nan_to_num(0.0).clamp(-_MOST, _MOST)
        first, second = torch.triu_indices(values.shape[1], values.shape[1], device=values.device)
        products = (values[:, first] * values[:, second]).clamp(-_MOST_OF_TWO, _MOST_OF_TWO) * _SHARE_OF_TWO
        return torch.cat((values, products, torch.ones_like(values[:, :1])), dim=1)

    def forward(self, evidence: Tensor) -> Tensor:
        """Claims: (P, E) -> (P,) in (0, 1), 0 where the image is unlike the expert's own."""
        claims = (self.terms(evidence) @ self.weight).sigmoid()
        return torch.where(evidence[:, _OWN_OOD] > 0, 0.0, claims)
