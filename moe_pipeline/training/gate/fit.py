"""The gate and the OOD detectors, trained on the gate features of all datasets."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moe_pipeline.files import sha256_json
from moe_pipeline.mixture.gate_files import DatasetFeatures, TrainedGate
from moe_pipeline.model.moe.gate import N_FEATURE_GROUPS, N_IMAGE_GROUPS, Gate, GateConfig, OODDetector
from moe_pipeline.progress import Progress, silent
from moe_pipeline.training.engine.ema import copy_into
from moe_pipeline.training.engine.loop import LoopSettings, run_loop

_OOD_FOLDS = 5


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How the gate is trained."""

    hidden: int = 128
    """Width of the hidden layer."""
    prompts_per_dataset: int = 2000
    """Training prompts drawn per dataset at most."""
    batch_size: int = 128
    """Prompts per step, the same share from each dataset."""
    feature_noise: float = 1.0
    """Standard deviations of noise on what describes the image, in training: with few patients the gate would otherwise
    learn them by heart and take the next one for somebody else's."""
    prompt_noise: float = 0.3
    """The same on what describes the prompt, which says less about the patient and more about what is meant."""
    out_of_distribution: bool = True
    """Whether OOD detectors keep experts away from images unlike their own."""
    calibrated: bool = True
    """Whether validation sets the temperature; else it is 1."""
    ood_rank: int = 32
    """Principal directions of an OOD detector."""
    ood_percentile: float = 99.5
    """Percentile of the distances of an expert's own prompts that its OOD detector still lets pass: those of training
    patients from an OOD detector that was fitted without them, and those of validation patients."""
    ood_slack: float = 1.1
    """Factor on that distance."""
    few_patients: int = 50
    """With fewer training patients than this, one odd patient would set the limit for all others: then another
    percentile counts, and the odd patient's own kind stays with the general expert."""
    few_percentile: float = 95.0
    """That percentile."""
    few_slack: float = 1.02
    """Factor on that distance: the very image that sets it must pass, though computed again it differs by rounding."""
    seed: int = 0
    """Of prompts, order and weights."""


def fit_gate(
    datasets: list[DatasetFeatures],
    n_experts: int,
    settings: GateSettings,
    loop: LoopSettings,
    folder: Path,
    progress: Progress = silent,
) -> TrainedGate:
    """Train the gate, set its temperature, fit the OOD detectors.

    Args:
        datasets: features; the expert datasets' outputs are 1..N.
        n_experts: N.
        settings: of gate and OOD detectors.
        loop: for how long and how fast.
        folder: for checkpoint and log.
        progress: told after each step.
    """
    task = GateTask(datasets, n_experts, settings)
    result = run_loop(task, loop, folder, torch.device("cpu"), progress)
    copy_into(task.module, result.best)
    gate = task.module.eval().requires_grad_(False)
    own = {d.output: d for d in datasets}
    ood_detectors = [_ood_detector_of(own[k], settings) for k in range(1, n_experts + 1)]
    if settings.calibrated:
        features = torch.cat([d.validation for d in datasets])
        wanted = torch.cat([d.wanted_in_validation for d in datasets])
        gate.temperature.copy_(_best_temperature(gate(features), wanted))
    return TrainedGate(gate, ood_detectors)


