"""Training a gate on made features of the real size: everything `moe train-gate` does once the features are there.

    python benchmarks/gate.py [--samples 10000] [--experts 4] [--widths 192 384] [--threads 2]

The features are clouds: one per dataset, of few dimensions, with a shift per patient. 192 is nano's width, 384
SAM-Med3D's; a prompt has five times as many features. One fifth of the samples, drawn besides, validates.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from machine import describe, markdown_table

from moe_pipeline.mixture.folder import FinishedGate
from moe_pipeline.mixture.gate_files import DatasetFeatures
from moe_pipeline.model.moe.gate import N_FEATURE_GROUPS
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.training.gate.fit import GateSettings, fit_gate
from moe_pipeline.training.gate.report_card import gate_card
from moe_pipeline.training.gate.threshold import choose_tau
from moe_pipeline.training.gate.train_gate import LOOP

_PATIENTS, _DIRECTIONS = 50, 20


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000, help="training prompts of all datasets together")
    parser.add_argument("--experts", type=int, default=4, help="beside one general dataset")
    parser.add_argument("--widths", type=int, nargs="+", default=[192, 384])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe(torch.device("cpu")) + "\n")
    for width in arguments.widths:
        print(f"{arguments.samples} samples of {N_FEATURE_GROUPS * width} features, {arguments.experts} experts:\n")
        print(markdown_table(["what", "result"], list(measure(arguments.samples, arguments.experts, width))) + "\n")


def measure(samples: int, experts: int, width: int) -> Iterator[list[str]]:
    """Rows of one width."""
    each = samples // (experts + 1)
    datasets = [cloud(f"dataset {k}", k, width, each) for k in range(experts + 1)]
    settings = GateSettings(prompts_per_dataset=each)
    began = clock()
    with tempfile.TemporaryDirectory() as folder:
        trained = fit_gate(datasets, experts, settings, LOOP, Path(folder))
    fitted = clock()
    tau = choose_tau(trained.router, [d for d in datasets if d.output == GENERAL])
    card = gate_card(FinishedGate(trained, tau, datasets, tuple(d.name for d in datasets)), settings)
    measured = clock()
    right = sum(card.confusion[d.name][d.name] for d in datasets) / len(datasets)
    yield [f"{LOOP.steps} steps, temperature, OOD detectors", spent(began, fitted)]
    yield ["tau, sweep, reliability, confusion", spent(fitted, measured)]
    yield ["together", spent(began, measured)]
    yield ["validation prompts answered by the right output", f"{right:.1%}"]


def clock() -> tuple[float, float]:
    """Wall and processor seconds; the latter say what a busy machine would hide."""
    return time.perf_counter(), time.process_time()


def spent(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Time between two moments."""
    return f"{end[0] - start[0]:.1f} s, of which processors worked {end[1] - start[1]:.1f} s"


def cloud(name: str, output: int, width: int, n: int) -> DatasetFeatures:
    """Prompts of one dataset; a fifth of its patients validates."""
    generator = torch.Generator().manual_seed(output)
    features = N_FEATURE_GROUPS * width
    directions = torch.randn(_DIRECTIONS, features, generator=generator)
    centre = torch.randn(features, generator=generator)
    shifts = torch.randn(_PATIENTS, _DIRECTIONS, generator=generator) @ directions / 4
    patients = torch.arange(n + n // 5) * _PATIENTS // (n + n // 5)
    own = torch.randn(len(patients), _DIRECTIONS, generator=generator) @ directions / 8
    rows = centre + shifts[patients] + own + 0.1 * torch.randn(len(patients), features, generator=generator)
    cases = tuple(f"patient {number}" for number in patients[:n].tolist())
    return DatasetFeatures(name, output, rows[:n], rows[n:], train_cases=cases)


if __name__ == "__main__":
    main()
