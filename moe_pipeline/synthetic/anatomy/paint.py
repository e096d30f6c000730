"""A volume painted on a real label map."""

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.label_maps import Atlas, StructureMap
from moe_pipeline.synthetic.anatomy.parts import choices_of, cut_some
from moe_pipeline.synthetic.anatomy.pose import draw_pose, look_up, paint_lesion, places_in_map, voxel_of_lesion
from moe_pipeline.synthetic.anatomy.tissues import draw_look
from moe_pipeline.synthetic.appearance import draw_background_means, render, with_objects
from moe_pipeline.synthetic.draws import Draws
from moe_pipeline.synthetic.frame import FieldOfView, draw_frame
from moe_pipeline.synthetic.scenes import paint_cells
from moe_pipeline.synthetic.shapes import paint_objects
from moe_pipeline.synthetic.targets import choose_targets
from moe_pipeline.synthetic.volumes import SyntheticBatch

_STREAM = 77  # of the random numbers that only these volumes need
_WITH_LESION, _WITH_OBJECTS, _OTHER_OBJECTS = 0.3, 0.3, 0.2
_ONE_TISSUE = 0.4  # of the volumes in which what nobody has outlined is of one kind
_TRIES = 8


@torch.no_grad()
def paint_anatomy(
    seed: int, index: int, size: int, atlas: Atlas, device: torch.device, *, targets: int
) -> SyntheticBatch:
    """Paint one volume, (1, 1, S, S, S), and `targets` objects in it, (1, targets, S, S, S).

    It depends on (seed, index) only. Up and forward are true; some are mirrored across.

    Args:
        seed: which endless set.
        index: which of the set.
        size: voxels per edge; even, at least 32.
        atlas: what to paint on.
        device: where to compute.
        targets: objects; where there are fewer, they repeat.
    """
    random = np.random.default_rng((seed, index, _STREAM))
    label_map = _draw_map(random, atlas)
    draws = Draws(seed, range(index, index + 1), size, device)
    frame = draw_frame(draws, size)
    for _ in range(_TRIES):
        painted = _lay_out(random, label_map, atlas, draws, frame)  # (1, S, S, S)
        if (frame.seen(painted)[painted > 0] != labels.OUTSIDE).any():
            break
    painted, around = _with_objects(random, draws, frame, painted)
    means, textured_as = _looks(random, draws, label_map, around)
    image = render(draws, frame, painted, means, textured_as)
    chosen = choose_targets(draws, frame.seen(painted), targets, choices_of(label_map))
    return SyntheticBatch(image[:, None], cut_some(random, chosen[0])[None])


def _draw_map(random: np.random.Generator, atlas: Atlas) -> StructureMap:
    """Sources with more maps more often, but less than in proportion."""
    shares = np.sqrt([len(maps) for maps in atlas.sources])
    maps = atlas.sources[int(random.choice(len(shares), p=shares / shares.sum()))]
    return maps[int(random.integers(len(maps)))]


def _lay_out(
    random: np.random.Generator, label_map: StructureMap, atlas: Atlas, draws: Draws, frame: FieldOfView
) -> Tensor:
    """Structures, perhaps a lesion, and what is between them: (1, S, S, S) uint8 labels."""
    lesions = atlas.lesions_for(label_map)
    lesion = lesions[int(random.integers(len(lesions)))] if lesions and random.random() < _WITH_LESION else None
    if lesion is not None:
        near = voxel_of_lesion(random, lesion, label_map)
    else:
        places = label_map.places[int(random.integers(len(label_map.places)))]
        near = places[int(random.integers(len(places)))].astype(np.float64)
    places_seen = places_in_map(draw_pose(random, frame.size, label_map, near), frame)  # (3, S**3)
    painted = look_up(label_map.voxels.to(places_seen.device), places_seen).reshape(frame.size, frame.size, frame.size)
    if lesion is not None:
        painted = paint_lesion(painted, places_seen, lesion, label_map)
    if label_map.source.unlabelled == "tissue":
        painted = torch.where(painted == 0, _other_organs(random, draws, frame), painted)
    return painted[None]


def _other_organs(random: np.random.Generator, draws: Draws, frame: FieldOfView) -> Tensor:
    """(S, S, S) uint8: cells, or one tissue everywhere."""
    first = labels.OTHER_ORGANS.start
    if random.random() < _ONE_TISSUE:
        return torch.full((frame.size,) * 3, first, dtype=torch.uint8, device=draws.white.device)
    local = (frame.coordinates(frame.size) - frame.centre[..., None, None, None]) / frame.scale[..., None, None, None]
    cells = paint_cells(draws.section("scene"), local, most=16)[0]  # (S, S, S)
    return (cells % len(labels.OTHER_ORGANS) + first).to(torch.uint8)


def _with_objects(
    random: np.random.Generator, draws: Draws, frame: FieldOfView, painted: Tensor
) -> tuple[Tensor, Tensor]:
    """In some volumes one drawn object, as a tumour, and sometimes more; and what is around each, (1, J)."""
    if random.random() >= _WITH_OBJECTS:
        return painted, torch.zeros(1, labels.N_OBJECTS, dtype=torch.long, device=painted.device)
    with_objects, around = paint_objects(draws, frame, painted)
    shown = torch.zeros(labels.N_LABELS, dtype=torch.bool)
    for slot in range(labels.N_OBJECTS):
        shown[labels.of_object(slot)] = slot == labels.MAIN or random.random() < _OTHER_OBJECTS
    return torch.where(shown.to(painted.device)[with_objects.long()], with_objects, painted), around


def _looks(random: np.random.Generator, draws: Draws, label_map: StructureMap, around: Tensor) -> tuple[Tensor, Tensor]:
    """Mean intensity of each label and the label whose texture it has, (1, N_LABELS) each."""
    look = draw_look(random, label_map)
    numbers = draws.section("table")
    means, palette = draw_background_means(numbers)  # (1, N_LABELS), (1, colours)
    means[0, labels.OTHER_ORGANS] = means[0, labels.CELLS]
    own = torch.tensor(look.means, dtype=means.dtype, device=means.device)[None]  # (1, N_LABELS)
    means = torch.where(own.isnan(), means, own)
    return with_objects(numbers, means, palette, around), torch.tensor(look.textured_as, device=means.device)[None]
