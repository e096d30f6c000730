"""Writing a finished gate as a model folder."""

from moe_pipeline.mixture.folder import FinishedGate
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.records.moe import GateCard
from moe_pipeline.training.gate.fit import GateSettings
from moe_pipeline.training.gate.threshold import confusion, expected_calibration_error, known, reliability, sweep


def gate_card(finished: FinishedGate, settings: GateSettings) -> GateCard:
    """How well a gate routes; without the hash of its weights, which `write_gate` fills in."""
    router, datasets = finished.trained.router, finished.datasets
    table = reliability(router, datasets)
    shares = confusion(router, datasets, finished.tau, finished.outputs)
    config = finished.trained.gate.config
    return GateCard(
        outputs=finished.outputs,
        out_of_distribution=settings.out_of_distribution,
        width=config.width,
        hidden=config.hidden,
        ood_ranks=tuple(ood_detector.whitener.shape[1] for ood_detector in finished.trained.ood_detectors),
        general_datasets=tuple(d.name for d in datasets if d.output == GENERAL),
        weights_sha256="",
        samples={d.name: len(d.train) for d in datasets},
        temperature=float(finished.trained.gate.temperature),
        ood_percentile=settings.ood_percentile,
        confusion=shares,
        calibration_error=expected_calibration_error(table),
        reliability=table,
        known=known(router, datasets) if settings.out_of_distribution else {},
        coverage={name: 1 - row[finished.outputs[0]] for name, row in shares.items()},
        tau=finished.tau,
        sweep=sweep(router, datasets),
        seed=settings.seed,
    )
