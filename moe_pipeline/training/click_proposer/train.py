"""The click proposer of an expert, trained on its cached embeddings and on crops as a search meets them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.datasets.dataset import RawDataset
from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.files import sha256_json
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.moe.click_proposer import ClickProposer, ClickProposerConfig, best_place, heat_maps
from moe_pipeline.paths import LOG_CSV, RUN_JSON, ExpertFolder
from moe_pipeline.planning.views import typical_view
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ClickProposerCard, ExpertCard
from moe_pipeline.records.foundation import View
from moe_pipeline.records.planning import Fingerprint, Fold, Plan
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.training.click_proposer.samples import Samples, SeenCrop, cached_crops, make_samples
from moe_pipeline.training.click_proposer.search_crops import SearchRecipe, encode_search_crops, encode_synthetic
from moe_pipeline.training.engine.loop import LoopSettings, run_loop
from moe_pipeline.weights.tensors import save_tensors


@dataclass(frozen=True, slots=True)
class ClickProposerSettings:
    """How a click proposer is trained."""

    steps: int = 400
    """Optimiser steps."""
    batch_size: int = 16
    """Crops per step."""
    learning_rate: float = 2e-3
    """Peak of the schedule."""
    hidden: int = 64
    """Width of the head."""
    depth: int = 2
    """Its convolutions."""
    upscaling: int = 2
    """Cells of the heat map per token and axis."""
    power: float = 2.0
    """How much the target favours the thickest place of an object."""
    cached_crops: int = 1500
    """Crops of the expert's cache at most, taken evenly."""
    search_crops: int = 240
    """Crops off centre, cut off or without a class, over all training cases, at least three each."""
    synthetic: int = 32
    """Synthetic volumes, on which nothing is to be found."""
    seed: int = 0
    """Of weights and order."""


@dataclass(frozen=True, slots=True)
class ClickProposerData:
    """What the click proposer of one expert is trained on.

    Attributes:
        raw: the dataset.
        plan: what was decided about it.
        fold: who is held back.
        fingerprint: for the number of objects of each class.
        foundation: on `device`.
        foundation_sha256: its weights.
        cache: the expert's.
        folder: for the search crops.
        device: where to compute.
    """

    raw: RawDataset
    plan: Plan
    fold: Fold
    fingerprint: Fingerprint
    foundation: Foundation
    foundation_sha256: str
    cache: EmbeddingCache
    folder: Path
    device: torch.device

    @property
    def typical_view(self) -> View:
        """The plan's, with the spacing that it has over a typical image."""
        return typical_view(self.plan.view, self.fingerprint)


