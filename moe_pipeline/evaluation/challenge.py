"""Predictions as a challenge scores them: its measures, one score per case, its statistics over the cases."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moe_pipeline.errors import PipelineError
from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.evaluation.summary import FloatArray
from moe_pipeline.evaluation.table import n_failed, write_table
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.journal.written import Written
from moe_pipeline.presets import Challenge, load_challenge
from moe_pipeline.progress import Progress, silent

_STATISTICS: dict[str, Callable[[FloatArray], float]] = {
    "mean": lambda values: float(values.mean()),
    "median": lambda values: float(np.median(values)),
    "std": lambda values: float(values.std()),
}
_SCORED = ("ok", "absent")


@dataclass(frozen=True, slots=True)
class ChallengeReport:
    """What a challenge would say.

    Attributes:
        table: rows as in dice.csv, with a column `clicks` where the challenge clicks.
        scores: one row per case: case, then a column per score; NaN where a case has none.
        summary: one row per score: metric, n (cases with a value), its statistics, n_failed.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    summary: pd.DataFrame


def evaluate_challenge(
    predictions: Path,
    references: Path,
    classes: Mapping[int, str],
    name: str,
    out: Path | None = None,
    progress: Progress = silent,
) -> ChallengeReport:
    """Score predictions by the rules of a challenge.

    Args:
        predictions: folder of label maps, named like the references; where the challenge clicks, folders 1, 2, ... of
            them, after that many clicks.
        references: folder of label maps.
        classes: name of each label value; 0 is the background.
        name: of the challenge, one of plans/challenges.json.
        out: folder for dice.csv (one per number of clicks, in folders 1, 2, ...), scores_<name>.csv and
            summary_<name>.csv, or None to write nothing.
        progress: told after each case.

    Raises:
        PipelineError: if there is no such challenge, a folder is missing, or what stands in `out` is not ours.
    """
    challenge = load_challenge(name)
    turns = [str(n) for n in range(1, challenge.clicks + 1)]
    if missing := [turn for turn in turns if not (predictions / turn).is_dir()]:
        raise PipelineError(
            f"{predictions}: {name} looks at the label maps after each of {challenge.clicks} clicks, in folders 1 to "
            f"{challenge.clicks}; there is no {', '.join(missing)}. Make them with "
            f"`moe predict -i IMAGES --labels {references} --clicks {missing[0]} -o {predictions / missing[0]}`"
        )
    tables = {
        turn: evaluate_folder(
            predictions / turn, references, classes, out and out / turn, rules=challenge.measures, progress=progress
        )
        for turn in turns or [""]
    }
    scores = _scores(list(tables.values()), challenge)
    summary = _summary(scores, challenge).assign(n_failed=sum(n_failed(table) for table in tables.values()))
    if out is not None:
        own = Written(out / FINISHED)
        for file, rows in ((f"scores_{name}.csv", scores), (f"summary_{name}.csv", summary)):
            with own.writing(file) as temporary:
                write_table(temporary, rows)
    marked = [table.assign(clicks=int(turn)) if turn else table for turn, table in tables.items()]
    return ChallengeReport(pd.concat(marked, ignore_index=True), scores, summary)


def _scores(tables: list[pd.DataFrame], challenge: Challenge) -> pd.DataFrame:
    """One row per case, of its tables after each click, or of its only one."""
    turns = [_case_means(table, challenge) for table in tables]
    if not challenge.clicks:
        return turns[0].reset_index()
    columns = {}
    for metric in challenge.metrics:
        line = pd.DataFrame([turn[metric] for turn in turns]).to_numpy(dtype=float)  # (clicks, cases)
        columns[f"{metric}_auc"] = np.trapezoid(line, axis=0)
        columns[f"{metric}_final"] = line[-1]
    return pd.DataFrame({"case": turns[0].index, **columns})


def _case_means(table: pd.DataFrame, challenge: Challenge) -> pd.DataFrame:
    """Mean of each metric over the classes of each case, in the order of the cases."""
    counts = table["status"].isin(_SCORED)
    if challenge.classes == "of_reference":
        counts &= table["volume_reference_ml"] > 0
    cases = sorted(table.loc[table["status"] != "no_reference", "case"].unique())
    means = table[counts].groupby("case")[list(challenge.metrics)].mean().reindex(pd.Index(cases, name="case"))
    if challenge.nsd_above_dice is not None:
        means["nsd"] = means["nsd"].mask(means["dice"] <= challenge.nsd_above_dice, 0.0)
    return means


def _summary(scores: pd.DataFrame, challenge: Challenge) -> pd.DataFrame:
    rows = []
    for metric in scores.columns.drop("case"):
        values = scores[metric].dropna().to_numpy(dtype=np.float64)
        with np.errstate(invalid="ignore"):  # the spread of what is infinite does not exist
            found = {name: _STATISTICS[name](values) if values.size else float("nan") for name in challenge.statistics}
        rows.append({"metric": str(metric), "n": values.size} | found)
    return pd.DataFrame(rows)
