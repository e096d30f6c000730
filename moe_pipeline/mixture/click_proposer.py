"""The click proposer of an expert, read from its folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.moe.click_proposer import ClickProposer, ClickProposerConfig, heat_maps
from moe_pipeline.paths import ExpertFolder
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.weights.tensors import load_tensors


@dataclass(frozen=True, slots=True)
class ExpertClickProposer:
    """Where an expert would click.

    Attributes:
        net: frozen.
        classes: id to name, in the order of the heat maps.
        objects: by class id, how many of them a scan usually has.
    """

    net: ClickProposer
    classes: dict[int, str]
    objects: dict[int, int]

    @torch.no_grad()
    def look(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Heat maps (K, *G) and chances of presence (K,) of one crop (1, C, *grid), on the CPU."""
        heat, absent = heat_maps(self.net, embedding.float())
        return heat[0].cpu(), 1 - absent[0].cpu()


def load_click_proposer(folder: Path, card: ExpertCard, device: torch.device) -> ExpertClickProposer | None:
    """The click proposer beside an expert; None if it has none.

    Args:
        folder: of the expert.
        card: its expert.json.
        device: where to put it.

    Raises:
        CheckpointError: if its weights are missing, damaged, or of another network.
    """
    known = card.click_proposer
    if known is None:
        return None
    path = ExpertFolder(folder).click_proposer
    tensors = load_tensors(path, known.weights_sha256)
    net = ClickProposer(
        ClickProposerConfig(known.width, len(known.classes), known.hidden, known.depth, known.upscaling)
    )
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit expert.json ({error}); finetune again") from error
    classes = {c: card.classes[c] for c in known.classes}
    return ExpertClickProposer(net.requires_grad_(False).eval().to(device), classes, known.objects)