class ClickProposerTask:
    """Learning where to click; see `training.loop.Task`."""

    def __init__(
        self,
        groups: Sequence[Samples],
        validation: Samples,
        settings: ClickProposerSettings,
        view: View,
        sources: dict[str, object],
        device: torch.device,
    ) -> None:
        self.groups, self.validation = groups, validation
        self.settings, self.view, self.device = settings, view, device
        usual = groups[0].usual_counts()
        self.known = [group.known(usual) for group in groups]
        self.validation_known = validation.known(usual)
        config = ClickProposerConfig(
            width=groups[0].embedding.shape[1],
            n_classes=groups[0].counts.shape[1],
            hidden=settings.hidden,
            depth=settings.depth,
            upscaling=settings.upscaling,
        )
        torch.manual_seed(settings.seed)
        self.module = ClickProposer(config).to(device)
        self.identity = sha256_json({"settings": asdict(settings), "config": asdict(config), "sources": sources})

    def loss(self, step: int) -> Tensor:
        """Mean divergence from the targets over a batch; the first group gives twice as many crops as each other."""
        random = np.random.default_rng((self.settings.seed, step))
        shares = np.array([2.0, *[1.0] * (len(self.groups) - 1)])
        counts = random.multinomial(self.settings.batch_size, shares / shares.sum())
        parts = []
        for group, known, count in zip(self.groups, self.known, counts, strict=True):
            rows = torch.from_numpy(random.integers(len(group), size=count))
            parts.append((group.embedding[rows], group.target[rows], known[rows]))
        embedding, target, known = (torch.cat(part).to(self.device) for part in zip(*parts, strict=True))
        target = target.float()  # (B, K, places + 1)
        divergence = (torch.xlogy(target, target) - target * self.module(embedding.float())).sum(2)  # (B, K)
        loss: Tensor = (divergence * known).sum() / known.sum().clamp(min=1)
        return loss

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """How well the proposals on the validation crops are.

        Returns:
            hit: share of the proposals inside their object, over all pairs of crop and class in it.
            distance_mm: their mean distance from the object, 0 inside.
            found, left_out: share of the present classes called present, and of the absent ones called absent.
            score: hit plus the mean of found and left_out, less the distance over a tenth of the crop's longest edge.
        """
        distances: list[float] = []
        spacing_mm, extent_mm = np.asarray(self.view.edges_mm), max(self.view.extent_mm)
        right: dict[bool, list[bool]] = {True: [], False: []}
        for row in range(len(self.validation)):
            embedding = self.validation.embedding[row : row + 1].to(self.device).float()
            heat, absent = heat_maps(self.module, embedding)
            edges = torch.tensor(self.view.size_voxels) / torch.tensor(heat.shape[2:])
            places = ((best_place(heat[0]).cpu() + 0.5) * edges - 0.5).numpy()  # (K, 3) voxels
            for k in np.flatnonzero(self.validation_known[row].numpy()):
                voxels = self.validation.voxels[row][k]
                there = len(voxels) > 0
                right[there].append(bool(absent[0, k] < 0.5) == there)
                if there:
                    beyond = (np.abs(voxels - places[k]) - 0.5).clip(min=0)  # from each voxel's border
                    beyond = beyond * (spacing_mm / spacing_mm.max())
                    distances.append(float(np.sqrt((beyond**2).sum(1)).min()) * float(spacing_mm.max()))
        found, left_out = (float(np.mean(right[there])) if right[there] else 1.0 for there in (True, False))
        hit = float(np.mean([d == 0 for d in distances])) if distances else 0.0
        distance_mm = float(np.mean(distances)) if distances else extent_mm
        score = hit + (found + left_out) / 2 - 10 * distance_mm / extent_mm
        return {"score": score, "hit": hit, "distance_mm": distance_mm, "found": found, "left_out": left_out}


