"""A table of the paper from raw data: general expert, expert, wholly finetuned network and mixture, class by class."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from dataset_conversion.convert import convert
from dataset_conversion.layout import Options
from dataset_conversion.sources import totalsegmentator
from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.evaluation.forgetting.compare import Comparison, MatrixOptions, MatrixReport, compare
from moe_pipeline.evaluation.forgetting.datasets import EvaluationSet, raw_set
from moe_pipeline.evaluation.forgetting.matrix import GENERAL, MOE, SFT
from moe_pipeline.evaluation.table import write_table
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import ModelFolder
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.presets import PaperClasses, totalsegmentator_classes
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.records.planning import Fold, Plan, Splits
from moe_pipeline.report.tables import as_markdown
from moe_pipeline.training.expert.finetune import finetune
from moe_pipeline.training.expert.full_finetune import finetune_whole
from moe_pipeline.training.expert.session import FinetuneOptions
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace

NAME = "Dataset700_TotalSegmentator"
NOT_FINETUNED = "not finetuned"
"""Name of the set of the classes that show what was forgotten."""
PAGE = "table.md"
_MASKS = "{{case}}/segmentations/{{class:{}}}.nii.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceOptions:
    """What the user may choose."""

    classes: PaperClasses = field(default_factory=totalsegmentator_classes)
    """Which classes, and what the paper says of them."""
    foundation: str = "nano"
    """Preset or imported weights."""
    clicks: tuple[int, ...] = (1,)
    """Simulated clicks per object; a table for each number."""
    training: FinetuneOptions = field(default_factory=lambda: FinetuneOptions(click_proposer=None))
    """Of the expert and of the whole network, alike."""
    gate: GateOptions = field(default_factory=GateOptions)
    """Of the gate."""
    seed: int = 0
    """Of crops, training and clicks."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came out.

    Attributes:
        tables: by number of clicks; columns class, finetuned, n, general, expert, sft, mixture, gain, published_gain.
        text: as in table.md.
        failures: cases that were left out, with their reasons.
    """

    tables: dict[int, pd.DataFrame]
    text: str
    failures: tuple[str, ...]


def reproduce_totalsegmentator(
    place: Workspace, source: Path, options: ReproduceOptions, progress: Progress = silent
) -> Reproduction:
    """Convert, plan, finetune decoder and whole network, train the gate, and compare on the dataset's test cases.

    The dataset's own split is kept: its test cases are compared on, its val cases are held out of the training. Run
    again after an interruption, it goes on where it was.

    Args:
        place: a workspace for this alone; the tables go into its folder evaluation/.
        source: TotalSegmentator's dataset, a folder per case and meta.csv.
        options: see there.
        progress: told of every stage.

    Raises:
        PipelineError: if the workspace has a model of other datasets, or as the stages.
        DatasetError: if a class is in no case.
    """
    _refuse_other_models(place)
    classes = options.classes
    left_out = _convert(place, source, classes, progress)
    raw = place.raw(NAME)
    _plan(place, totalsegmentator.splits(source), options, progress)
    card = finetune(place, raw, options.training, progress)
    finetune_whole(place, raw, options.training, progress)
    if not _gate_fits(place, card):
        train_gate(place, [raw], [], replace(options.gate, device=options.training.device), progress)
    out = place.root / "evaluation"
    matrix = MatrixOptions(clicks=options.clicks, seed=options.seed, device=options.training.device)
    report = compare(place, _sets(place, card, classes), out, matrix, progress)
    tables = {one.n_clicks: _table(one, classes) for one in report.comparisons}
    text = _page(tables, report, card, classes)
    own = Written(out / FINISHED)
    for n_clicks, table in tables.items():
        with own.writing(f"table_{n_clicks}_click{'s' * (n_clicks > 1)}.csv") as temporary:
            write_table(temporary, table)
    own.write_text(PAGE, text)
    return Reproduction(tables, text, (*left_out, *report.failures))


def _refuse_other_models(place: Workspace) -> None:
    path = ModelFolder(place.model).card
    if path.is_file() and (others := {entry.dataset for entry in ModelCard.load(path).experts} - {NAME}):
        raise PipelineError(
            f"{place.model}: a model of {', '.join(sorted(others))}, which would be replaced; "
            "give a workspace for this alone with --workspace"
        )


def _convert(place: Workspace, source: Path, classes: PaperClasses, progress: Progress) -> tuple[str, ...]:
    """Only the masks of these classes; why cases were left out."""
    wanted = [*classes.finetuned, *classes.not_finetuned]
    options = Options(masks=_MASKS.format("|".join(wanted)), channels=("CT",))
    report = convert(source, place.raw(NAME), "totalsegmentator", progress, options=options)
    found = set(open_dataset(place.raw(NAME)).classes.values())
    if missing := [name for name in wanted if name not in found]:
        raise DatasetError(
            f"{source}: no case has segmentations/{missing[0]}.nii.gz; "
            f"of the classes asked for there are {', '.join(sorted(found))}"
        )
    return tuple(f"{row.case_id}: {row.message}" for row in report.failed)


def _plan(place: Workspace, parts: Mapping[str, str], options: ReproduceOptions, progress: Progress) -> None:
    """Plan for the classes that are finetuned, and hold out the dataset's own val cases where it names some."""
    files = plan_dataset(
        place.raw(NAME),
        place.plans(NAME),
        options.foundation,
        place.weights,
        options.seed,
        progress,
        leave_out_faulty=True,
    )
    kept = {value: name for value, name in files.plan.classes.items() if name in options.classes.finetuned}
    weights = {value: files.plan.class_weights[value] for value in kept}
    plan = files.plan.model_copy(update={"classes": kept, "class_weights": weights})
    Plan.model_validate(plan.model_dump()).save(place.plan(NAME))
    cases = {case for fold in files.splits.folds for case in (*fold.train, *fold.validation)}
    validation = tuple(sorted(case for case in cases if parts.get(case) == "val"))
    if validation:
        fold = Fold(train=tuple(sorted(cases - set(validation))), validation=validation)
        own = Splits(dataset=NAME, seed=options.seed, grouped_by=f"split of {totalsegmentator.META}", folds=(fold,))
        own.save(place.splits(NAME))


