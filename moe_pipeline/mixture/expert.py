"""Experts on disk."""

import copy
from pathlib import Path

from moe_pipeline.errors import CheckpointError, RecordError
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.paths import ExpertFolder
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace


def find_expert(place: Workspace, dataset: str, fold: int | None = None) -> ExpertCard:
    """The card of a workspace's expert.

    Args:
        place: the workspace.
        dataset: its name.
        fold: that was held back; None for the only one of which there is an expert.

    Raises:
        RecordError: if there is no such expert, or there are several and no fold is given; names what there is.
    """
    known = place.expert_folds(dataset)
    if fold is None and len(known) == 1:
        fold = known[0]
    if fold in known:
        return ExpertCard.load(ExpertFolder(place.expert(dataset, fold)).card)
    there = f"there are experts of fold {', '.join(map(str, known))}" if known else "there is none"
    if fold is None and known:
        raise RecordError(f"{place.experts_root / dataset}: which expert? {there}: give --fold")
    old = ExpertFolder(place.experts_root / dataset).card
    if old.is_file():
        at = place.expert(dataset, ExpertCard.load(old).fold)
        raise RecordError(f"{old}: experts lie in a folder per fold now; move all files of this one to {at}/")
    raise RecordError(
        f"{place.expert(dataset, fold or 0)}: no finished expert here, {there}; "
        f"run `moe finetune {dataset} --fold {fold or 0}`"
    )


def load_decoder(folder: Path, card: ExpertCard, foundation: Foundation) -> Decoder:
    """A finetuned decoder, frozen, on the foundation's device.

    Args:
        folder: with expert.safetensors.
        card: its expert.json.
        foundation: it was finetuned on.

    Raises:
        CheckpointError: if its tensors are missing, damaged or not exactly a decoder's.
    """
    tensors = load_tensors(ExpertFolder(folder).weights, card.weights_sha256)
    decoder = copy.deepcopy(foundation.decoder)
    expected = set(decoder.state_dict())
    if set(tensors) != expected:
        raise CheckpointError(
            f"{folder}: not this foundation's decoder: missing {sorted(expected - set(tensors))[:3]}, "
            f"unexpected {sorted(set(tensors) - expected)[:3]}"
        )
    decoder.load_state_dict(tensors)
    return decoder.requires_grad_(False).eval()
