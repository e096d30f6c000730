"""The baseline: finetune the whole network on one dataset, as one would without experts, and see what it forgets."""

from collections.abc import Sequence
from pathlib import Path

from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.foundation import FoundationCard
from moe_pipeline.training.engine.ema import copy_into
from moe_pipeline.training.engine.loggers import RunLogger
from moe_pipeline.training.expert.session import (
    FinetuneOptions,
    FinetuneSession,
    Trained,
    open_session,
    save_run_record,
    train,
)
from moe_pipeline.training.expert.task import WholeTask
from moe_pipeline.weights.store import find_foundation, save_foundation, weights_path
from moe_pipeline.weights.words import copy_words
from moe_pipeline.workspace import Workspace

_LEARNING_RATE = 1e-4
NAME = "foundation"
"""Of the files in `Workspace.sft`."""


def finetune_whole(
    place: Workspace,
    folder: Path,
    options: FinetuneOptions | None = None,
    progress: Progress = silent,
    loggers: Sequence[RunLogger] = (),
) -> FoundationCard:
    """Finetune encoder, prompt encoder and decoder together, with the crops, clicks and validation of an expert.

    The result is a foundation of its own, `Workspace.sft`/foundation.safetensors with its card, whose view is the
    plan's. Run again after an interruption, it continues.

    Args:
        place: the workspace.
        folder: the raw dataset.
        options: what differs from the plan; no click proposer is trained.
        progress: told after each case and step.
        loggers: told of each validation, beside log.csv and curve.png.

    Raises:
        LockedError: if another process trains the same fold.
        PipelineError: if dataset, plan, foundation or an older checkpoint do not fit, or Ctrl-C ended the training.
        DatasetError: if the fold has nothing to train on or to validate with.
    """
    with open_session(place, folder, options or FinetuneOptions(), progress, loggers, encoded=False) as session:
        task, trained = train(session, WholeTask, _LEARNING_RATE)
        return session.processes.from_first(lambda: _save(session, task, trained))


def _save(session: FinetuneSession, task: WholeTask, trained: Trained) -> FoundationCard:
    planned, plan, result, out = session.planned, session.planned.plan, trained.result, session.out
    copy_into(task.module, result.best)
    stored = find_foundation(plan.foundation, session.place.weights)
    start = stored.card
    copy_words(stored.path, weights_path(out, NAME))
    card = save_foundation(
        task.module,
        out,
        name=NAME,
        source=f"moe finetune {plan.dataset} --trainable all, from {plan.foundation}",
        source_sha256=planned.foundation_sha256,
        licence=start.licence,
        preset=start.preset,
        view=plan.view,
        training={
            "dataset": plan.dataset,
            "classes": plan.classes,
            "plan_sha256": plan.sha256(),
            "best_step": result.best_step,
            "best_score": result.best_score,
            "validation": trained.validation,
            "settings": trained.settings,
        },
        overwrite=True,
    )
    save_run_record(session, trained, [f"{NAME}.safetensors", f"{NAME}.json"])
    return card
