"""Pretraining of a foundation on synthetic volumes, drawn or painted on label maps."""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.errors import CheckpointError, PipelineError
from moe_pipeline.files import sha256_json
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.presets import load_preset
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.foundation import FoundationCard
from moe_pipeline.records.run import library_versions
from moe_pipeline.synthetic.anatomy.label_maps import find_sources, fingerprint
from moe_pipeline.synthetic.painter import PainterSettings, open_painter
from moe_pipeline.synthetic.replay import Replay, ReplaySettings
from moe_pipeline.synthetic.views import cube_edge, stretched
from moe_pipeline.training.engine.dead_channels import reinitialise_dead_channels
from moe_pipeline.training.engine.ema import copy_into
from moe_pipeline.training.engine.loop import LoopResult, LoopSettings, run_loop
from moe_pipeline.training.engine.losses import interaction_loss, occupancy
from moe_pipeline.training.engine.muon import kernel_rate
from moe_pipeline.training.engine.processes import Processes
from moe_pipeline.training.engine.task import check_positive
from moe_pipeline.training.interactive.click_sequences import (
    ClickSequences,
    InteractiveModel,
    PromptBatch,
    SequenceSettings,
    as_it_is,
    hints_of,
)
from moe_pipeline.training.interactive.simulated_clicks import BatchPart, click_sequence
from moe_pipeline.training.pretrain_validation import ValidationVolumes
from moe_pipeline.weights.device import open_device
from moe_pipeline.weights.load import BUILDERS
from moe_pipeline.weights.store import check_ours, find_foundation, save_foundation, weights_path
from moe_pipeline.weights.tensors import load_tensors

_log = logging.getLogger(__name__)

_SHOWS_OF_SEQUENCES = 6  # a click sequence lasts 2.6 steps in the mean, so each painting is shown about twice, too
_SHOWN = 6  # batches on which a foundation to go on from shows which of its channels answer


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """What one step of pretraining sees."""

    volumes: int = 3
    """Volumes per step; each is encoded once."""
    targets: int = 2
    """Objects prompted in each volume."""
    painted_targets: int = 5
    """Objects of each volume to choose these from."""
    shows: int = 2
    """How often a volume is shown in the mean: turned and mirrored, and with other objects."""
    max_clicks: int = 7
    """Clicks per object at most, drawn per step, few more often than many; 2 at the very start."""
    curriculum_steps: int = 1000
    """Until this step, ever less often, only the larger objects are prompted, and small ones weigh more in the loss."""
    validation_volumes: int = 16
    """Volumes of the fixed validation set."""
    validation_clicks: int = 5
    """Clicks per object in validation."""
    learn_from_all: bool = False
    """Whether every answer carries a gradient, or only the first and the last of each click sequence."""
    sequences: int = 8
    """Batches that are prompted in turn, where the encoder stays as it is."""
    iou_weight: float = 0.2
    """Weight of the IoU head's loss."""
    seed: int = 0
    """Of weights, volumes and clicks."""
    anatomy: float = 0.65
    """Share of the volumes that are painted on label maps, if there are any."""
    start: str = ""
    """sha256 of the weights it starts from; empty for random ones."""
    label_maps: str = ""
    """sha256 of the label maps that it paints on; empty for none."""


@dataclass(frozen=True, slots=True)
class PaintingSources:
    """Where painted volumes come from."""

    label_maps: Path | None = None
    """Folder with label maps to paint on."""
    processes: int = 0
    """That paint; 0 for this one."""


class PretrainTask:
    """Multi-click training of the whole foundation; see `training.loop.Task`."""

    def __init__(
        self,
        foundation: Foundation,
        settings: PretrainSettings,
        device: torch.device,
        painting: PaintingSources = PaintingSources(),
    ) -> None:
        self.module = foundation
        self.settings = settings
        self.device = device
        self.size = foundation.geometry.crop_size
        self.identity = sha256_json({"config": foundation.sizes, "settings": asdict(settings)})
        shown = {name: getattr(settings, name) for name in ("seed", "volumes", "targets", "painted_targets", "shows")}
        painted = PainterSettings(
            seed=settings.seed,
            volumes=settings.volumes,
            size=cube_edge(self.size),
            targets=settings.painted_targets,
            label_maps=painting.label_maps,
            anatomy=settings.anatomy,
        )
        painter = open_painter(painted, painting.processes, device)
        self._replay = Replay(ReplaySettings(**shown), painter, device)
        self._validation = ValidationVolumes(
            settings.validation_volumes, settings.validation_clicks, self.size, device, painting.label_maps
        )

    def loss(self, step: int) -> Tensor:
        """Mean interaction loss over the clicks of all prompts of one fresh batch."""
        s = self.settings
        generator = torch.Generator().manual_seed(s.seed * 100_003 + step)
        green = self._green(step)
        easy = float(torch.rand((), generator=generator)) < green
        n_clicks = 2 if green > 0.5 else 1 + int(s.max_clicks * torch.rand((), generator=generator) ** 2)
        batch = stretched(self._replay.batch(step, largest=easy), self.size)
        target = batch.target.flatten(0, 1)[:, None]  # (B*k, 1, *crop)
        embedding = self.module.encode(batch.image)  # (B, C, *grid)
        embedding = embedding.repeat_interleave(s.targets, dim=0)  # (B*k, C, *grid)
        truth = occupancy(target, self.module.geometry.low_resolution_size)
        turns = range(n_clicks) if s.learn_from_all else sorted({0, n_clicks - 1})
        total = torch.zeros((), device=self.device)
        prompted = PromptBatch(embedding, target)
        hints = hints_of(self.module, prompted, (s.seed, step), BatchPart(0, len(target)))
        sequence = click_sequence(self.module, self.module.decoder, embedding, target, n_clicks, generator, hints=hints)
        for turn in range(n_clicks):
            with torch.set_grad_enabled(turn in turns):
                answer = next(sequence)
            if turn in turns:
                total = total + interaction_loss(answer.candidates, truth, s.iou_weight, balance=green)
        return total / len(turns)

    def _green(self, step: int) -> float:
        """1 at the start, 0 after the curriculum."""
        return max(0.0, 1 - step / self.settings.curriculum_steps) if self.settings.curriculum_steps else 0.0

    def shown(self, steps: int) -> int:
        """Volumes that so many steps see."""
        return steps * self.settings.volumes

    def close(self) -> None:
        """End the processes that paint."""
        self._replay.close()

    def validate(self) -> dict[str, float]:
        """See `ValidationVolumes.score`."""
        return self._validation.score(self.module)


