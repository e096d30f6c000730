"""Which network a published checkpoint belongs to, and what of it that network uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.weights.official import read_checkpoint

_SEGVOL = "text_encoder."  # nobody else has one
_SEGVOL_ENCODER_ALONE = "encoder.patch_embedding."
_UNUSED_BY_SEGVOL = ("prompt_encoder.mask_downscaling.", ".position_ids")


@dataclass(frozen=True, slots=True)
class PublishedKind:
    """What is known of all checkpoints of a kind."""

    network: str
    """Kind of network, as in its sizes."""
    preset: str
    """Preset with the sizes and the view of the published one."""
    licence: str
    """What its authors say, as far as anyone knows without reading."""


SAM_MED3D = PublishedKind(FoundationConfig.network, "sam_med3d", "unknown: see the source")
SEGVOL = PublishedKind(
    SegVolConfig.network,
    "segvol",
    "none stated: SegVol's authors license their code, not these weights; ask them before you use or share them",
)


def read_published(path: Path) -> tuple[PublishedKind, dict[str, Tensor]]:
    """The kind of a published file, and its weights without those that no network uses.

    SegVol's unused ones are its branch for masks, which is two-dimensional and never worked, and the numbers of CLIP's
    positions.

    Raises:
        CheckpointError: as `read_checkpoint`; also if it is SegVol's image encoder alone.
    """
    weights = read_checkpoint(path)
    kind = _kind_of(weights, path)
    unused = _UNUSED_BY_SEGVOL if kind == SEGVOL else ()
    return kind, {name: value for name, value in weights.items() if not any(part in name for part in unused)}


def _kind_of(weights: Mapping[str, Tensor], path: Path) -> PublishedKind:
    if any(name.startswith(_SEGVOL) for name in weights):
        return SEGVOL
    if any(name.startswith(_SEGVOL_ENCODER_ALONE) for name in weights):
        raise CheckpointError(
            f"{path}: holds SegVol's image encoder alone (vit_pretrain), which turns images into numbers but no prompt "
            "into a mask; import SegVol_v1.pth or pytorch_model.bin, which have the decoder too"
        )
    return SAM_MED3D
