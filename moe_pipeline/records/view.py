"""What the encoder sees."""

from typing import Literal

from pydantic import Field

from moe_pipeline.records.base import Part

Normalisation = Literal["zscore_positive", "zscore_clipped"]


class View(Part):
    """One way of looking at a patient: RAS+ orientation, isotropic spacing, a cube of voxels, an intensity rule."""

    spacing_mm: float = Field(gt=0)
    """Edge of a voxel in mm, the same along x, y and z."""
    size_voxels: int = Field(gt=0)
    """Edge of the cube in voxels."""
    orientation: Literal["RAS"] = "RAS"
    """Index grows to the patient's right, anterior, superior."""
    normalisation: Normalisation = "zscore_positive"
    """zscore_positive: mean and std of the crop's voxels > 0, applied to all (SAM-Med3D; padding is 0 before it).
    zscore_clipped: clip to percentiles 0.5 and 99.5 of the voxels inside the image, z-score with their mean and
    std, padding takes the lowest value (nano)."""

    @property
    def extent_mm(self) -> float:
        """Edge of the cube in mm."""
        return self.spacing_mm * self.size_voxels
