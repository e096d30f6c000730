"""An array together with its place in the patient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.geometry import Geometry


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One channel of voxels, (x, y, z), and the grid they lie on."""

    array: NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        if not isinstance(self.array, np.ndarray) or self.array.shape != self.geometry.shape:
            found = getattr(self.array, "shape", type(self.array).__name__)
            raise GeometryError(f"array of shape {found} does not fill its grid of shape {self.geometry.shape}")
