"""The page of one training, or of several beside each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moe_pipeline.errors import RecordError
from moe_pipeline.paths import LOG_CSV, RUN_JSON, ExpertFolder
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.run import RunRecord
from moe_pipeline.report.drawings.lines import Axis, DrawnLine, draw_lines
from moe_pipeline.report.page.blocks import (
    UNKNOWN,
    Beside,
    Block,
    Cell,
    Column,
    Drawing,
    Figures,
    Page,
    PageSection,
    Prose,
    Table,
)
from moe_pipeline.report.page.names import Names
from moe_pipeline.report.runs.facts import facts_of

_AXES = ("step", "seconds", "loss", "score")
_MINUTE = 60
_TITLES = {"dice_1": "Dice, 1 click", "hit": "clicks in their object", "accuracy": "accuracy"}


@dataclass(frozen=True, slots=True)
class Training:
    """What a training left."""

    folder: Path
    name: str
    """Dataset and fold, or the folder's name."""
    log: pd.DataFrame
    """log.csv."""
    card: ExpertCard | None
    """Of an expert that is finished."""
    record: RunRecord | None
    """run.json."""

    @property
    def measures(self) -> list[str]:
        """Columns of the validation; the score alone where there are no others."""
        return [name for name in self.log.columns if name not in _AXES] or ["score"]

    @property
    def best_row(self) -> int:
        """Number of the row of the best validation."""
        return int(self.log["score"].fillna(-math.inf).to_numpy().argmax())

    @property
    def best(self) -> "pd.Series[float]":
        """Row of the best validation."""
        return self.log.iloc[self.best_row]


def read_training(folder: Path, root: Path | None = None) -> Training:
    """Read a training's folder.

    Args:
        folder: with log.csv.
        root: names are told from here on; the folder's own name if None.

    Raises:
        RecordError: if the table is damaged.
    """
    path = folder / LOG_CSV
    try:
        log = pd.read_csv(path, dtype="float64")
    except (ValueError, pd.errors.ParserError) as error:
        raise RecordError(f"{path}: not a training's table: {error}") from error
    if log.empty or not {"step", "seconds", "loss", "score"} <= set(log.columns):
        raise RecordError(f"{path}: expected rows with step, seconds, loss and score")
    card, run = ExpertFolder(folder).card, folder / RUN_JSON
    expert = ExpertCard.load(card) if card.is_file() else None
    relative = folder.resolve().relative_to(root.resolve()) if root and folder != root else None
    name = f"{expert.dataset}, fold {expert.fold}" if expert else str(relative or folder.resolve().name)
    return Training(folder, name, log, expert, RunRecord.load(run) if run.is_file() else None)


def training_page(trainings: Sequence[Training], *, anonymous: bool = False) -> Page:
    """Curves of one training or several."""
    names = Names(anonymous)
    one = trainings[0] if len(trainings) == 1 else None
    sections = [_outcome(trainings), PageSection("How it went", tuple(_curves(trainings)))]
    record = one.record if one else None
    title = f"Training of {one.name}" if one else f"{len(trainings)} trainings beside each other"
    return Page(title, "training", _lead(trainings), tuple(sections), facts_of(record, names))


def _lead(trainings: Sequence[Training]) -> str:
    if len(trainings) > 1:
        top = max(trainings, key=lambda one: float(one.best["score"]))
        return f"The best validation score, {top.best['score']:.3f}, is that of {top.name}."
    card = trainings[0].card
    best = trainings[0].best
    told = f"Best at step {best['step']:.0f} of {trainings[0].log['step'].iloc[-1]:.0f}"
    if card is None:
        return f"{told}; score {best['score']:.3f}."
    pairs = _pairs(card.validation)
    if not pairs:
        return f"{told}."
    name, own, general = pairs[0]
    word = "better" if own > general else "worse"
    return (
        f"On held-back cases the expert has {_title(name)} {own:.3f}, {abs(own - general):.3f} {word} than the "
        f"foundation ({general:.3f}). {told}."
    )


