"""A training step of an expert on cached embeddings against a step of the whole network as the original takes it.

python benchmarks/expert_step.py [--preset sam_med3d] [--clicks 11] [--batch 1] [--threads 2] [--repeats 5]

The original's step: encoder with real padding and every logit (the tests' slow computation), forward and backward; per
click a decoding, its logits on the full grid, and the loss there; AdamW over all weights. Its decoder is ours, so the
ratio rather flatters the original. The original's step answers all clicks of its prompts; the expert's answers the next
click of a click sequence that other steps began, as in `ExpertTask`. So both a step and an answer learnt from are
compared: mean over the steps of one click sequence.
--skip-original leaves the original out: it takes 8 GB for SAM-Med3D's sizes.
"""

import argparse
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch
from direct import load_direct
from machine import best_seconds, describe, markdown_table
from torch import Tensor
from torch.nn import functional as F

from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.presets import load_preset, preset_names
from moe_pipeline.training.engine.loop import LoopSettings, run_loop
from moe_pipeline.training.engine.losses import interaction_loss, mask_loss, occupancy
from moe_pipeline.training.engine.muon import kernel_rate
from moe_pipeline.training.expert.task import trainable_decoder
from moe_pipeline.training.interactive.simulated_clicks import ClickState, click_sequence

CPU = torch.device("cpu")


class CachedStep:
    """The step of an expert, embedding and target at hand; see `training.task.Task`."""

    identity = "benchmark"

    def __init__(self, foundation: SamFoundation, embedding: Tensor, target: Tensor, clicks: int) -> None:
        self.kernel_rate = kernel_rate(foundation)
        self.module = trainable_decoder(foundation)
        self.foundation = foundation
        self.embedding, self.target, self.clicks = embedding, target, clicks
        self.state: ClickState | None = None

    def loss(self, step: int) -> Tensor:
        """As `ExpertTask.loss`."""
        after, generator = self.state if step % self.clicks else None, torch.Generator().manual_seed(step)
        answer = next(
            click_sequence(self.foundation, self.module, self.embedding, self.target, 1, generator, after=after)
        )
        self.state = answer.remembered()
        return interaction_loss(answer.candidates, occupancy(self.target, answer.logits.shape[2:]), 0.2)

    def validate(self) -> dict[str, float]:
        """Nothing: only steps are measured."""
        return {"score": 0.0}


def cached_step_seconds(task: CachedStep, sequences: int, precision: str) -> float:
    """Mean seconds of a step of the training loop over whole click sequences, optimiser and averaging included."""
    times = []
    for steps in (1, sequences * task.clicks):
        settings = LoopSettings(
            steps=steps,
            learning_rate=1e-4,
            warmup_steps=1,
            validate_every=steps,
            kernel_rate=task.kernel_rate * 1e-4,
            precision=precision,  # type: ignore[arg-type]
        )
        with tempfile.TemporaryDirectory() as folder:
            times.append(run_loop(task, settings, Path(folder), CPU).seconds / steps)
    return times[-1]


def original_step(foundation: SamFoundation, image: Tensor, target: Tensor, clicks: int) -> Callable[[], None]:
    """One step of finetuning everything the original's way."""
    network = deepcopy(foundation).requires_grad_(True)
    config = asdict(network.config.encoder)
    weights = dict(network.image_encoder.named_parameters())
    encode = load_direct()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)
    size = target.shape[-1]

    def work() -> None:
        optimizer.zero_grad()
        embedding = encode(weights, config, image)
        total = torch.zeros(())
        generator = torch.Generator().manual_seed(0)
        for answer in click_sequence(network, network.decoder, embedding, target, clicks, generator):
            full = F.interpolate(answer.logits, size=(size, size, size), mode="trilinear", align_corners=False)
            total = total + mask_loss(full, target.float()).mean()
        (total / clicks).backward()
        optimizer.step()

    return work


def balls(count: int, size: int) -> Tensor:
    """Targets (P, 1, S, S, S) of different radii."""
    axis = torch.arange(size) - size / 2
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    radii = torch.linspace(size / 8, size / 4, count)
    return torch.stack([(x**2 + y**2 + z**2) < radius**2 for radius in radii])[:, None]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="sam_med3d", choices=preset_names())
    parser.add_argument("--clicks", type=int, default=11)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3, help="click sequences of the expert")
    parser.add_argument("--original-repeats", type=int, default=1)
    parser.add_argument("--skip-original", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe(CPU) + "\n")
    torch.manual_seed(0)
    config = load_preset(arguments.preset).config
    foundation = build_foundation(config).eval().requires_grad_(False)
    size = config.encoder.img_size
    image, target = torch.randn(arguments.batch, 1, size, size, size), balls(arguments.batch, size)
    with torch.no_grad():
        embedding = foundation.image_encoder(image)
    measured: list[tuple[str, float, int]] = []  # name, seconds, answers learnt from
    for precision in ("fp32", "bf16"):
        task = CachedStep(foundation, embedding, target, arguments.clicks)
        value = cached_step_seconds(task, arguments.repeats, precision)
        measured.append((f"expert on cached embeddings, {precision}", value, 1))
    whole = None
    if not arguments.skip_original:
        work = original_step(foundation, image, target, arguments.clicks)
        whole = best_seconds(work, arguments.original_repeats, CPU)
        measured.append(("whole network, the original's way", whole, arguments.clicks))
    rows = []
    for name, value, answers in measured:
        faster = [f"{whole / value:.1f}", f"{whole / value * answers / arguments.clicks:.1f}"] if whole else ["", ""]
        rows.append([name, f"{value:.3f}", str(answers), *faster])
    print(f"{arguments.preset}, {arguments.batch} prompts, {arguments.clicks} clicks:\n")
    print(markdown_table(["step", "seconds", "answers learnt from", "times faster", "the same per answer"], rows))


if __name__ == "__main__":
    main()
