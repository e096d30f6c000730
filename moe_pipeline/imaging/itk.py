"""The border to SimpleITK, whose arrays are (z, y, x) and whose world is LPS. Nothing else knows about either."""

from typing import Any

import numpy as np
import SimpleITK

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.quiet import QuietLock
from moe_pipeline.imaging.volume import Volume

ITK_READS = QuietLock()
"""ITK's readers share global state: of some sixty runs with four threads that read headers at once, one died of a
corrupted heap. Voxels of NIfTI files, where the time goes, are read without ITK and so without this lock."""

_LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])

sitk: Any = SimpleITK  # it carries no type hints
sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK writes them to the terminal; what matters is checked and raised


def geometry_of(image: Any) -> Geometry:
    """Grid of a 3D `sitk.Image`, or of the header an `sitk.ImageFileReader` has read (a fourth side of 1 is dropped).

    Raises:
        GeometryError: if it is no valid grid.
    """
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    return Geometry(
        shape=image.GetSize()[:3],
        spacing_mm=image.GetSpacing()[:3],
        origin_mm=tuple(_LPS_FROM_RAS * image.GetOrigin()[:3]),
        direction=tuple((_LPS_FROM_RAS[:, None] * direction).ravel()),
    )


def set_grid(resampler: Any, grid: Geometry) -> None:
    """Ask a resampler for the voxels of `grid`."""
    resampler.SetSize(grid.shape)
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin((_LPS_FROM_RAS * grid.origin_mm).tolist())
    resampler.SetOutputDirection((_LPS_FROM_RAS[:, None] * grid.matrix).ravel().tolist())


def image_from_volume(volume: Volume) -> Any:
    """A SimpleITK image with a copy of the voxels, on the same grid."""
    array = volume.array.astype(volume.array.dtype.newbyteorder("="), copy=False)  # ITK knows no other byte order
    image = sitk.GetImageFromArray(array.transpose())  # (x, y, z) -> (z, y, x)
    image.SetSpacing(volume.geometry.spacing_mm)
    image.SetOrigin((_LPS_FROM_RAS * volume.geometry.origin_mm).tolist())
    image.SetDirection((_LPS_FROM_RAS[:, None] * volume.geometry.matrix).ravel().tolist())
    return image
