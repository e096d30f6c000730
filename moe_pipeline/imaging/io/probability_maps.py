"""Maps of values in [0, 1], written as bytes that every NIfTI reader turns back into fractions."""

import gzip
import shutil
from pathlib import Path

import numpy as np

from moe_pipeline.errors import ImageError
from moe_pipeline.files import atomic_path
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import write_native
from moe_pipeline.imaging.io.nifti import set_slope
from moe_pipeline.imaging.volume import Volume, to_grid_orientation

_SUFFIX = ".nii.gz"
_QUICKLY = 5  # compression: nearly all is 0, so more effort saves little


def write_fractions(volume: Volume, path: Path, native: Geometry) -> None:
    """Write a map on the grid of its image, whole or not at all; the header says that 255 stands for 1.

    Args:
        volume: uint8 on the canonical form of `native`.
        path: ends in .nii.gz.
        native: grid of the image as stored.

    Raises:
        ImageError: if the name ends otherwise.
        GeometryError: if the volume does not lie on the image's grid.
    """
    if volume.array.dtype != np.uint8:
        raise TypeError(f"fractions are kept as uint8, got {volume.array.dtype}")
    if not path.name.endswith(_SUFFIX):
        raise ImageError(f"{path}: a map of fractions is written as NIfTI; choose a name that ends in {_SUFFIX}.")
    on_grid = to_grid_orientation(volume, native)
    with atomic_path(path) as temporary:
        plain = temporary.with_name(temporary.name.removesuffix(".gz"))
        try:
            write_native(on_grid, plain)
            set_slope(plain, 1 / 255)
            with (
                plain.open("rb") as source,
                temporary.open("wb") as file,
                gzip.GzipFile("", "wb", _QUICKLY, file, mtime=0) as target,  # the same bytes at any time
            ):
                shutil.copyfileobj(source, target, 1 << 20)
        finally:
            plain.unlink(missing_ok=True)
