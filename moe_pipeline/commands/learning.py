"""The commands as Python functions: plan, finetune, train_gate and the experts of a model.

What each needs is imported when it is called.
"""

from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, get_args, overload

from moe_pipeline.arguments import (
    AnyPath,
    as_choice,
    as_dataset,
    as_datasets,
    as_flag,
    as_least,
    as_number,
    as_path,
    as_positive,
    as_text,
    as_whole,
)
from moe_pipeline.errors import PipelineError
from moe_pipeline.paths import remote_url
from moe_pipeline.progress import Progress, silent
from moe_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from moe_pipeline.cluster.engines import EngineName
    from moe_pipeline.cluster.finetuning import FoldOutcome
    from moe_pipeline.planning.plan_dataset import PlannedFiles
    from moe_pipeline.records.experts import ExpertCard
    from moe_pipeline.records.foundation import FoundationCard
    from moe_pipeline.records.moe import GateCard, Rule, Targets
    from moe_pipeline.training.claims.learn_claims import ClaimSettings
    from moe_pipeline.training.expert.session import FinetuneOptions

ROOT = "moe_workspace"


class FinetuneKeywords(TypedDict, total=False):
    """Those of `finetune` that say how."""

    epochs: int | None
    max_minutes: float | None
    patience: int | None
    learning_rate: float | None
    rehearsal: float
    trainable: Literal["decoder", "all"]
    click_proposer: bool
    device: str
    devices: int
    precision: Literal["auto", "fp32", "bf16"]
    continued: bool
    overwrite: bool