def _outcome(trainings: Sequence[Training]) -> PageSection:
    blocks: list[Block] = []
    if len(trainings) == 1:
        blocks.append(Figures(tuple(_figures(trainings[0]))))
        if trainings[0].card and trainings[0].card.click_proposer:
            blocks.append(_click_proposer(trainings[0].card.click_proposer.validation))
    measures = list(dict.fromkeys(name for one in trainings for name in one.measures))
    columns = (
        Column("Training"),
        Column("Best step", True),
        *(Column(_title(name), True, "validation at the best step") for name in measures),
        Column("Foundation", True, "the general expert on the same prompts, first measure"),
        Column("Minutes", True),
        Column("Ended by"),
    )
    rows = tuple(_row(one, measures) for one in trainings)
    note = "Validation is on the cases of the fold, which the training never saw."
    return PageSection("What was learnt", (*blocks, Table(columns, rows), Prose(note)))


def _figures(one: Training) -> list[tuple[str, str, str]]:
    pairs = _pairs(one.card.validation) if one.card else []
    figures = [
        (f"{own:.3f}", f"{_title(name)}, expert", f"foundation alone {general:.3f}, {own - general:+.3f}")
        for name, own, general in pairs
    ]
    minutes = one.log["seconds"].iloc[-1] / _MINUTE
    figures.append((f"{minutes:.1f}", "minutes of training", f"{one.log['step'].iloc[-1]:.0f} steps"))
    return figures


def _click_proposer(validation: Mapping[str, float]) -> Table:
    notes = {
        "hit": "share of proposed clicks that lie in their object",
        "distance_mm": "mean distance of proposed clicks to their object, 0 inside",
        "found": "share of the present classes called so",
        "left_out": "share of the absent classes called so",
    }
    rows = tuple((Cell(notes.get(name, name)), Cell.number(value)) for name, value in validation.items())
    return Table((Column("What finds the classes without clicks"), Column("Validation", True)), rows, sortable=False)


def _row(one: Training, measures: Sequence[str]) -> tuple[Cell, ...]:
    best = one.best
    pairs = _pairs(one.card.validation) if one.card else []
    stopped = str(one.card.settings.get("stopped_by", "")) if one.card else ""
    return (
        Cell(one.name),
        Cell.whole(int(best["step"])),
        *(Cell.number(float(best.get(name, math.nan))) for name in measures),
        Cell.number(pairs[0][2] if pairs else None),
        Cell.number(float(one.log["seconds"].iloc[-1]) / _MINUTE, 1),
        Cell(stopped or UNKNOWN),
    )


def _curves(trainings: Sequence[Training]) -> list[Block]:
    scored = _lines(trainings, "step")
    timed = _lines(trainings, "minutes")
    loss = [
        DrawnLine(one.name, one.log["step"].tolist(), one.log["loss"].tolist(), n) for n, one in enumerate(trainings)
    ]
    what = "score" if len(trainings) > 1 else "validation"
    scores, minutes = Axis("step"), Axis("minutes")
    told = _lead(trainings)
    return [
        Beside(
            (
                Drawing(
                    draw_lines(scored, scores, Axis(what), f"Validation over the steps. {told}"), "Validation by step"
                ),
                Drawing(
                    draw_lines(timed, minutes, Axis(what), f"Validation over the minutes. {told}"), "Validation by time"
                ),
                Drawing(
                    draw_lines(loss, Axis("step"), Axis("loss"), f"Training loss over the steps. {told}"),
                    "Training loss",
                ),
            )
        ),
        Prose("A ring marks the step whose weights are kept."),
    ]


def _lines(trainings: Sequence[Training], along: str) -> list[DrawnLine]:
    """Every measure of one training, or the score of each of several."""
    lines = []
    for number, one in enumerate(trainings):
        x = one.log["step"] if along == "step" else one.log["seconds"] / _MINUTE
        best = float(x.iloc[one.best_row])
        names = one.measures if len(trainings) == 1 else ["score"]
        lines += [
            DrawnLine(
                _title(name) if len(trainings) == 1 else one.name,
                x.tolist(),
                one.log[name].tolist(),
                number + place,
                best=best,
            )
            for place, name in enumerate(names)
        ]
    return lines


def _pairs(validation: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Measure, the expert's, the general expert's."""
    return [
        (name, value, validation[f"general_{name}"])
        for name, value in validation.items()
        if f"general_{name}" in validation
    ]


def _title(name: str) -> str:
    if name.startswith("dice_") and name not in _TITLES:
        return f"Dice, {name.removeprefix('dice_')} clicks"
    return _TITLES.get(name, name.replace("_", " "))
