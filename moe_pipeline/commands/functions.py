"""The commands as Python functions. What each needs is imported when it is called."""

import os
import time
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args, overload

from moe_pipeline.arguments import (
    AnyPath,
    Names,
    as_choice,
    as_flag,
    as_folder,
    as_names,
    as_number,
    as_path,
    as_text,
    as_whole,
    options_of,
)
from moe_pipeline.errors import PipelineError
from moe_pipeline.paths import remote_url
from moe_pipeline.progress import Progress, silent
from moe_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from moe_pipeline.cluster.engines import EngineName, EngineOptions
    from moe_pipeline.cluster.finetuning import FoldOutcome
    from moe_pipeline.commands.predict import PredictReport
    from moe_pipeline.evaluation.challenge import ChallengeReport
    from moe_pipeline.evaluation.forgetting.compare import MatrixReport
    from moe_pipeline.inference.keywords import PredictKeywords
    from moe_pipeline.planning.plan_dataset import PlannedFiles
    from moe_pipeline.records.dataset import ConversionReport
    from moe_pipeline.records.experts import ExpertCard
    from moe_pipeline.records.foundation import FoundationCard
    from moe_pipeline.records.moe import GateCard, Rule, Targets

ROOT = "moe_workspace"


class FinetuneKeywords(TypedDict, total=False):
    """Those of `finetune` that say how."""

    epochs: int | None
    max_minutes: float | None
    patience: int | None
    learning_rate: float | None
    trainable: Literal["decoder", "all"]
    click_proposer: bool
    device: str
    devices: int
    precision: Literal["auto", "fp32", "bf16"]
    continued: bool
    overwrite: bool


