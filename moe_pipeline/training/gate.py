"""The gate and the guards, trained on the mixed cached embeddings of all datasets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.files import sha256_json
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.gate import N_FEATURE_GROUPS, N_IMAGE_GROUPS, Gate, GateConfig, Guard, gate_features
from moe_pipeline.model.mixture import GENERAL, guarded_weights
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.moe import ThresholdRow
from moe_pipeline.training.clicks import draw_click
from moe_pipeline.training.ema import copy_into
from moe_pipeline.training.expert import load_prompts
from moe_pipeline.training.loop import LoopSettings, run_loop

_MAX_CLICKS = 5
_FEATURE_BATCH = 16
_TAUS = tuple(round(0.05 * step, 2) for step in range(20))


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How the gate is trained."""

    hidden: int = 128
    """Width of the hidden layer."""
    prompts_per_dataset: int = 2000
    """Training prompts drawn per dataset at most."""
    batch_size: int = 128
    """Prompts per step, the same share from each output."""
    feature_noise: float = 1.0
    """Standard deviations of noise on each feature in training: with few patients the gate would otherwise learn them
    by heart and take the next one for a stranger."""
    guard_rank: int = 32
    """Principal directions of a guard."""
    guard_percentile: float = 99.5
    """Percentile of an expert's own distances, training and validation, that its guard still lets pass."""
    guard_slack: float = 1.1
    """Factor on that distance."""
    seed: int = 0
    """Of prompts, order and weights."""


@dataclass(frozen=True, slots=True)
class DatasetFeatures:
    """Gate features of one dataset's prompts.

    Attributes:
        name: dataset.
        output: which output it belongs to: 0 general, k expert k.
        train: (n, 5C).
        validation: (m, 5C), of patients that the experts did not train on.
    """

    name: str
    output: int
    train: Tensor
    validation: Tensor
    may_lose: float = 0.0
    """Share of a general dataset's validation prompts that tau may send to an expert."""


@dataclass(frozen=True, slots=True)
class TrainedGate:
    """A gate with its guards, and how well they route."""

    gate: Gate
    guards: list[Guard]
    tau: float
    sweep: tuple[ThresholdRow, ...]
    confusion: dict[str, dict[str, float]]
    calibration_error: float


@torch.no_grad()
def collect_features(
    cache: EmbeddingCache,
    numbers: Sequence[int],
    limit: int,
    foundation: Foundation,
    seed: int,
    device: torch.device,
    progress: Progress = silent,
) -> Tensor:
    """Gate features of simulated prompts: 1 to 5 clicks on a random class of cached crops.

    The first click lies in the object; later ones in it or, one in three, beside it.

    Args:
        cache: crops in the foundation's view.
        numbers: samples to prompt; all of them once if there are fewer than `limit`, then again with other clicks.
        limit: prompts in all, at most four per sample.
        foundation: for its prompt encoder.
        seed: same seed, same prompts.
        device: where to compute.
        progress: told after each batch.

    Returns:
        (prompts, 5C) float32 on the CPU.
    """
    random = np.random.default_rng((seed, len(numbers)))
    order = np.concatenate([random.permutation(np.asarray(numbers)) for _ in range(4)])[:limit]
    chosen = [(int(n), int(random.choice(cache.classes_of(int(n))))) for n in order]
    features = []
    batches = [chosen[i : i + _FEATURE_BATCH] for i in range(0, len(chosen), _FEATURE_BATCH)]
    for batch_index, batch in enumerate(track(batches, f"prompts of {cache.manifest.dataset}", progress)):
        prompts = load_prompts(cache, batch, device)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + batch_index)
        coordinates, labels = _random_clicks(prompts.target, int(random.integers(1, _MAX_CLICKS + 1)), generator)
        features.append(prompt_features(foundation, prompts.embedding, coordinates, labels).cpu())
    return torch.cat(features)


