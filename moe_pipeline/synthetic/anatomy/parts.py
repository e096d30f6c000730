"""What is to be segmented in a label map: structures, groups of them, lesions, and parts cut off by planes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.label_maps import StructureMap
from moe_pipeline.synthetic.targets import SMALLEST, TargetChoices, object_candidates

_FOLDED, _SOLID, _TISSUE, _PAIR, _ORGAN, _EVERYTHING, _LESION = 0.15, 1.0, 0.15, 0.15, 0.15, 0.1, 4.0  # weights
_CUT = 0.35  # of all targets
_ALONG_BODY, _ALONG_OBJECT = 0.4, 0.4  # of the cuts: across an axis of the body; across the object's own longest one
_AWRY = 0.15  # standard deviation of the normal's components
_KEPT = (0.3, 0.7)  # of the object


def choices_of(label_map: StructureMap) -> TargetChoices:
    """All that may be chosen in a volume painted on this map."""
    structures = list(range(1, len(label_map.numbers) + 1))
    place = dict(zip(label_map.numbers, structures, strict=True))
    rows = [
        ([structure], _FOLDED + (_SOLID - _FOLDED) * solidity)
        for structure, solidity in zip(structures, label_map.solidity, strict=True)
    ]
    rows += [(members, _TISSUE) for tissue in label_map.source.tissues if (members := label_map.structures(tissue))]
    pairs = ([place[side] for side in pair if side in place] for pair in label_map.source.pairs)
    rows += [(pair, _PAIR) for pair in pairs if len(pair) == 2]
    rows += [([organ], _ORGAN) for organ in labels.OTHER_ORGANS]
    rows += [(structures, _EVERYTHING), ([labels.LESION], _LESION), *object_candidates()]
    return TargetChoices.of(rows)


def cut_some(random: np.random.Generator, targets: Tensor) -> Tensor:
    """Cut a part off some of the targets, each (k, S, S, S) bool, by a plane; what would be too small stays whole."""
    cut = targets.clone()
    for mask in cut:
        share, numbers = random.random(), random.random(8)
        if share < _CUT:
            voxels = mask.nonzero()  # (n, 3)
            places = voxels.double().cpu().numpy()
            along = (places - places.mean(0)) @ _normal(numbers, places)
            kept = along > np.quantile(along, 1 - (_KEPT[0] + (_KEPT[1] - _KEPT[0]) * numbers[0]))
            if kept.sum() >= SMALLEST * mask.numel():
                x, y, z = voxels[torch.from_numpy(~kept).to(mask.device)].T
                mask[x, y, z] = False
    return cut


def _normal(numbers: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the plane: the object's longest axis, the axis of the body nearest to it, or any; (3,).

    Args:
        numbers: (8,) in [0, 1).
        places: (n, 3) voxels of the object.
    """
    kind, sign = numbers[1], np.sign(numbers[2] - 0.5) or 1.0
    any_direction = np.sqrt(-2 * np.log(1 - numbers[3:6])) * np.cos(2 * np.pi * numbers[[6, 7, 2]])  # Box and Muller
    own = np.linalg.eigh(np.cov(places.T) + 1e-9 * np.eye(3))[1][:, -1]
    body = np.eye(3)[np.abs(own).argmax()]
    if kind < _ALONG_BODY:
        direction = body + _AWRY * any_direction
    elif kind < _ALONG_BODY + _ALONG_OBJECT:
        direction = own + _AWRY * any_direction
    else:
        direction = any_direction
    unit: NDArray[np.float64] = sign * direction / max(np.linalg.norm(direction), 1e-9)
    return unit
