"""How bright the structures of a label map are, and which of them look alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.label_maps import StructureMap

_BY_TISSUE, _AS_IN_AN_IMAGE = 0.75, 0.4  # of all volumes; of those, with a contrast that the source names
_ALIKE_PAIR = 0.9
_NEAR = 0.3  # of the tissues: about as bright as another one
_BRIGHTNESS = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Look:
    """What the labels of one volume look like."""

    means: NDArray[np.float64]
    """(N_LABELS,): of structures, from 1 on, and lesions; NaN where the drawn mean stays."""
    textured_as: NDArray[np.int64]
    """(N_LABELS,): label whose texture each label has."""


def draw_look(random: np.random.Generator, label_map: StructureMap) -> Look:
    """Structures of one tissue alike, left and right too, in a part of the volumes each on its own.

    Args:
        random: source of the numbers.
        label_map: whose structures.
    """
    means = np.full(labels.N_LABELS, np.nan)
    textured_as = np.arange(labels.N_LABELS)
    by_tissue = random.random() < _BY_TISSUE
    brightness = _tissue_means(random, label_map)
    spread = 0.004 * 20 ** random.random()  # to 0.08
    for tissue, mean in brightness.items():
        members = label_map.structures(tissue)
        if by_tissue and members:
            means[members] = mean + spread * random.normal(size=len(members))
            textured_as[members] = members[0]
    _same_on_both_sides(random, label_map, means, textured_as)
    means[labels.LESION] = random.uniform(-0.2, 1.2)
    textured_as[labels.OTHER_ORGANS] = labels.CELLS
    textured_as[labels.LESION] = labels.of_object(labels.MAIN).start
    return Look(means, textured_as)


def _tissue_means(random: np.random.Generator, label_map: StructureMap) -> dict[str, float]:
    """Any brightness, often near that of another tissue; or as in some kind of image, a little off."""
    source, low_high = label_map.source, _BRIGHTNESS
    means = {tissue: random.uniform(*low_high) for tissue in source.tissues}
    for tissue in means:
        if random.random() < _NEAR:
            means[tissue] = means[str(random.choice(list(means)))] + 0.07 * random.normal()
    if source.contrasts and random.random() < _AS_IN_AN_IMAGE:
        contrast = source.contrasts[str(random.choice(list(source.contrasts)))]
        means |= {tissue: mean + 0.06 * random.normal() for tissue, mean in contrast.items()}
    return means


def _same_on_both_sides(
    random: np.random.Generator, label_map: StructureMap, means: NDArray[np.float64], textured_as: NDArray[np.int64]
) -> None:
    """Write the mean of one side, drawn here if there is none yet, over that of the other."""
    place = {number: at for at, number in enumerate(label_map.numbers, start=1)}
    for left, right in label_map.source.pairs:
        alike = random.random() < _ALIKE_PAIR
        drawn, off = random.uniform(*_BRIGHTNESS), 0.01 * random.normal()
        if alike and left in place and right in place:
            one, other = place[left], place[right]
            means[one] = drawn if np.isnan(means[one]) else means[one]
            means[other] = means[one] + off
            textured_as[other] = textured_as[one]