def prompt_features(foundation: Foundation, embedding: Tensor, coordinates: Tensor, labels: Tensor) -> Tensor:
    """Gate features of prompts without a previous mask, exactly as prediction computes them.

    Args:
        foundation: for its prompt encoder.
        embedding: (P, C, g, g, g) or (1, C, g, g, g).
        coordinates: (P, n, 3) voxels of the crop.
        labels: (P, n).

    Returns:
        (P, 5C) float32.
    """
    low = foundation.config.low_resolution_size
    mask = torch.zeros(len(coordinates), 1, low, low, low, device=coordinates.device)
    sparse, dense = foundation.prompt_encoder(points=(coordinates, labels), mask=mask)
    return gate_features(embedding, sparse, dense, coordinates, foundation.config.encoder.img_size)


def fit_gate(
    datasets: list[DatasetFeatures],
    n_experts: int,
    settings: GateSettings,
    loop: LoopSettings,
    folder: Path,
    progress: Progress = silent,
) -> TrainedGate:
    """Train the gate, set its temperature, fit the guards, choose tau.

    Args:
        datasets: features; the expert datasets' outputs are 1..N.
        n_experts: N.
        settings: of gate and guards.
        loop: for how long and how fast.
        folder: for checkpoint and log.
        progress: told after each step.
    """
    task = GateTask(datasets, n_experts, settings)
    result = run_loop(task, loop, folder, torch.device("cpu"), progress)
    copy_into(task.module, result.best)
    gate = task.module.eval().requires_grad_(False)
    guards = [_fit_guard([d for d in datasets if d.output == k], settings) for k in range(1, n_experts + 1)]
    features = torch.cat([d.validation for d in datasets])
    outputs = torch.cat([torch.full((len(d.validation),), d.output) for d in datasets])
    gate.temperature.copy_(_best_temperature(gate(features), outputs))
    calibration_error = expected_calibration_error(gate.weights(features), outputs)
    sweep = tuple(_sweep_row(gate, guards, features, outputs, tau) for tau in _TAUS)
    tau = choose_tau(gate, guards, [d for d in datasets if d.output == GENERAL])
    confusion = {d.name: _shares(gate, guards, d.validation, tau) for d in datasets}
    return TrainedGate(gate, guards, tau, sweep, confusion, calibration_error)


class GateTask:
    """Cross-entropy on balanced batches of features; see `training.loop.Task`."""

    def __init__(self, datasets: list[DatasetFeatures], n_experts: int, settings: GateSettings) -> None:
        self.datasets = datasets
        self.settings = settings
        torch.manual_seed(settings.seed)
        width = datasets[0].train.shape[1] // N_FEATURE_GROUPS
        self.module = Gate(GateConfig(width=width, n_experts=n_experts, hidden=settings.hidden))
        sums = {d.name: [float(d.train.double().sum()), float(d.validation.double().sum())] for d in datasets}
        fields = asdict(settings)
        self.identity = sha256_json({"settings": fields, "features": sums})
        self.scale = settings.feature_noise * torch.cat([d.train for d in datasets]).std(0)  # (5C,)

    def loss(self, step: int) -> Tensor:
        """Mean cross-entropy of a batch with the same number of prompts from each dataset."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        share = max(1, self.settings.batch_size // len(self.datasets))
        features, outputs = [], []
        for dataset in self.datasets:
            rows = torch.randint(len(dataset.train), (share,), generator=generator)
            features.append(dataset.train[rows])
            outputs.append(torch.full((share,), dataset.output))
        clean = torch.cat(features)  # (batch, 5C)
        noise = torch.randn(clean.shape, generator=generator) * self.scale
        return functional.cross_entropy(self.module(clean + noise), torch.cat(outputs))

    def validate(self) -> dict[str, float]:
        """Accuracy and negative log-likelihood on validation, datasets weighted alike; "score" is -likelihood."""
        losses, hits = [], []
        for dataset in self.datasets:
            logits = self.module(dataset.validation)
            outputs = torch.full((len(logits),), dataset.output)
            losses.append(float(functional.cross_entropy(logits, outputs)))
            hits.append(float((logits.argmax(1) == outputs).float().mean()))
        return {"score": -float(np.mean(losses)), "accuracy": float(np.mean(hits))}


def expected_calibration_error(weights: Tensor, outputs: Tensor, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence, weighted by their size.

    Args:
        weights: (P, N + 1) probabilities.
        outputs: (P,) the right output.
        bins: number of bins over (0, 1].
    """
    confidence, guess = weights.max(1)
    right = (guess == outputs).float()
    place = (confidence * bins).ceil().long().clamp(1, bins)
    gaps = [
        float((confidence[place == b].mean() - right[place == b].mean()).abs() * (place == b).sum())
        for b in range(1, bins + 1)
        if (place == b).any()
    ]
    return sum(gaps) / len(outputs)


