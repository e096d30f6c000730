"""From a planned dataset to an expert: cache, train, save."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from moe_pipeline.paths import ExpertFolder
from moe_pipeline.planning.plan_files import load_fingerprint
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.training.click_proposer.train import ClickProposerData, add_click_proposer
from moe_pipeline.training.engine.loggers import RunLogger
from moe_pipeline.training.engine.muon import kernel_rate
from moe_pipeline.training.expert.added_cases import ContinuedTask, find_start
from moe_pipeline.training.expert.rehearsal import RehearsedPrompts, rehearsed_prompts
from moe_pipeline.training.expert.session import (
    FinetuneOptions,
    FinetuneSession,
    Trained,
    loop_settings,
    open_session,
    save_run_record,
    train,
)
from moe_pipeline.training.expert.task import ExpertTask
from moe_pipeline.training.interactive.synthetic_scans import SYNTHETIC
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.tensors import save_tensors
from moe_pipeline.workspace import Workspace

__all__ = ["FinetuneOptions", "finetune"]

_LEARNING_RATE = 1.5e-3
_MOST_REHEARSED = 128  # prompts; a training of a thousand steps asks for about as many


def finetune(
    place: Workspace,
    folder: Path,
    options: FinetuneOptions | None = None,
    progress: Progress = silent,
    loggers: Sequence[RunLogger] = (),
) -> ExpertCard:
    """Train the expert of one dataset and save it to the workspace.

    Run again after an interruption, it continues; run again after its end, it only checks. With `options.continued` the
    cases that were added since are taken in, and the expert that is there goes on learning.

    Args:
        place: the workspace.
        folder: the raw dataset.
        options: what differs from the plan.
        progress: told after each case and step.
        loggers: told of each validation of the expert, beside log.csv and curve.png.

    Raises:
        LockedError: if another process trains the same fold.
        PipelineError: if dataset, plan, foundation or an older checkpoint do not fit, or Ctrl-C ended the training.
        DatasetError: if the fold has nothing to train on or to validate with.
    """
    with open_session(place, folder, options or FinetuneOptions(), progress, loggers, encoded=True) as session:
        kernels = kernel_rate(session.planned.foundation)
        kind: Callable[..., ExpertTask] = ExpertTask
        if session.options.continued:
            start = session.processes.from_first(lambda: find_start(session.out, session.planned.plan))
            kind = partial(ContinuedTask, start)
        rehearsed = session.processes.from_first(lambda: _rehearsed(session)) if session.options.rehearsal else None
        task, trained = train(session, kind, _LEARNING_RATE, kernels, rehearsed)
        return session.processes.from_first(lambda: _with_click_proposer(session, _save(session, task, trained)))


def _rehearsed(session: FinetuneSession) -> RehearsedPrompts:
    planned, place = session.planned, session.place
    general = find_foundation(planned.plan.foundation, place.weights).card.view
    folder = place.embeddings(SYNTHETIC) / "rehearsal"
    steps = loop_settings(planned.plan, session.options, _LEARNING_RATE).steps
    asked_for = round(steps * planned.plan.batch_size * session.options.rehearsal)
    count = min(asked_for, _MOST_REHEARSED)
    return rehearsed_prompts(
        count, planned.plan.view, general, planned.foundation, planned.foundation_sha256, folder, session.progress
    )


def _with_click_proposer(session: FinetuneSession, card: ExpertCard) -> ExpertCard:
    planned, cache, options, out = session.planned, session.cache, session.options, session.out
    if options.click_proposer is None:
        (out / "click_proposer.safetensors").unlink(missing_ok=True)  # of an earlier expert
        return card
    data = ClickProposerData(
        raw=planned.raw,
        plan=planned.plan,
        fold=planned.fold,
        fingerprint=load_fingerprint(session.place.plans(card.dataset)),
        foundation=planned.foundation,
        foundation_sha256=planned.foundation_sha256,
        cache=cache,
        folder=cache.folder / "search",
        device=session.processes.device,
    )
    return add_click_proposer(
        out, card, data, replace(options.click_proposer, seed=planned.plan.seed), session.progress
    )


def _save(session: FinetuneSession, task: ExpertTask, trained: Trained) -> ExpertCard:
    planned, plan, result, out = session.planned, session.planned.plan, trained.result, session.out
    best = task.module.state_dict() | result.best  # buffers, if any, from the module
    card = ExpertCard(
        dataset=plan.dataset,
        classes=plan.classes,
        view=plan.view,
        channel=plan.channel,
        mirror_axes=plan.mirror_axes,
        foundation=plan.foundation,
        foundation_sha256=planned.foundation_sha256,
        weights_sha256=save_tensors(ExpertFolder(out).weights, best, {"dataset": plan.dataset}),
        plan_sha256=plan.sha256(),
        fold=session.options.fold,
        seed=plan.seed,
        best_step=result.best_step,
        best_score=result.best_score,
        validation=trained.validation,
        settings=trained.settings,
        continued_from_sha256=task.start.weights_sha256 if isinstance(task, ContinuedTask) else None,
    )
    card.save(ExpertFolder(out).card)
    save_run_record(session, trained, [ExpertFolder.WEIGHTS, ExpertFolder.CARD])
    return card