class GateTask:
    """Cross-entropy on balanced batches of features; see `training.loop.Task`."""

    def __init__(self, datasets: list[DatasetFeatures], n_experts: int, settings: GateSettings) -> None:
        self.datasets = datasets
        self.settings = settings
        torch.manual_seed(settings.seed)
        width = datasets[0].train.shape[1] // N_FEATURE_GROUPS
        self.module = Gate(GateConfig(width=width, n_experts=n_experts, hidden=settings.hidden))
        sums = {
            d.name: [float(part.double().sum()) for part in (d.train, d.validation, d.wanted_in_training)]
            for d in datasets
        }
        fields = asdict(settings)
        self.identity = sha256_json({"settings": fields, "features": sums})
        centre, scale = _mean_and_spread(datasets)
        self.module.standardise(centre, scale)
        of_image, of_prompt = N_IMAGE_GROUPS * width, (N_FEATURE_GROUPS - N_IMAGE_GROUPS) * width
        levels = torch.tensor([settings.feature_noise, settings.prompt_noise])
        self.noise = scale * levels.repeat_interleave(torch.tensor([of_image, of_prompt]))  # (5C,)

    def loss(self, step: int) -> Tensor:
        """Mean cross-entropy of a batch with the same number of prompts from each dataset."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        share = max(1, self.settings.batch_size // len(self.datasets))
        features, outputs = [], []
        for dataset in self.datasets:
            rows = torch.randint(len(dataset.train), (share,), generator=generator)
            features.append(dataset.train[rows])
            outputs.append(dataset.wanted_in_training[rows])
        clean = torch.cat(features)  # (batch, 5C)
        noise = torch.randn(clean.shape, generator=generator) * self.noise
        return functional.cross_entropy(self.module(clean + noise), torch.cat(outputs))

    def validate(self) -> dict[str, float]:
        """Accuracy and negative log-likelihood on validation, datasets weighted alike; "score" is -likelihood."""
        losses, hits = [], []
        for dataset in self.datasets:
            logits, wanted = self.module(dataset.validation), dataset.wanted_in_validation
            losses.append(float(functional.cross_entropy(logits, wanted)))
            hits.append(float((logits.argmax(1) == wanted).float().mean()))
        return {"score": -float(np.mean(losses)), "accuracy": float(np.mean(hits))}


def _mean_and_spread(datasets: list[DatasetFeatures]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each training feature, (5C,) both, datasets weighted alike."""
    centre = torch.stack([d.train.mean(0) for d in datasets]).mean(0)
    return centre, torch.stack([(d.train - centre).square().mean(0) for d in datasets]).mean(0).sqrt()


def _ood_detector_of(own: DatasetFeatures, settings: GateSettings) -> OODDetector:
    image_part = own.train.shape[1] // N_FEATURE_GROUPS * N_IMAGE_GROUPS
    train, validation = own.train[:, :image_part], own.validation[:, :image_part]
    return fit_ood_detector(train, validation, own.train_cases, settings)


def fit_ood_detector(
    train: Tensor, validation: Tensor, train_cases: tuple[str, ...] | None, settings: GateSettings
) -> OODDetector:
    """A detector that lets pass what unseen patients of the dataset look like.

    Args:
        train: (n, F) image features.
        validation: (m, F), of other patients.
        train_cases: of the training rows; one case for all if None.
        settings: rank and limits.
    """
    ood_detector = OODDetector.fit(train, settings.ood_rank)
    if not settings.out_of_distribution:
        ood_detector.limit.fill_(torch.inf)
        return ood_detector
    unseen = [_left_out_distances(train, train_cases, settings.ood_rank), ood_detector.distance(validation)]
    few = train_cases is not None and len(set(train_cases)) < settings.few_patients
    percentile, slack = (
        (settings.few_percentile, settings.few_slack) if few else (settings.ood_percentile, settings.ood_slack)
    )
    limits = [torch.quantile(part, percentile / 100) for part in unseen if len(part)]
    ood_detector.limit.copy_(torch.stack(limits).max() * slack)
    return ood_detector


def _left_out_distances(train: Tensor, cases: tuple[str, ...] | None, rank: int) -> Tensor:
    """Each prompt's distance from OOD detectors that never saw its patient, (n,); in sample where there is one patient.

    How far the next patient lies, the distances of the fitted patients do not tell: there an OOD detector has as many
    directions as it likes.
    """
    names = sorted(set(cases or ()))
    if cases is None or len(names) < 2:
        return OODDetector.fit(train, rank).distance(train)
    part_of = {name: number % _OOD_FOLDS for number, name in enumerate(names)}
    parts = torch.tensor([part_of[case] for case in cases])
    distances = torch.empty(len(train))
    for part in range(min(len(names), _OOD_FOLDS)):
        out = parts == part
        distances[out] = OODDetector.fit(train[~out], rank).distance(train[out])
    return distances


def _best_temperature(logits: Tensor, wanted: Tensor) -> Tensor:
    candidates = torch.logspace(-1, 1, 81)
    losses = torch.stack([functional.cross_entropy(logits / t, wanted) for t in candidates])
    return candidates[losses.argmin()]