def choose_tau(gate: Gate, guards: Sequence[Guard], general: Sequence[DatasetFeatures]) -> float:
    """The smallest threshold at which every general dataset keeps its validation prompts, but for what it may lose.

    Without general data nothing can choose it: 0.5, so an expert speaks when it is likelier than all others together.
    """
    if not general:
        return 0.5
    for tau in _TAUS:
        routed = [routed_outputs(gate, guards, d.validation, tau) for d in general]
        lost = [float((outputs != GENERAL).float().mean()) for outputs in routed]
        if all(share <= d.may_lose for share, d in zip(lost, general, strict=True)):
            return tau
    return _TAUS[-1]


def routed_outputs(gate: Gate, guards: Sequence[Guard], features: Tensor, tau: float) -> Tensor:
    """The output that answers each prompt behind guards and threshold, (P,) int64."""
    allowed = guarded_weights(gate.weights(features), knows_all(guards, features))  # (P, N + 1)
    weight, best = allowed[:, 1:].max(1)
    return torch.where(weight > tau, best + 1, GENERAL)


def knows_all(guards: Sequence[Guard], features: Tensor) -> Tensor:
    """Which experts know each prompt's image, (P, N) bool."""
    return torch.stack([guard.knows(features) for guard in guards], dim=1)


def _random_clicks(target: Tensor, n_clicks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    coordinates = [draw_click(target, generator)]
    labels = [torch.ones(len(target), dtype=torch.long, device=target.device)]
    for _ in range(n_clicks - 1):
        inside = bool(torch.rand((), generator=generator) > 1 / 3)
        coordinates.append(draw_click(target if inside else ~target, generator))
        labels.append(torch.full_like(labels[0], int(inside)))
    return torch.stack(coordinates, dim=1).float(), torch.stack(labels, dim=1)  # (P, n, 3), (P, n)


def _fit_guard(own: list[DatasetFeatures], settings: GateSettings) -> Guard:
    train = torch.cat([d.train for d in own])
    image_part = train.shape[1] // N_FEATURE_GROUPS * N_IMAGE_GROUPS
    guard = Guard.fit(train[:, :image_part], settings.guard_rank)
    limits = [
        torch.quantile(guard.distance(samples), settings.guard_percentile / 100)
        for samples in (train, torch.cat([d.validation for d in own]))
        if len(samples)
    ]
    guard.limit.copy_(torch.stack(limits).max() * settings.guard_slack)
    return guard


def _best_temperature(logits: Tensor, outputs: Tensor) -> Tensor:
    candidates = torch.logspace(-1, 1, 81)
    losses = torch.stack([functional.cross_entropy(logits / t, outputs) for t in candidates])
    return candidates[losses.argmin()]


def _sweep_row(gate: Gate, guards: Sequence[Guard], features: Tensor, outputs: Tensor, tau: float) -> ThresholdRow:
    routed = routed_outputs(gate, guards, features, tau)
    general = outputs == GENERAL
    own = (routed == outputs)[~general].float().mean()
    wrong = ((routed != outputs) & (routed != GENERAL))[~general].float().mean()
    kept = float((routed == GENERAL)[general].float().mean()) if general.any() else None
    return ThresholdRow(tau=tau, general_kept=kept, own_expert=float(own), wrong_expert=float(wrong))


def _shares(gate: Gate, guards: Sequence[Guard], features: Tensor, tau: float) -> dict[str, float]:
    routed = routed_outputs(gate, guards, features, tau)
    return {str(k): float((routed == k).float().mean()) for k in range(len(guards) + 1)}


def guards_state(guards: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Tensors of all guards, named guard.<k>.<name> from k = 1."""
    return {f"guard.{k}.{name}": t for k, guard in enumerate(guards, 1) for name, t in guard.state_dict().items()}