class DecoderPretrainTask(PretrainTask):
    """The same for all but the image encoder, which stays as it is; click sequences as in experts' training."""

    def __init__(
        self,
        foundation: Foundation,
        settings: PretrainSettings,
        device: torch.device,
        painting: PaintingSources = PaintingSources(),
    ) -> None:
        super().__init__(foundation, settings, device, painting)
        self.identity = sha256_json({"decoder": self.identity})
        foundation.image_encoder.requires_grad_(False)
        turns = SequenceSettings(
            prompts=settings.volumes * settings.targets,
            max_clicks=settings.max_clicks,
            count=settings.sequences,
            iou_weight=settings.iou_weight,
            seed=settings.seed,
        )
        self._sequences = ClickSequences(self._read, turns, Processes(device))
        self._learner = InteractiveModel(as_it_is, foundation, foundation.decoder)

    def loss(self, step: int) -> Tensor:
        """Interaction loss after the next click of one click sequence."""
        return self._sequences.loss(step, self._learner)

    def memory(self) -> dict[str, Tensor]:
        """All click sequences."""
        return self._sequences.memory()

    def remember(self, memory: dict[str, Tensor]) -> None:
        """Go on with the click sequences that `memory` gave."""
        self._sequences.remember(memory)

    def shown(self, steps: int) -> int:
        """Volumes that so many steps see, each for as long as its click sequence lasts."""
        return self._sequences.begun(steps) * self.settings.volumes

    def close(self) -> None:
        """Stop reading and painting ahead."""
        self._sequences.close()
        super().close()

    @torch.no_grad()
    def _read(self, began: int) -> PromptBatch:
        batch = stretched(self._replay.batch(began), self.size)
        embedding = self.module.encode(batch.image)  # (B, C, *grid)
        embedding = embedding.repeat_interleave(self.settings.targets, dim=0)  # (B*k, C, *grid)
        return PromptBatch(embedding, batch.target.flatten(0, 1)[:, None])


@dataclass(frozen=True, slots=True)
class PretrainOptions:
    """What the user may choose."""

    preset: str = "nano"
    """Sizes and view: one of plans/foundations, or a JSON file, as `load_preset` reads them."""
    name: str = "nano"
    """Name of the weights."""
    max_minutes: float = 60.0
    """Time limit, resumed parts together."""
    steps: int = 20_000
    """Steps at most."""
    learning_rate: float = 8e-4
    """Peak of the schedule."""
    precision: str = "bf16"
    """fp32, or bf16: where the processor has it is about twice as fast."""
    seed: int = 0
    """Of weights, volumes and clicks."""
    device: str = "cpu"
    """Where to compute."""
    start: str | None = None
    """Foundation to go on from, by name or path; random weights, and a curriculum, if None."""
    frozen_encoder: bool = False
    """Train all but the image encoder, several times as many steps in the same time; needs `start`."""
    label_maps: Path | None = None
    """Folder with label maps to paint most volumes on."""
    volumes: int | None = None
    """Volumes per step; if None 3, which suits a CPU, or 2 with `frozen_encoder`."""
    painters: int = 1
    """Processes that paint, each with one thread; 0 paints on `device`, between the steps."""

    def __post_init__(self) -> None:
        check_positive(
            max_minutes=self.max_minutes, steps=self.steps, learning_rate=self.learning_rate, volumes=self.volumes
        )
        if self.painters < 0:
            raise PipelineError(f"--painters must be 0 or more, got {self.painters}")
        if self.frozen_encoder and self.start is None:
            raise PipelineError(
                "random weights are not worth freezing: --frozen-encoder needs --start, a foundation to go on from"
            )
        if self.precision not in ("fp32", "bf16"):
            raise PipelineError(f"precision must be fp32 or bf16, got {self.precision!r}")