def plan(
    dataset: AnyPath | int,
    *,
    foundation: str = "nano",
    seed: int = 0,
    patients: str | None = None,
    skip_faulty: bool = False,
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "PlannedFiles":
    """Check a dataset, take its fingerprint, plan views, crops and training, split it into folds: `moe plan`.

    Args:
        dataset: number, name, or the path of an nnU-Net raw folder.
        foundation: preset or imported weights to plan for.
        seed: of crops, training and folds.
        patients: regular expression that finds the patient in a case id.
        skip_faulty: go on without the cases that have errors.
        engine: where cases are read: local, slurm or ray.
        ray_address: of a Ray cluster; one is started if not given.
        workspace: folder that holds everything moe writes.
        progress: told after each case.

    Raises:
        PipelineError: if an argument is not what it should be, or as `plan_dataset`.
    """
    from moe_pipeline.cluster.engines import EngineOptions, as_engine, engine_file, open_engine
    from moe_pipeline.cluster.planning import fingerprints_on
    from moe_pipeline.planning.plan_dataset import fingerprint_here, plan_dataset

    place, run = workspace_of(workspace), fingerprint_here
    chosen = EngineOptions(engine=as_engine(engine), ray_address=ray_address)
    if not chosen.is_local:
        place = Workspace(place.root.resolve())
    folder = place.raw_folder(as_dataset("dataset", dataset))
    if not chosen.is_local:
        run = fingerprints_on(open_engine(chosen), engine_file(place).of("plan"), folder, place.plans(folder.name))
    return plan_dataset(
        folder,
        place.plans(folder.name),
        as_text("foundation", foundation),
        place.weights,
        as_whole("seed", seed),
        progress,
        leave_out_faulty=as_flag("skip_faulty", skip_faulty),
        patient_pattern=None if patients is None else as_text("patients", patients),
        run=run,
    )


@overload
def finetune(
    dataset: AnyPath | int,
    *,
    fold: int = 0,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
    **options: "Unpack[FinetuneKeywords]",
) -> "ExpertCard | FoundationCard": ...


@overload
def finetune(
    dataset: "list[AnyPath | int] | tuple[AnyPath | int, ...]",
    *,
    fold: int | Literal["all"] = 0,
    jobs: int = 1,
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
    **options: "Unpack[FinetuneKeywords]",
) -> "list[FoldOutcome]": ...


def finetune(
    dataset: "AnyPath | int | list[AnyPath | int] | tuple[AnyPath | int, ...]",
    *,
    fold: int | Literal["all"] = 0,
    epochs: int | None = None,
    max_minutes: float | None = None,
    patience: int | None = None,
    learning_rate: float | None = None,
    rehearsal: float = 0.2,
    trainable: Literal["decoder", "all"] = "decoder",
    click_proposer: bool = True,
    device: str = "cpu",
    devices: int = 1,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    continued: bool = False,
    overwrite: bool = False,
    jobs: int = 1,
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "ExpertCard | FoundationCard | list[FoldOutcome]":
    """Train one expert on a planned dataset, or to compare the whole network: `moe finetune`.

    Of a list of datasets, be it of one, each fold is trained on its own, and one that fails is told with its reason.

    Args:
        dataset: number, name, or the path of an nnU-Net raw folder; or a list of them.
        fold: held out for validation; of a list also `all`, each in turn.
        epochs: instead of the plan's.
        max_minutes: training stops after this time.
        patience: training stops after so many epochs without progress.
        learning_rate: peak of the schedule.
        rehearsal: prompts on synthetic scans beside each of an expert's own, so that it harms little where it is asked
            by mistake.
        trainable: decoder for an expert, all for the whole network.
        click_proposer: also train what predicts without prompts.
        device: where to compute.
        devices: processes that share each batch, each with its device.
        precision: of the forward pass; auto is bf16 where the device is faster with it.
        continued: take in cases that were added since, and go on from the expert's weights: `--continue`.
        overwrite: start anew instead of going on with an earlier training.
        jobs: folds at once, of a list.
        engine: where folds are trained, of a list: local, slurm or ray.
        ray_address: of a Ray cluster; one is started if not given.
        workspace: folder that holds everything moe writes.
        progress: told after each case and step.

    Returns:
        The card of the expert, or of the network that was finetuned as a whole; of a list, what has become of each
        fold.

    Raises:
        PipelineError: if an argument is not what it should be, or as `training.expert.finetune`.
    """
    from moe_pipeline.cluster.engines import EngineOptions, as_engine
    from moe_pipeline.cluster.finetuning import finetune_folds_on, folds_of
    from moe_pipeline.training.expert.finetune import finetune as train
    from moe_pipeline.training.expert.full_finetune import finetune_whole

    options = finetune_options(
        fold=0 if fold == "all" else fold,
        epochs=epochs,
        max_minutes=max_minutes,
        patience=patience,
        learning_rate=learning_rate,
        rehearsal=rehearsal,
        click_proposer=click_proposer,
        device=device,
        devices=devices,
        precision=precision,
        continued=continued,
        overwrite=overwrite,
    )
    place = workspace_of(workspace)
    chosen = EngineOptions(engine=as_engine(engine), ray_address=ray_address, jobs=as_least("jobs", jobs, 1))
    whole = as_choice("trainable", trainable, ("decoder", "all")) == "all"
    if isinstance(dataset, list | tuple):
        names = dict.fromkeys(place.raw_folder(one).name for one in as_datasets("dataset", dataset))
        folds = [(name, number) for name in names for number in folds_of(place, name, str(fold))]
        return finetune_folds_on(chosen, place, folds, options, progress, whole=whole)
    if fold == "all" or jobs != 1 or not chosen.is_local:
        raise PipelineError("fold='all', jobs and engine are for a list of datasets; give [dataset]")
    folder = place.raw_folder(as_dataset("dataset", dataset))
    return (finetune_whole if whole else train)(place, folder, options, progress)


def finetune_options(
    *,
    fold: int,
    epochs: int | None,
    max_minutes: float | None,
    patience: int | None,
    learning_rate: float | None,
    rehearsal: float,
    click_proposer: bool,
    device: str,
    devices: int,
    precision: Literal["auto", "fp32", "bf16"],
    continued: bool,
    overwrite: bool,
) -> "FinetuneOptions":
    """The record of what `finetune` was given, each argument checked."""
    from moe_pipeline.training.click_proposer.train import ClickProposerSettings
    from moe_pipeline.training.expert.session import FinetuneOptions

    return FinetuneOptions(
        fold=as_least("fold", fold, 0),
        epochs=None if epochs is None else as_least("epochs", epochs, 1),
        max_minutes=None if max_minutes is None else as_positive("max_minutes", max_minutes),
        patience=None if patience is None else as_least("patience", patience, 1),
        learning_rate=None if learning_rate is None else as_positive("learning_rate", learning_rate),
        rehearsal=as_number("rehearsal", rehearsal),
        device=as_text("device", device),
        devices=as_least("devices", devices, 1),
        precision=as_choice("precision", precision, ("auto", "fp32", "bf16")),
        overwrite=as_flag("overwrite", overwrite),
        continued=as_flag("continued", continued),
        click_proposer=ClickProposerSettings() if as_flag("click_proposer", click_proposer) else None,
    )


def train_gate(
    datasets: "AnyPath | int | Iterable[AnyPath | int]",
    *,
    general: "AnyPath | int | Iterable[AnyPath | int]" = (),
    fold: int = 0,
    synthetic: int = 160,
    background_clicks: bool = True,
    targets: "Targets" = "dataset",
    margin: float = 0.02,
    rule: "Rule" = "moe",
    risk: float = 0.002,
    confidence: float = 0.95,
    device: str = "cpu",
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "GateCard":
    """Train the gate on the mixed embeddings of all datasets and write the model folder: `moe train-gate`.

    Args:
        datasets: whose experts join.
        general: planned datasets that stay with the foundation.
        fold: the fold the experts were trained on.
        synthetic: synthetic volumes as further general data.
        background_clicks: clicks on unlabelled places of the same images stay with the foundation.
        targets: who should answer: the dataset's expert, or who segments the object better.
        margin: Dice by which an expert must be better, for the targets dice.
        rule: moe, or paper for the published rule.
        risk: mean Dice that experts may cost on prompts that no expert is meant for.
        confidence: that the risk is held.
        device: where to compute.
        workspace: folder that holds everything moe writes.
        progress: told after each case, batch and step.

    Raises:
        PipelineError: if an argument is not what it should be, or as `training.gate.train_gate`.
    """
    from moe_pipeline.records.moe import Rule, Targets
    from moe_pipeline.training.gate.gate_run import GateOptions
    from moe_pipeline.training.gate.train_gate import train_gate as train

    options = GateOptions(
        fold=as_least("fold", fold, 0),
        device=as_text("device", device),
        synthetic=as_least("synthetic", synthetic, 0),
        background_clicks=as_flag("background_clicks", background_clicks),
        rule=as_choice("rule", rule, get_args(Rule)),
        targets=as_choice("targets", targets, get_args(Targets)),
        margin=as_number("margin", margin),
        claims=_claims(risk, confidence),
    )
    place = workspace_of(workspace)
    named = {"datasets": datasets, "general": general}
    experts, others = ([place.raw_folder(one) for one in as_datasets(name, given)] for name, given in named.items())
    return train(place, experts, others, options, progress)


def add_expert(
    dataset: AnyPath | int,
    *,
    model: AnyPath | None = None,
    fold: int | None = None,
    risk: float = 0.002,
    confidence: float = 0.95,
    device: str = "cpu",
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "GateCard":
    """Let a finetuned expert join a model, without the data of the others: `moe experts add`.

    Args:
        dataset: of the expert.
        model: folder of the model; the workspace's if None.
        fold: of the expert, where there are several.
        risk: mean Dice that it may cost on prompts that it is not meant for.
        confidence: that the risk is held.
        device: where to compute.
        workspace: folder that holds everything moe writes.
        progress: told after each case, batch and step.

    Raises:
        PipelineError: if an argument is not what it should be, or as `training.gate.add_expert.add_expert`.
    """
    from moe_pipeline.training.gate.add_expert import add_expert as add

    place, claims = workspace_of(workspace), _claims(risk, confidence)
    folder, number = place.raw_folder(as_dataset("dataset", dataset)), _fold(fold)
    return add(place, _model(place, model), folder, as_text("device", device), None, claims, progress, number)


def update_expert(
    dataset: AnyPath | int,
    *,
    model: AnyPath | None = None,
    fold: int | None = None,
    risk: float = 0.002,
    confidence: float = 0.95,
    device: str = "cpu",
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "GateCard":
    """Renew an expert of a model that was finetuned again, without the data of the others: `moe experts update`.

    Arguments as of `add_expert`.

    Raises:
        PipelineError: if an argument is not what it should be, or as `training.gate.add_expert.update_expert`.
    """
    from moe_pipeline.training.gate.add_expert import update_expert as update

    place, claims = workspace_of(workspace), _claims(risk, confidence)
    folder, number = place.raw_folder(as_dataset("dataset", dataset)), _fold(fold)
    return update(place, _model(place, model), folder, as_text("device", device), None, claims, progress, number)


def _claims(risk: float, confidence: float) -> "ClaimSettings":
    from moe_pipeline.training.claims.learn_claims import ClaimSettings

    return ClaimSettings(risk=as_number("risk", risk), confidence=as_number("confidence", confidence))


def _model(place: Workspace, model: AnyPath | None) -> "Path":
    return place.model if model is None else as_path("model", model)


def _fold(fold: int | None) -> int | None:
    return None if fold is None else as_least("fold", fold, 0)


def workspace_of(workspace: AnyPath) -> Workspace:
    """The workspace that an argument names.

    Raises:
        PipelineError: if it lies in a store.
    """
    root = as_path("workspace", workspace)
    if (url := remote_url(root)) is not None:
        raise PipelineError(f"workspace: {url}: only predict works with a store; mount it as a folder")
    return Workspace(root)