def convert(
    source: AnyPath,
    *,
    out: AnyPath | None = None,
    source_format: str | None = None,
    labels: AnyPath | None = None,
    images: str | None = None,
    masks: str | None = None,
    channels: Names = (),
    threshold: float | None = None,
    fix: Names = (),
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "ConversionReport":
    """Make an nnU-Net v2 raw folder of a dataset in another layout: `moe convert`.

    A case that cannot be converted is a row of the report with its reason.

    Args:
        source: folder of the dataset, which is only read.
        out: name such as Dataset004_Hippocampus, or a path; by default after the source.
        source_format: of the source; recognised if not given.
        labels: JSON of classes to make.
        images: template of image paths.
        masks: template of label paths.
        channels: to take, in order.
        threshold: smallest fraction inside a fractional DICOM segment.
        fix: names of what may be mended on the way.
        engine: where cases are converted: local, slurm or ray.
        ray_address: of a Ray cluster; one is started if not given.
        workspace: folder that holds everything moe writes.
        progress: told after each case.

    Raises:
        PipelineError: if an argument is not what it should be, or as `dataset_conversion.convert.convert`.
    """
    from dataset_conversion.checking.fixing import fixes_named
    from dataset_conversion.convert import convert as convert_dataset
    from dataset_conversion.label_map import LabelMap
    from dataset_conversion.layout import Options
    from dataset_conversion.naming import suggest_name
    from moe_pipeline.cluster.engines import EngineOptions, as_engine, engine_file, open_engine
    from moe_pipeline.commands.convert import ConvertOnEngine

    place, folder, run = _place(workspace), as_path("source", source), None
    chosen = EngineOptions(engine=as_engine(engine), ray_address=ray_address)
    target = place.raw(suggest_name(folder)) if out is None else as_path("out", out)
    if out is not None and "/" not in os.fspath(out):
        target = place.raw(target.name)
    if not chosen.is_local:  # a worker may stand in another folder
        folder, target = folder.resolve(), target.resolve()
        units = place.root.resolve() / "units" / "convert"
        run = ConvertOnEngine(open_engine(chosen), engine_file(place).of("convert"), folder, units)
    options = Options(
        "" if images is None else as_text("images", images),
        "" if masks is None else as_text("masks", masks),
        as_names("channels", channels),
        None if threshold is None else as_number("threshold", threshold),
    )
    return convert_dataset(
        folder,
        target,
        None if source_format is None else as_text("source_format", source_format),
        progress,
        options=options,
        label_map=None if labels is None else LabelMap.load(as_path("labels", labels)),
        fixes=fixes_named(as_names("fix", fix)),
        run=run,
    )


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

    place, run = _place(workspace), fingerprint_here
    chosen = EngineOptions(engine=as_engine(engine), ray_address=ray_address)
    if not chosen.is_local:
        place = Workspace(place.root.resolve())
    folder = place.raw_folder(_dataset("dataset", dataset))
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
        The card of the expert, or of the network that was finetuned as a whole; of a list, what has
        become of each fold.

    Raises:
        PipelineError: if an argument is not what it should be, or as `training.expert.finetune`.
    """
    from moe_pipeline.cluster.engines import EngineOptions, as_engine
    from moe_pipeline.cluster.finetuning import finetune_folds_on, folds_of
    from moe_pipeline.training.click_proposer.train import ClickProposerSettings
    from moe_pipeline.training.expert.finetune import FinetuneOptions
    from moe_pipeline.training.expert.finetune import finetune as train
    from moe_pipeline.training.expert.full_finetune import finetune_whole

    options = FinetuneOptions(
        fold=0 if fold == "all" else _least("fold", fold, 0),
        epochs=None if epochs is None else _least("epochs", epochs, 1),
        max_minutes=None if max_minutes is None else _positive("max_minutes", max_minutes),
        patience=None if patience is None else _least("patience", patience, 1),
        learning_rate=None if learning_rate is None else _positive("learning_rate", learning_rate),
        device=as_text("device", device),
        devices=_least("devices", devices, 1),
        precision=as_choice("precision", precision, ("auto", "fp32", "bf16")),
        overwrite=as_flag("overwrite", overwrite),
        continued=as_flag("continued", continued),
        click_proposer=ClickProposerSettings() if as_flag("click_proposer", click_proposer) else None,
    )
    place, chosen = _place(workspace), EngineOptions(engine=as_engine(engine), ray_address=ray_address, jobs=jobs)
    whole = as_choice("trainable", trainable, ("decoder", "all")) == "all"
    if isinstance(dataset, list | tuple):
        names = dict.fromkeys(place.raw_folder(one).name for one in _datasets("dataset", dataset))
        folds = [(name, number) for name in names for number in folds_of(place, name, str(fold))]
        return finetune_folds_on(chosen, place, folds, options, progress, whole=whole)
    if fold == "all" or jobs != 1 or not chosen.is_local:
        raise PipelineError("fold='all', jobs and engine are for a list of datasets; give [dataset]")
    return (finetune_whole if whole else train)(
        place, place.raw_folder(_dataset("dataset", dataset)), options, progress
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
    from moe_pipeline.training.claims.learn_claims import ClaimSettings
    from moe_pipeline.training.gate.gate_run import GateOptions
    from moe_pipeline.training.gate.train_gate import train_gate as train

    options = GateOptions(
        fold=_least("fold", fold, 0),
        device=as_text("device", device),
        synthetic=_least("synthetic", synthetic, 0),
        background_clicks=as_flag("background_clicks", background_clicks),
        rule=as_choice("rule", rule, get_args(Rule)),
        targets=as_choice("targets", targets, get_args(Targets)),
        margin=as_number("margin", margin),
        claims=ClaimSettings(risk=as_number("risk", risk), confidence=as_number("confidence", confidence)),
    )
    place = _place(workspace)
    named = {"datasets": datasets, "general": general}
    experts, others = ([place.raw_folder(one) for one in _datasets(name, given)] for name, given in named.items())
    return train(place, experts, others, options, progress)


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
        PipelineError: if an argument is not what it should be, or as `training.gate.add_expert.update_expert`.
    """
    from moe_pipeline.training.claims.learn_claims import ClaimSettings
    from moe_pipeline.training.gate.add_expert import update_expert as update

    place = _place(workspace)
    return update(
        place,
        place.model if model is None else as_path("model", model),
        place.raw_folder(_dataset("dataset", dataset)),
        as_text("device", device),
        claims=ClaimSettings(risk=as_number("risk", risk), confidence=as_number("confidence", confidence)),
        progress=progress,
        fold=None if fold is None else _least("fold", fold, 0),
    )


def predict(
    images: AnyPath,
    out: AnyPath,
    *,
    interactive_log: AnyPath | None = None,
    preset: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
    **options: "Unpack[PredictKeywords]",
) -> "PredictReport":
    """Segment a folder of images: label maps, cases.csv, and dice.csv where there are references: `moe predict`.

    A case that fails is a row with its reason. One image in memory is `load_model(...).predict`.

    Args:
        images: folder of images.
        out: folder for label maps and tables. Both, and the workspace, may be addresses such as s3://bucket/scans.
        interactive_log: journal of a session, or a folder of them, to do again what a person did.
        preset: of a challenge, whose container layout `images` and `out` have then.
        workspace: folder that holds everything moe writes.
        progress: told after each case.
        options: by the names of the command's options; see `inference.options.PredictOptions`.

    Raises:
        PipelineError: if options, model or folders do not fit; before anything is predicted.
    """
    from moe_pipeline.commands.container import predict_container
    from moe_pipeline.commands.predict import predict_and_score
    from moe_pipeline.inference.keywords import predict_options

    chosen = predict_options(images, out, **options)
    if remote_url(as_path("images", images)) is None:
        as_folder("images", images, "images to segment")
    if interactive_log is not None:
        from moe_pipeline.commands.replay import replay_journals

        return replay_journals(_place(workspace), chosen, as_path("interactive_log", interactive_log), progress)
    if preset is not None:
        return predict_container(_place(workspace), chosen, as_text("preset", preset), progress)
    return predict_and_score(Workspace(as_path("workspace", workspace)), chosen, progress)


@overload
def evaluate(
    predictions: AnyPath, references: AnyPath, out: AnyPath | None = None, *, progress: Progress = silent
) -> "pd.DataFrame": ...


@overload
def evaluate(
    predictions: AnyPath,
    references: AnyPath,
    out: AnyPath | None = None,
    *,
    preset: str,
    progress: Progress = silent,
) -> "ChallengeReport": ...


@overload
def evaluate(
    *,
    out: AnyPath | None = None,
    matrix: Literal[True],
    datasets: Names = (),
    unseen: "AnyPath | Iterable[AnyPath]" = (),
    clicks: "int | Iterable[int]" = (1,),
    seed: int = 0,
    model: AnyPath | None = None,
    device: str = "cpu",
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "MatrixReport": ...


def evaluate(
    predictions: AnyPath | None = None,
    references: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    matrix: bool = False,
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    preset: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
    **options: Any,
) -> "pd.DataFrame | ChallengeReport | MatrixReport":
    """Compare label maps with references, or with `matrix` models with each other: `moe evaluate`.

    Args:
        predictions: folder of predicted label maps.
        references: folder of label maps of the same names.
        out: folder for the tables; without one those of predictions are not written, those of `matrix` go into the
            workspace.
        matrix: compare foundation, experts and mixture on held-back cases instead.
        engine: for `matrix`: where cases are scored: local, slurm or ray.
        ray_address: of a Ray cluster; one is started if not given.
        preset: score by the rules of a challenge, sppin2023 or cvpr25.
        workspace: for `matrix`.
        progress: told after each case.
        options: for `matrix`: datasets, unseen, clicks, seed, model, device; see `MatrixOptions`.

    Returns:
        One row per case and class, as in dice.csv; or the tables of the challenge, or of the comparison.

    Raises:
        PipelineError: if an argument is not what it should be, or nothing can be compared.
    """
    from moe_pipeline.cluster.engines import EngineOptions, as_engine

    chosen = EngineOptions(engine=as_engine(engine), ray_address=ray_address)
    if as_flag("matrix", matrix):
        if predictions is not None or references is not None or preset is not None:
            raise PipelineError("matrix makes its own predictions; leave out predictions, references and preset")
        return _evaluate_models(_place(workspace), out, progress, options, chosen)
    if options or not chosen.is_local:
        raise PipelineError(f"{', '.join(options) or 'engine'}: for matrix=True only")
    if predictions is None or references is None:
        raise PipelineError("give predictions and references, or matrix=True")
    from moe_pipeline.datasets.classes import classes_of, scored_classes_beside
    from moe_pipeline.evaluation.challenge import evaluate_challenge
    from moe_pipeline.evaluation.folder import evaluate_folder, record_evaluation

    found = as_folder("predictions", predictions, "predicted label maps")
    expected = as_folder("references", references, "reference label maps")
    classes, regions = scored_classes_beside(expected)
    named = classes or classes_of(expected)
    tables = None if out is None else as_path("out", out)
    if preset is not None:
        return evaluate_challenge(found, expected, named, as_text("preset", preset), tables, progress)
    began = time.monotonic()
    table = evaluate_folder(found, expected, named, tables, regions=regions, progress=progress)
    if tables is not None:
        record_evaluation(tables, found, expected, time.monotonic() - began)
    return table


def _evaluate_models(
    place: Workspace, out: AnyPath | None, progress: Progress, given: dict[str, Any], chosen: "EngineOptions"
) -> "MatrixReport":
    from moe_pipeline.cluster.comparing import forgetting_report_on
    from moe_pipeline.evaluation.forgetting.compare import MatrixOptions

    folder = place.root / "evaluation" if out is None else as_path("out", out)
    options = options_of(MatrixOptions, given, function="evaluate")
    return forgetting_report_on(chosen, place, folder, options, progress)


def _place(workspace: AnyPath) -> Workspace:
    root = as_path("workspace", workspace)
    if (url := remote_url(root)) is not None:
        raise PipelineError(f"workspace: {url}: only predict works with a store; mount it as a folder")
    return Workspace(root)


def _dataset(name: str, given: object) -> str:
    """Number, name or path of one dataset, as text."""
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return str(as_path(name, given))


def _datasets(name: str, given: Any) -> tuple[str, ...]:
    alone = not isinstance(given, list | tuple | set)
    return tuple(_dataset(name, one) for one in ([given] if alone else given))


def _least(name: str, given: object, least: int) -> int:
    number = as_whole(name, given)
    if number < least:
        raise PipelineError(f"{name}: expected at least {least}, found {number}")
    return number


def _positive(name: str, given: object) -> float:
    number = as_number(name, given)
    if number <= 0:
        raise PipelineError(f"{name}: expected more than 0, found {number:g}")
    return number