def _gate_fits(place: Workspace, card: ExpertCard) -> bool:
    """Whether the model that is there was trained with this expert."""
    path = ModelFolder(place.model).card
    return path.is_file() and [entry.weights_sha256 for entry in ModelCard.load(path).experts] == [card.weights_sha256]


def _sets(place: Workspace, card: ExpertCard, classes: PaperClasses) -> list[EvaluationSet]:
    """The held-back cases with the classes that are finetuned, and again with the others."""
    finetuned = raw_set(place, NAME, card, card.channel)
    named = open_dataset(place.raw(NAME)).classes
    others = {value: name for value, name in named.items() if name in classes.not_finetuned}
    return [finetuned, *([replace(finetuned, name=NOT_FINETUNED, classes=others)] if others else [])]


def _table(comparison: Comparison, classes: PaperClasses) -> pd.DataFrame:
    """One row per class and one for each mean."""
    names = {"class_name": "class", NAME: "expert", f"{SFT} of {NAME}": "sft", MOE: "mixture"}
    table = comparison.matrix.rename(columns=names)
    table["finetuned"] = (table["dataset"] == NAME).map({True: "yes", False: "no"})
    table["gain"] = table["mixture"] - table[GENERAL]
    table["published_gain"] = table["class"].map(classes.finetuned).astype(float)
    columns = ["class", "finetuned", "n", GENERAL, "expert", "sft", "mixture", "gain", "published_gain"]
    return table[columns].reset_index(drop=True)


def _page(tables: Mapping[int, pd.DataFrame], report: MatrixReport, card: ExpertCard, classes: PaperClasses) -> str:
    sets = report.comparisons[0].sets
    parts = [
        "# TotalSegmentator, class by class",
        f"Mean Dice on {int(sets['cases'].iloc[0])} held-back cases ({sets['origin'].iloc[0]}). Foundation: "
        f"{card.foundation}. Every object is scored on its own mask; all models get the same first click.",
    ]
    for n_clicks, table in tables.items():
        parts += [f"## {n_clicks} click{'s' * (n_clicks > 1)} per object", as_markdown(table)]
    parts.append(
        "expert: the finetuned decoder, always asked. sft: the whole network finetuned for as long. mixture: the gate "
        "chooses. gain: mixture - general. published_gain: what the paper reports"
        f"{f' ({classes.source})' if classes.source else ''}, with its own foundation, training and cases."
    )
    if report.failures:
        parts.append("Not compared:\n\n" + "\n".join(f"- {failure}" for failure in report.failures))
    return "\n\n".join(parts) + "\n"
