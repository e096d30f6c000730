"""Cards that travel beside weight files."""

from typing import Any, Literal

from pydantic import Field

from moe_pipeline.records.base import Part, Record

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


class FoundationCard(Record):
    """Where a foundation's weights come from and how to use them; `<name>.json` beside `<name>.safetensors`."""

    name: str
    """Name to load it by."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the safetensors file; checked at each load."""
    source: str
    """File or URL the weights were made from, or the command that made them."""
    source_sha256: str | None = None
    """sha256 of the imported file, if there was one."""
    licence: str
    """Licence of the weights as stated by their authors."""
    preset: str
    """Preset (plans/foundations) whose rules and costs hold when a dataset is planned for it."""
    view: View
    """The view the weights were trained for."""
    config: dict[str, Any]
    """Sizes of the network, in the form of `FoundationConfig.to_dict()`."""
    training: dict[str, Any] = Field(default_factory=dict)
    """How the weights were made and how well they do: commit, command, seed, hours, samples, validation curve."""
