import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moe_pipeline.errors import CheckpointError
from moe_pipeline.mixture.gate_files import DatasetFeatures, TrainedGate
from moe_pipeline.model.moe.gate import GateConfig
from moe_pipeline.training.engine.loop import LoopSettings
from moe_pipeline.training.gate.fit import GateSettings, fit_gate

LOOP = LoopSettings(steps=60, learning_rate=3e-3, warmup_steps=5, validate_every=20)
SETTINGS = GateSettings(hidden=16, feature_noise=0.3)


def cloud(name: str, output: int, centre: float, seed: int) -> DatasetFeatures:
    """Prompts of a dataset whose features lie around one place; width 4, so 20 features."""
    rows = torch.randn(160, 20, generator=torch.Generator().manual_seed(seed))
    rows[:, ::2] += centre  # not all of them: a common shift is what the gate's LayerNorm takes away
    return DatasetFeatures(name, output, rows[:120], rows[120:])


def two_clouds() -> list[DatasetFeatures]:
    return [cloud("own", 1, 1.5, 0), cloud("general", 0, -1.5, 1)]


def test_a_gate_tells_two_datasets_apart(tmp_path: Path) -> None:
    datasets = two_clouds()
    router = fit_gate(datasets, 1, SETTINGS, LOOP, tmp_path).router
    assert (router.answering(datasets[0].validation, 0.5) == 1).float().mean() > 0.9
    assert (router.answering(datasets[1].validation, 0.5) == 0).all()


def test_the_same_seed_gives_the_same_gate_and_another_one_another(tmp_path: Path) -> None:
    tensors = [
        fit_gate(two_clouds(), 1, GateSettings(hidden=16, seed=seed), LOOP, tmp_path / str(place)).tensors()
        for place, seed in enumerate((0, 0, 1))
    ]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert not torch.equal(tensors[0]["gate.out.weight"], tensors[2]["gate.out.weight"])


def test_targets_overrule_the_dataset(tmp_path: Path) -> None:
    own, general = two_clouds()
    stays = own.train[:, 0] > 1.5  # half of the prompts: the general expert is better
    kept = DatasetFeatures(
        "own",
        1,
        own.train,
        own.validation,
        train_targets=torch.where(stays, 0, 1),
        validation_targets=torch.where(own.validation[:, 0] > 1.5, 0, 1),
    )
    loop = LoopSettings(steps=300, learning_rate=3e-3, warmup_steps=5, validate_every=100)
    router = fit_gate([kept, general], 1, GateSettings(hidden=32, feature_noise=0.0), loop, tmp_path).router
    routed = router.answering(own.train, 0.5)
    assert (routed == torch.where(stays, 0, 1)).float().mean() > 0.8


def test_without_ood_detectors_and_calibration_everybody_is_known_at_temperature_one(tmp_path: Path) -> None:
    bare = GateSettings(hidden=16, out_of_distribution=False, calibrated=False)
    trained = fit_gate(two_clouds(), 1, bare, LOOP, tmp_path)
    assert trained.ood_detectors[0].limit == math.inf
    assert trained.gate.temperature == 1
    assert trained.router.knows(torch.full((3, 20), 1e6)).all()


def test_a_gate_survives_its_tensors(tmp_path: Path) -> None:
    trained = fit_gate(two_clouds(), 1, SETTINGS, LOOP, tmp_path)
    config, ranks = trained.gate.config, [ood_detector.whitener.shape[1] for ood_detector in trained.ood_detectors]
    again = TrainedGate.from_tensors(trained.tensors(), config, ranks)
    features = torch.randn(5, 20)
    assert torch.equal(trained.router.weights(features), again.router.weights(features))
    other = GateConfig(width=config.width, n_experts=1, hidden=config.hidden + 1)
    with pytest.raises(CheckpointError, match="size mismatch"):
        TrainedGate.from_tensors(trained.tensors(), other, ranks)


def patients(seed: int, n: int, prompts: int = 30) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Prompts of some patients, each with a place of its own: (n * prompts, 20)."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randn(n, 1, 20, generator=generator)
    rows = (places + 0.1 * torch.randn(n, prompts, 20, generator=generator)).flatten(0, 1)
    return rows, tuple(f"patient_{i // prompts}" for i in range(n * prompts))


def test_a_ood_detector_expects_patients_unlike_those_it_was_fitted_to(tmp_path: Path) -> None:
    train, cases = patients(0, 12)
    own = DatasetFeatures("own", 1, train, train[:0], train_cases=cases)
    general = cloud("general", 0, -1.5, 1)
    loop = LoopSettings(steps=1, learning_rate=1e-3, warmup_steps=1, validate_every=2)
    ood_detectors = {}
    for name, dataset in {"by patient": own, "in sample": replace(own, train_cases=None)}.items():
        dataset = replace(dataset, validation=train[:1])
        settings = GateSettings(hidden=8, calibrated=False, few_patients=0)
        (ood_detectors[name],) = fit_gate([dataset, general], 1, settings, loop, tmp_path / name).ood_detectors
    fresh, _ = patients(7, 12)
    assert ood_detectors["by patient"].knows(fresh).float().mean() > 0.9
    assert ood_detectors["in sample"].knows(fresh).float().mean() < 0.5
    assert not ood_detectors["by patient"].knows(fresh + 6).any()


def test_one_odd_patient_among_few_does_not_open_the_ood_detector(tmp_path: Path) -> None:
    train, cases = patients(0, 25, prompts=8)
    train[:8] += 6  # the first patient is unlike the others
    own = DatasetFeatures("own", 1, train, train[8:9], train_cases=cases)
    loop = LoopSettings(steps=1, learning_rate=1e-3, warmup_steps=1, validate_every=2)
    datasets = [own, cloud("general", 0, -1.5, 1)]
    knows = {}
    for many in (20, 50):  # 25 patients are many, or few
        settings = GateSettings(hidden=8, calibrated=False, few_patients=many)
        (ood_detector,) = fit_gate(datasets, 1, settings, loop, tmp_path / str(many)).ood_detectors
        knows[many] = ood_detector.knows(2.5 * patients(7, 12)[0]).float().mean()
    assert knows[20] > 0.5
    assert knows[50] < 0.15