def add_click_proposer(
    out: Path,
    card: ExpertCard,
    data: ClickProposerData,
    settings: ClickProposerSettings,
    progress: Progress = silent,
) -> ExpertCard:
    """Train the click proposer of an expert that is there, save it beside it, and name it in the expert's card.

    Args:
        out: the expert's folder.
        card: of the expert.
        data: what to train on.
        settings: how.
        progress: told after each crop and step.

    Raises:
        InterruptedRunError: after Ctrl-C; the same call goes on.
        StaleCacheError: if an older checkpoint was made by other settings or data.
    """
    groups, validation = collect_samples(data, settings, progress)
    sources: dict[str, object] = {
        "cache": [entry.key for entry in data.cache.manifest.entries],
        "fold": data.fold.model_dump(),
        "plan": data.plan.sha256(),
    }
    task = ClickProposerTask(groups, validation, settings, data.typical_view, sources, data.device)
    loop = LoopSettings(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup_steps=min(30, settings.steps),
        validate_every=-(-settings.steps // 6),
        weight_decay=0.05,
    )
    result = run_loop(task, loop, ExpertFolder(out).click_proposer_training, data.device, progress)
    row = next((r for r in result.rows if r["step"] == result.best_step), {})
    config, classes = task.module.config, tuple(sorted(data.plan.classes))
    click_proposer = ClickProposerCard(
        weights_sha256=save_tensors(ExpertFolder(out).click_proposer, result.best, {"dataset": data.plan.dataset}),
        width=config.width,
        hidden=config.hidden,
        depth=config.depth,
        upscaling=config.upscaling,
        classes=classes,
        objects={c: _usual_objects(data.fingerprint, c) for c in classes},
        best_step=result.best_step,
        validation={name: round(row[name], 4) for name in ("hit", "distance_mm", "found", "left_out") if name in row},
        settings=asdict(settings),
    )
    card = card.model_copy(update={"click_proposer": click_proposer})
    RunRecord(
        command="finetune, click proposer",
        versions=library_versions(),
        device=str(data.device),
        settings=asdict(settings),
        inputs={"plan": data.plan.sha256(), "foundation": data.foundation_sha256},
        seconds=round(result.seconds, 1),
        results={"steps": result.steps, "stopped_by": result.stopped_by, **click_proposer.validation},
        files=["../click_proposer.safetensors", "../expert.json", LOG_CSV, "curve.png"],
    ).save(ExpertFolder(out).click_proposer_training / RUN_JSON)
    card.save(ExpertFolder(out).card)
    return card


def collect_samples(
    data: ClickProposerData, settings: ClickProposerSettings, progress: Progress = silent
) -> tuple[list[Samples], Samples]:
    """What to train on (the expert's cache, search crops, synthetic volumes), and what to validate with.

    Args:
        data: see there.
        settings: how many of which.
        progress: told after each case and volume.
    """
    classes = tuple(sorted(data.plan.classes))
    x, y, z = (side * settings.upscaling for side in data.foundation.geometry.grid_size)
    width = data.foundation.embedding_width

    def made(crops: Iterator[SeenCrop], *, with_voxels: bool = False) -> Samples:
        return make_samples(crops, classes, width, (x, y, z), settings.power, with_voxels=with_voxels)

    train, held_back = data.fold.train, data.fold.validation
    numbers = data.cache.of_cases(train, augmented=True)
    step = max(1, -(-len(numbers) // settings.cached_crops))
    groups = [made(cached_crops(data.cache, numbers[::step]))]
    groups.append(made(_searched(data, train, settings.search_crops, progress)))
    if settings.synthetic:
        groups.append(made(_ood_crops(data, settings.synthetic, progress)))
    return groups, made(_validation_crops(data, held_back, settings, progress), with_voxels=True)


def _validation_crops(
    data: ClickProposerData, cases: Sequence[str], settings: ClickProposerSettings, progress: Progress
) -> Iterator[SeenCrop]:
    yield from cached_crops(data.cache, data.cache.of_cases(cases, augmented=False))
    yield from _searched(data, cases, settings.search_crops // 4, progress)


def _searched(data: ClickProposerData, cases: Sequence[str], total: int, progress: Progress) -> Iterator[SeenCrop]:
    plan = data.plan
    crops = 3 * min(max(1, -(-total // (3 * len(cases)))), 16)
    recipe = SearchRecipe(
        view=plan.view,
        low_res_voxels=data.foundation.geometry.low_resolution_size,
        classes=tuple(sorted(plan.classes)),
        crops=crops,
        mirror_axes=plan.mirror_axes,
        channel=plan.channel,
        seed=plan.seed,
    )
    chosen = [data.raw.case(case_id) for case_id in cases]
    for encoded in encode_search_crops(
        chosen, recipe, data.foundation, data.foundation_sha256, data.folder, data.device, progress
    ):
        yield from zip(encoded.embedding, encoded.labels, strict=True)


def _ood_crops(data: ClickProposerData, count: int, progress: Progress) -> Iterator[SeenCrop]:
    view = data.plan.view
    empty = np.zeros(view.size_voxels, np.uint8)
    for embedding in encode_synthetic(
        count, view, data.foundation, data.foundation_sha256, data.folder, data.device, progress
    ):
        yield embedding, empty


def _usual_objects(fingerprint: Fingerprint, class_id: int) -> int:
    parts = fingerprint.classes[class_id].components if class_id in fingerprint.classes else None
    return max(1, round(parts.median)) if parts else 1
