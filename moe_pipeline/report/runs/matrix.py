"""The page of the forgetting matrix: what was learnt where, what was lost elsewhere, and the cases behind it."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moe_pipeline.errors import RecordError
from moe_pipeline.evaluation.forgetting.matrix import BEST, GENERAL, GENERAL_IN_EXPERT_VIEW, KEYS, MEAN, MOE
from moe_pipeline.paths import RUN_JSON, MatrixFolder
from moe_pipeline.records.run import RunRecord
from moe_pipeline.report.page.blocks import Block, Cell, Column, Figures, Folded, Page, PageSection, Prose, Table, Tone
from moe_pipeline.report.page.names import Names
from moe_pipeline.report.runs.facts import facts_of

_ORDER = ("finetuned", "general", "unseen")
_KINDS = {"finetuned": "has an expert", "general": "learnt as the foundation's", "unseen": "never seen"}
_TITLES = {
    GENERAL: "Foundation",
    GENERAL_IN_EXPERT_VIEW: "Foundation in expert's view",
    MOE: "Mixture",
    BEST: "Best choice",
}
_UNCHANGED = 5e-4
_STEP = 0.02
"""Dice lost for each step of colour."""


@dataclass(frozen=True, slots=True)
class MatrixTables:
    """The three tables of a number of clicks."""

    n_clicks: int
    matrix: pd.DataFrame
    sets: pd.DataFrame
    prompts: pd.DataFrame

    @property
    def models(self) -> list[str]:
        """Columns that are models, and the best choice among them."""
        return [name for name in self.matrix.columns if name not in (*KEYS, "kind")]

    @property
    def means(self) -> pd.DataFrame:
        """One row per set, those with an expert first."""
        rows = self.matrix[self.matrix["class_name"] == MEAN]
        return rows.sort_values("kind", key=lambda kinds: kinds.map(_ORDER.index), kind="stable")


def matrix_page(folder: Path, *, anonymous: bool = False) -> Page:
    """The page of a folder that `moe evaluate --matrix` wrote."""
    tables, run = read_matrix(folder), folder / RUN_JSON
    record = RunRecord.load(run) if run.is_file() else None
    names = Names.of((str(case) for one in tables for case in one.prompts["case"]), anonymous=anonymous)
    sections = [section for one in tables for section in _sections(one, names)]
    if record and (failures := record.results.get("failures")):
        sections.append(PageSection("Not compared", tuple(Prose(names.text(str(one)), "bad") for one in failures)))
    return Page(
        title="What was learnt, and what was not forgotten",
        kind="comparison",
        lead=_lead(tables[0]),
        sections=tuple(sections),
        facts=facts_of(record, names),
    )


def read_matrix(folder: Path) -> list[MatrixTables]:
    """The tables, fewest clicks first.

    Raises:
        RecordError: if one is missing or damaged.
    """
    return [
        MatrixTables(
            n_clicks,
            *(_read(path.with_name(path.name.replace("matrix", name, 1))) for name in ("matrix", "sets", "prompts")),
        )
        for n_clicks, path in MatrixFolder(folder).matrices.items()
    ]


def _read(path: Path) -> pd.DataFrame:
    text = dict.fromkeys(("dataset", "kind", "class_name", "case", "model", "expert", "status", "origin"), "str")
    try:
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a table of a comparison: {error}") from error


def _lead(one: MatrixTables) -> str:
    learnt, others = _parts(one.sets)
    told = []
    if len(learnt):
        told.append(
            f"On {_count(len(learnt), 'dataset')} with an expert the mixture has Dice {learnt['moe'].mean():.3f}, the "
            f"foundation alone {learnt['general'].mean():.3f}."
        )
    if len(others):
        loss = -float(others["gain"].mean())
        lost = (
            "nothing"
            if abs(loss) < _UNCHANGED
            else f"{loss:.4f} Dice on average"
            if loss > 0
            else f"nothing, {-loss:.4f} is won"
        )
        told.append(f"On {_count(len(others), 'other')} it lost {lost}.")
    return " ".join(told)


def _sections(one: MatrixTables, names: Names) -> list[PageSection]:
    clicks = "one click" if one.n_clicks == 1 else f"{one.n_clicks} clicks"
    return [
        PageSection(f"In short, {clicks}", (_figures(one), _set_table(one.sets))),
        PageSection(
            f"Dice of every model, {clicks}",
            (_heat(one, drop=False), Folded("By class", (_heat(one, drop=False, by_class=True),))),
            "Mean over the classes of each set; the darker the better. Best choice: the better of foundation and "
            "experts, chosen for each object with the answer known.",
        ),
        PageSection(
            f"What each model loses against the foundation, {clicks}",
            (_heat(one, drop=True), Folded("By class", (_heat(one, drop=True, by_class=True),))),
            "Dice of the foundation minus that of the model: above 0 is forgotten, below 0 is won.",
        ),
        PageSection(
            f"The cases behind it, {clicks}",
            tuple(_cases(one, names)),
            "Dice of every object as each model segments it.",
        ),
    ]


def _figures(one: MatrixTables) -> Figures:
    learnt, others = _parts(one.sets)
    items = []
    if len(learnt):
        gain = float(learnt["gain"].mean())
        items.append(
            (f"{gain:+.3f}", "Dice won where there is an expert", f"{_prompts(learnt)} objects, mean over the sets")
        )
    if len(others):
        gain = float(others["gain"].mean())
        items.append((f"{gain:+.4f}" if gain else "0", "Dice won or lost elsewhere", f"{_prompts(others)} objects"))
        unchanged = float((others["unchanged"] * others["prompts"]).sum() / others["prompts"].sum())
        items.append((f"{unchanged:.1%}", "masks exactly the foundation's", "on sets without an expert"))
    return Figures(tuple(items))


def _set_table(sets: pd.DataFrame) -> Table:
    columns = (
        Column("Set"),
        Column("The model"),
        Column("Cases", True),
        Column("Objects", True),
        Column("Foundation", True),
        Column("Mixture", True),
        Column("Won", True, "mixture minus foundation"),
        Column("Right expert", True, "share of objects that went to the set's own expert, or else to the foundation"),
        Column("Unchanged", True, "share of masks that are exactly the foundation's"),
        Column("Cases from"),
    )
    ordered = sets.sort_values("kind", key=lambda kinds: kinds.map(_ORDER.index), kind="stable")
    rows = tuple(
        (
            Cell(str(row["dataset"])),
            Cell(_KINDS[str(row["kind"])]),
            Cell.whole(int(row["cases"])),
            Cell.whole(int(row["prompts"])),
            _score(float(row["general"])),
            _score(float(row["moe"])),
            Cell(
                f"{row['gain']:+.3f}" if row["gain"] else "0", float(row["gain"]), tone=_gain_tone(float(row["gain"]))
            ),
            Cell(f"{row['right_expert']:.0%}", float(row["right_expert"])),
            Cell(f"{row['unchanged']:.0%}", float(row["unchanged"])),
            Cell(str(row["origin"])),
        )
        for _, row in ordered.iterrows()
    )
    return Table(columns, rows)


def _heat(one: MatrixTables, *, drop: bool, by_class: bool = False) -> Table:
    table = one.matrix[one.matrix["class_name"] != MEAN] if by_class else one.means
    models = [name for name in one.models if not (drop and name in (GENERAL, BEST))]
    columns = (
        Column("Set"),
        Column("Class") if by_class else Column("The model"),
        Column("Objects", True),
        *(Column(_TITLES.get(name, name), True) for name in models),
    )
    rows = []
    for _, row in table.iterrows():
        what = str(row["class_name"]) if by_class else _KINDS[str(row["kind"])]
        cells = [_lost(float(row[GENERAL]) - float(row[name])) if drop else _score(float(row[name])) for name in models]
        rows.append((Cell(str(row["dataset"])), Cell(what), Cell.whole(int(row["n"])), *cells))
    return Table(columns, tuple(rows))


def _cases(one: MatrixTables, names: Names) -> list[Block]:
    blocks: list[Block] = []
    for dataset in one.means["dataset"]:
        own = one.prompts[one.prompts["dataset"] == dataset]
        models = [name for name in one.models if name in set(own["model"])]
        wide = own.pivot_table(index=["case", "class_id", "class_name"], columns="model", values="dice", sort=False)
        who = own[own["model"] == MOE].set_index(["case", "class_id"])["expert"]
        columns = (
            Column("Case"),
            Column("Class"),
            Column("The mixture asked"),
            *(Column(_TITLES.get(m, m), True) for m in models),
        )
        rows = tuple(
            (
                Cell(names.case(str(key[0]))),
                Cell(str(key[2])),
                Cell(str(who.get((key[0], key[1]), ""))),
                *(_score(float(row.get(name, math.nan))) for name in models),
            )
            for key, row in wide.iterrows()
            if isinstance(key, tuple)
        )
        blocks.append(Folded(f"{dataset}: {_count(len(rows), 'object')}", (Table(columns, rows),)))
    return blocks


def _parts(sets: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    finetuned = sets["kind"] == "finetuned"
    return sets[finetuned], sets[~finetuned]


def _prompts(sets: pd.DataFrame) -> int:
    return int(sets["prompts"].sum())


def _score(value: float) -> Cell:
    cell = Cell.number(value)
    return cell if math.isnan(value) else Cell(cell.text, cell.order, shade=max(0, min(10, round(10 * value))))


def _lost(value: float) -> Cell:
    """Shaded where something is lost; what is won has the other colour."""
    if math.isnan(value):
        return Cell.number(value)
    shade = min(10, math.ceil(abs(value) / _STEP)) if abs(value) >= _UNCHANGED else None
    text = "0" if value == 0 else f"{value:+.3f}"
    return Cell(text, value, shade=shade, scale="loss" if value > 0 else "good")


def _gain_tone(gain: float) -> Tone:
    return "good" if gain >= _UNCHANGED else "bad" if gain <= -_UNCHANGED else ""


def _count(n: int, name: str) -> str:
    return f"{n} {name}{'s' * (n != 1)}"
