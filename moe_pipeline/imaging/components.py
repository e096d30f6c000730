"""Connected parts of a mask."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer[Any]], dict[int, int]]:
    """Number the parts of a mask that touch by a face, an edge or a corner.

    Args:
        mask: (x, y, z).

    Returns:
        Part number of each voxel, 0 outside the mask, and the number of voxels by part number.
    """
    from acvl_utils.morphology.morphology_helper import cc3d_label_with_component_sizes  # imports scikit-image

    numbers, sizes = cc3d_label_with_component_sizes(np.ascontiguousarray(mask), connectivity=26)
    return numbers, {int(number): int(size) for number, size in sizes.items()}
