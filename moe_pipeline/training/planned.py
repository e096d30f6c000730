"""A dataset with what was planned for it, and its caches."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.datasets.dataset import RawDataset
from moe_pipeline.embeddings.cache import CacheRequest, EmbeddingCache, build_cache
from moe_pipeline.embeddings.crops import CropRecipe
from moe_pipeline.errors import DatasetError
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.planning.plan_files import load_plan, load_splits
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.foundation import View
from moe_pipeline.records.planning import Fold, Plan
from moe_pipeline.weights.device import open_device
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.words import read_words, words_path
from moe_pipeline.workspace import Workspace

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlannedDataset:
    """A dataset with all that was decided about it."""

    raw: RawDataset
    plan: Plan
    fold: Fold
    foundation: Foundation
    foundation_sha256: str


def open_planned(
    place: Workspace, raw: RawDataset, fold: int, device: str, known: tuple[str, Foundation] | None = None
) -> PlannedDataset:
    """Load plan, fold and foundation of a dataset.

    Args:
        place: the workspace.
        raw: the dataset.
        fold: whose cases are held out.
        device: where the foundation goes.
        known: sha256 and network of a foundation that is loaded already, taken if the plan is for it.

    Raises:
        RecordError: if the dataset has no valid plan.
        DatasetError: if there is no such fold, or it holds nothing back.
    """
    plan, splits = load_plan(place.plans(raw.name), place.weights), load_splits(place.plans(raw.name))
    if not 0 <= fold < len(splits.folds):
        raise DatasetError(f"{raw.name}: no fold {fold}; splits.json has folds 0 to {len(splits.folds) - 1}")
    if not splits.folds[fold].validation:
        raise DatasetError(f"{raw.name}: fold {fold} holds no case back, so nothing can be validated; add cases")
    stored = find_foundation(plan.foundation, place.weights)
    sha256 = stored.card.weights_sha256
    if known is not None and known[0] == sha256:
        return PlannedDataset(raw, plan, splits.folds[fold], known[1], sha256)
    foundation = load_foundation(plan.foundation, device=device, weights_root=place.weights)
    return PlannedDataset(raw, plan, splits.folds[fold], foundation, sha256)


@torch.no_grad()
def names_of_classes(planned: PlannedDataset, place: Workspace) -> dict[int, Tensor]:
    """The names of a plan's classes as its foundation's text encoder gives them, (C,) each.

    Empty where the foundation takes no text or has no vocabulary, which is said.
    """
    foundation, file = planned.foundation, find_foundation(planned.plan.foundation, place.weights).path
    if "text" not in foundation.takes:
        return {}
    if not words_path(file).is_file():
        _log.warning("%s: learns no names: %s has no vocabulary beside it", planned.plan.dataset, file.name)
        return {}
    classes = planned.plan.classes
    ids, known = read_words(file).encode(list(classes.values()))
    device = next(foundation.parameters()).device
    texts = foundation.encode_text(ids.to(device), known.to(device))  # (P, C)
    return dict(zip(classes, texts, strict=True))


def cache_of(
    place: Workspace,
    planned: PlannedDataset,
    view: View,
    device: str,
    *,
    augmented: bool,
    encoded: bool = True,
    progress: Progress = silent,
) -> EmbeddingCache:
    """The embedding cache of one fold's cases in one view, built as far as it is missing.

    Args:
        place: the workspace.
        planned: dataset, plan and fold.
        view: the plan's for an expert, the foundation's for the gate.
        device: where to encode.
        augmented: whether training cases get their augmented copies.
        encoded: whether to hold embeddings; else images, in a folder of their own.
        progress: told after each case.
    """
    request, folder = cache_request(place, planned, view, augmented=augmented, encoded=encoded)
    return build_cache(request, planned.foundation, folder, open_device(device), progress)


def cache_request(
    place: Workspace, planned: PlannedDataset, view: View, *, augmented: bool, encoded: bool = True
) -> tuple[CacheRequest, Path]:
    """What such a cache is to hold, and its folder; arguments as of `cache_of`."""
    plan = planned.plan
    ids = (*planned.fold.train, *planned.fold.validation)
    copies = plan.copies_per_case if augmented else 1
    request = CacheRequest(
        dataset=plan.dataset,
        cases=tuple(planned.raw.case(case_id) for case_id in ids),
        recipe=CropRecipe(
            view=view,
            low_res_voxels=planned.foundation.geometry.low_resolution_size,
            crops=plan.crops_per_case,
            class_weights=plan.class_weights,
            mirror_axes=plan.mirror_axes,
        ),
        copies={**dict.fromkeys(planned.fold.train, copies), **dict.fromkeys(planned.fold.validation, 1)},
        channel=plan.channel,
        foundation=plan.foundation,
        foundation_sha256=planned.foundation_sha256,
        plan_sha256=plan.sha256(),
        seed=plan.seed,
        encoded=encoded,
    )
    return request, place.embeddings(plan.dataset) / (view.short_name if encoded else f"{view.short_name}_images")