def pretrain_foundation(out: Path, options: PretrainOptions, progress: Progress = silent) -> FoundationCard:
    """Pretrain a preset from random weights and write `<name>.safetensors` (fp16) with its card.

    Args:
        out: folder for checkpoint, log.csv and the weights; an interrupted run in it is continued.
        options: see there.
        progress: told after each step.

    Raises:
        CheckpointError: if weights of that name are there that are not ours.
        InterruptedRunError: if Ctrl-C ended the training; the checkpoint is in `out`.
    """
    chosen = load_preset(options.preset)
    check_ours(weights_path(out, options.name))  # a bad name, or one that is taken, is an error now, not after hours
    device = open_device(options.device)
    torch.manual_seed(options.seed)
    foundation = BUILDERS[chosen.sizes.network](chosen.sizes).to(device)
    settings = PretrainSettings(seed=options.seed)
    if options.start is not None:
        _go_on_from(foundation, options.start)
        if options.frozen_encoder:
            settings = replace(settings, volumes=2, shows=_SHOWS_OF_SEQUENCES)
        settings = replace(settings, curriculum_steps=0, start=find_foundation(options.start).card.weights_sha256)
    if options.volumes is not None:
        settings = replace(settings, volumes=options.volumes)
    if options.label_maps is not None:
        settings = replace(settings, label_maps=fingerprint(options.label_maps), validation_volumes=12)
    loop = LoopSettings(
        steps=options.steps,
        learning_rate=options.learning_rate,
        kernel_rate=kernel_rate(foundation) * options.learning_rate,
        warmup_steps=100,
        validate_every=400 if options.frozen_encoder else 100,
        max_minutes=options.max_minutes,
        weight_decay=0.05,
        ema_decay=0.995,
        precision="bf16" if options.precision == "bf16" else "fp32",
    )
    kind = DecoderPretrainTask if options.frozen_encoder else PretrainTask
    task = kind(foundation, settings, device, PaintingSources(options.label_maps, options.painters))
    try:
        result = pretrain(task, loop, out, device, progress)
    finally:
        task.close()
    return save_foundation(
        foundation,
        out,
        name=options.name,
        source=_command(options),
        licence=_licence(options.label_maps),
        preset=chosen.name,
        view=chosen.view,
        training={
            "volumes": "synthetic only" if options.label_maps is None else "synthetic, most painted on label maps",
            "label_maps": _credits(options.label_maps),
            "versions": library_versions(),
            "steps": result.steps,
            "samples": task.shown(result.steps),
            "minutes": round(result.seconds / 60, 1),
            "best_step": result.best_step,
            "best_score": result.best_score,
            "validation": result.rows,
        },
        dtype=torch.float16,
        overwrite=True,
    )


def pretrain(
    task: PretrainTask,
    loop: LoopSettings,
    folder: Path,
    device: torch.device,
    progress: Progress = silent,
) -> LoopResult:
    """Train a foundation on synthetic volumes until it has the averaged weights of the best validation.

    An interrupted run in `folder` is continued.

    Args:
        task: with a freshly built foundation, on `device`.
        loop: for how long and how fast.
        folder: for checkpoint and log.
        device: CPU or GPU.
        progress: told after each step.

    Returns:
        How the run ended.
    """
    foundation, settings = task.module, task.settings
    if settings.start and not (folder / "checkpoint.safetensors").is_file():
        reinitialise_dead_channels(foundation, lambda: [task.loss(step) for step in range(_SHOWN)], settings.seed)
    result = run_loop(task, loop, folder, device, progress)
    copy_into(foundation, result.best)
    return result


def _command(options: PretrainOptions) -> str:
    """What to type for the same training; of the flags those that are set."""
    words = ["moe pretrain"]
    for name, value in asdict(options).items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(value.name if isinstance(value, Path) else str(value))
    return " ".join(words)


def _credits(label_maps: Path | None) -> list[dict[str, str]]:
    """Title and licence of each source of label maps."""
    sources = find_sources(label_maps).values() if label_maps is not None else ()
    return [{"title": source.title, "licence": source.licence} for source in sources]


def _licence(label_maps: Path | None) -> str:
    """Ours; of weights that learnt from label maps, with those of their sources."""
    others = sorted({one["licence"] for one in _credits(label_maps)})
    return "Apache-2.0" + (f"; learnt from label maps under {', '.join(others)}" if others else "")


def _go_on_from(foundation: Foundation, start: str) -> None:
    """Take over what fits by name and shape; parts that the earlier network did not have stay as they are drawn."""
    stored = find_foundation(start)
    known = load_tensors(stored.path, stored.card.weights_sha256)
    present = foundation.state_dict()
    fitting = {name: known[name] for name in present if name in known and known[name].shape == present[name].shape}
    if 2 * len(fitting) < len(present):
        raise CheckpointError(f"{start}: cannot go on from it, only {len(fitting)} of {len(present)} tensors fit")
    _log.info("%s: took over %d tensors, %d are new", start, len(fitting), len(present) - len(fitting))
    foundation.load_state_dict(present | fitting)
