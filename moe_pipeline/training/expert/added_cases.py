"""An expert that goes on learning when its dataset has got more cases."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_pipeline.errors import DatasetError, StaleCacheError
from moe_pipeline.files import sha256_json
from moe_pipeline.mixture.expert import find_expert
from moe_pipeline.paths import ExpertFolder
from moe_pipeline.planning.plan_dataset import plan_added
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.planning import Plan
from moe_pipeline.training.expert.task import ExpertTask
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ExpertStart:
    """The weights that a training begins with."""

    folder: Path
    """Of the expert."""
    weights_sha256: str
    """Its weights before this training; they lie in the folder until it ends."""


class ContinuedTask(ExpertTask):
    """The same training, but from an expert's weights.

    Args:
        start: the expert.
        args: as of `ExpertTask`.
    """

    def __init__(self, start: ExpertStart, *args: Any) -> None:
        super().__init__(*args)
        self.start = start
        self.identity = sha256_json({"task": self.identity, "from": start.weights_sha256})

    def begin(self) -> None:
        """Before a training that is not gone on with: take the expert's weights."""
        self.module.load_state_dict(load_tensors(ExpertFolder(self.start.folder).weights, self.start.weights_sha256))


def take_in_added(place: Workspace, folder: Path, fold: int, progress: Progress = silent) -> None:
    """Bring the plan of an expert's dataset up to the cases that were added since.

    Args:
        place: the workspace.
        folder: the raw dataset.
        fold: of the expert.
        progress: told after each case.

    Raises:
        RecordError: if there is no such expert, or the dataset was never planned.
        StaleCacheError: if foundation, view, channel or seed of the plan are no longer those of the expert.
        DatasetError: if the dataset changed otherwise; see `plan_added`.
    """
    name = folder.resolve().name
    card, plan = find_expert(place, name, fold), Plan.load(place.plan(name))
    foundation = find_foundation(plan.foundation, place.weights).card.weights_sha256
    here = {"foundation": foundation, "view": plan.view, "channel": plan.channel, "seed": plan.seed}
    then = {"foundation": card.foundation_sha256, "view": card.view, "channel": card.channel, "seed": card.seed}
    for what, expected in then.items():
        if here[what] != expected:
            raise StaleCacheError(
                f"{place.plan(name)}: the {what} is {_shown(here[what])}, but the expert of fold {fold} learnt with "
                f"{_shown(expected)}; bring the plan of that time back (plan.previous.json, if `moe plan` was run since"
                f"), or begin anew with `moe finetune {name} --fold {fold} --overwrite`"
            )
    plan_added(folder, place.plans(name), place.weights, progress)


def find_start(out: Path, plan: Plan) -> ExpertStart:
    """What a training that goes on begins with; where it has ended already, what it began with.

    Args:
        out: folder of the expert.
        plan: that takes in all cases.

    Raises:
        DatasetError: if no case was added.
    """
    card = ExpertCard.load(ExpertFolder(out).card)
    if card.plan_sha256 != plan.sha256():
        return ExpertStart(out, card.weights_sha256)
    if card.continued_from_sha256 is None or not (out / "checkpoint.safetensors").is_file():
        raise DatasetError(
            f"{out}: the expert has learnt from all cases that {plan.dataset} has; add cases first, or train anew with "
            "--overwrite"
        )
    return ExpertStart(out, card.continued_from_sha256)


def _shown(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)
