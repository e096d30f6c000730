"""General, experts, wholly finetuned networks and mixture on the same prompts: what was learnt, what was forgotten."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.evaluation.forgetting.datasets import EvaluationCase, EvaluationSet, folder_set, raw_set, sets_of
from moe_pipeline.evaluation.forgetting.matrix import GENERAL, MOE, check_regression, forgetting_matrix, forgotten
from moe_pipeline.evaluation.forgetting.models import ComparedModel, load_compared_models
from moe_pipeline.evaluation.forgetting.score import Clicking, score_case
from moe_pipeline.evaluation.forgetting.tables import prompt_table, set_table
from moe_pipeline.evaluation.table import write_table
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import RUN_JSON, ExpertFolder, ModelFolder
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.comparison import CaseScores, Kind
from moe_pipeline.records.evaluation import Forgetting
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import GateCard, ModelCard
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.workspace import Workspace

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOptions:
    """What the user may choose."""

    datasets: tuple[str, ...] = ()
    """Raw datasets of the workspace; all that the model knows if empty."""
    unseen: tuple[Path, ...] = ()
    """Folders of image and label pairs that nothing was trained with."""
    clicks: tuple[int, ...] = (1,)
    """Simulated clicks per object; a table for each number."""
    seed: int = 0
    """Of the clicks."""
    model: Path | None = None
    """Model folder; the workspace's if not given."""
    device: str = "cpu"
    """Where to compute."""
    own_experts: bool = False
    """Whether each expert answers its own set only: much faster with many experts."""

    def __post_init__(self) -> None:
        if not self.clicks or min(self.clicks) < 1:
            raise PipelineError(f"clicks: expected numbers of at least 1, found {list(self.clicks)}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Who does how well where, after some number of clicks."""

    n_clicks: int
    """Per object."""
    matrix: pd.DataFrame
    """As `forgetting_matrix` makes it."""
    sets: pd.DataFrame
    """As `set_table` makes it: per set routing, share of unchanged masks, drop."""
    forgetting: tuple[Forgetting, ...]
    """Of every model that answers everywhere, on the sets that were not finetuned."""

    def regressions(self, limit: float) -> list[str]:
        """One sentence per class on which the mixture is worse than the general expert by more than the limit."""
        return check_regression(self.matrix, limit)


@dataclass(frozen=True, slots=True)
class MatrixReport:
    """All comparisons of a run."""

    comparisons: tuple[Comparison, ...]
    views: dict[str, str]
    """What each column's decoders see."""
    failures: tuple[str, ...]
    """Cases that could not be compared, with their reasons."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """All cases that are to be scored, and by whom. Models are loaded by whoever scores."""

    place: Workspace
    model: Path
    """Model folder."""
    device: str
    """Where to compute."""
    experts_everywhere: bool
    """Whether each expert answers all sets, not only its own."""
    sets: Sequence[EvaluationSet]
    clickings: Sequence[Clicking]
    own: Written
    """What is ours in the output folder."""


ScoreCases = Callable[[ScoreRequest, Progress], tuple[list[CaseScores], list[str]]]
"""Whoever scores cases elsewhere; gives the scores in the order of sets and cases, and why others have none."""


def record_name(of: EvaluationSet, case: EvaluationCase) -> str:
    """File of the scores of a case, relative to the output folder."""
    return f"cases/{of.name}/{case.case}.json"


def forgetting_report(
    place: Workspace,
    out: Path,
    options: MatrixOptions,
    progress: Progress = silent,
    run: ScoreCases | None = None,
) -> MatrixReport:
    """The forgetting matrix of a workspace's model; arguments as of `compare`.

    Raises:
        PipelineError: if the model is incomplete, a set cannot be read, or not a single case could be compared.
    """
    folder = options.model or place.model
    model = ModelCard.load(ModelFolder(folder).card)
    cards = {e.dataset: ExpertCard.load(ExpertFolder(folder / e.folder).card) for e in model.experts}
    if options.datasets:
        names = [place.raw_folder(wanted).name for wanted in options.datasets]
        sets = [raw_set(place, name, cards.get(name), model.channel) for name in names]
    else:
        general = GateCard.load(ModelFolder(folder).gate.card).general_datasets
        sets = sets_of(place, model, cards, general)
    sets += [folder_set(path, model.channel) for path in options.unseen]
    return compare(place, sets, out, options, progress, run)


def compare(
    place: Workspace,
    sets: Sequence[EvaluationSet],
    out: Path,
    options: MatrixOptions,
    progress: Progress = silent,
    run: ScoreCases | None = None,
) -> MatrixReport:
    """Segment every object of every set with the foundation alone, each expert alone, and the mixture.

    All models get the same first click on an object; later clicks answer each model's own errors, drawn from the same
    random numbers. Each object is scored on its own mask, before objects compete for voxels. A run that was killed goes
    on where it was: a case is not segmented again by a model that has not changed.

    Args:
        place: workspace with a trained model.
        sets: held-back data.
        out: folder for the tables and for cases/<set>/<case>.json.
        options: see there; datasets and unseen are not read here.
        progress: told after each case.
        run: who scores the cases, if not this process.

    Raises:
        PipelineError: if a table that is not ours is in the way, the model folder is incomplete, two sets have one
            name, or no case at all could be compared.
    """
    began, folder = time.monotonic(), options.model or place.model
    if not sets or len({s.name for s in sets}) < len(sets):
        raise DatasetError(
            f"a comparison needs sets of different names; got {', '.join(s.name for s in sets) or 'none'}"
        )
    clickings = [Clicking(n_clicks, options.seed) for n_clicks in dict.fromkeys(options.clicks)]
    own = Written(out / FINISHED)
    own.check([RUN_JSON, *(file for clicking in clickings for file in _tables(clicking.n_clicks))])
    device = options.device if run is None else "cpu"
    models = load_compared_models(place, folder, device, experts_everywhere=not options.own_experts)
    if run is None:
        scores, failures = _score_all(sets, models, clickings, own, progress)
    else:
        request = ScoreRequest(place, folder, options.device, not options.own_experts, sets, clickings, own)
        scores, failures = run(request, progress)
    if not scores:
        raise PipelineError("not a single case could be compared: " + "; ".join(failures[:3]))
    kinds = _kinds(folder, sets)
    comparisons = tuple(_compared(scores, sets, models, clicking, kinds, own) for clicking in clickings)
    _record(own, options, models, comparisons, failures, time.monotonic() - began)
    return MatrixReport(comparisons, {model.name: model.view for model in models}, tuple(failures))


def _score_all(
    sets: Sequence[EvaluationSet],
    models: Sequence[ComparedModel],
    clickings: Sequence[Clicking],
    own: Written,
    progress: Progress,
) -> tuple[list[CaseScores], list[str]]:
    scores, failures = [], []
    everything = [(of, case) for of in sets for case in of.cases]
    for of, case in track(everything, "comparing", progress):
        try:
            scores.append(score_case(case, of, models, clickings, own, record_name(of, case)))
        except (PipelineError, OSError) as error:
            _log.warning("%s, %s: %s", of.name, case.case, error)
            failures.append(f"{of.name}, {case.case}: {error}")
    return scores, failures


def _kinds(folder: Path, sets: Sequence[EvaluationSet]) -> dict[str, Kind]:
    finetuned = {entry.dataset for entry in ModelCard.load(ModelFolder(folder).card).experts}
    general = set(GateCard.load(ModelFolder(folder).gate.card).general_datasets)
    return {s.name: "finetuned" if s.name in finetuned else "general" if s.name in general else "unseen" for s in sets}


def _compared(
    scores: Sequence[CaseScores],
    sets: Sequence[EvaluationSet],
    models: Sequence[ComparedModel],
    clicking: Clicking,
    kinds: dict[str, Kind],
    own: Written,
) -> Comparison:
    prompts = prompt_table(scores, [model.name for model in models], clicking)
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    for (model, dataset), part in prompts.groupby(["model", "dataset"], sort=False):
        tables.setdefault(str(model), {})[str(dataset)] = part
    matrix = forgetting_matrix(tables)
    matrix.insert(1, "kind", matrix["dataset"].map(kinds))
    finetuned = [name for name, kind in kinds.items() if kind == "finetuned"]
    judged = [model.name for model in models if model.everywhere is not None and model.name != GENERAL]
    forgetting = tuple(forgotten(matrix, finetuned, model) for model in judged)
    described = set_table(prompts, matrix, {s.name: s.origin for s in sets}, kinds)
    for name, table in zip(_tables(clicking.n_clicks), (prompts, matrix, described), strict=True):
        with own.writing(name) as temporary:
            write_table(temporary, table)
    return Comparison(clicking.n_clicks, matrix, described, forgetting)


def _tables(n_clicks: int) -> tuple[str, str, str]:
    """Names of the tables of a number of clicks: prompts, matrix, sets."""
    suffix = f"{n_clicks}_clicks" if n_clicks > 1 else "1_click"
    return f"prompts_{suffix}.csv", f"matrix_{suffix}.csv", f"sets_{suffix}.csv"


def _record(
    own: Written,
    options: MatrixOptions,
    models: Sequence[ComparedModel],
    comparisons: Sequence[Comparison],
    failures: Sequence[str],
    seconds: float,
) -> None:
    mixture = next(model.everywhere for model in models if model.name == MOE)
    results = {
        f"{one.n_clicks} clicks": {
            row.model: {"mean_drop": row.mean_drop, "largest_drop": row.largest_drop}
            for row in one.forgetting
            if row.n_classes
        }
        for one in comparisons
    }
    record = RunRecord(
        command="evaluate --matrix",
        versions=library_versions(),
        device=options.device,
        settings={"clicks": list(options.clicks), "seed": options.seed, "views": {c.name: c.view for c in models}},
        inputs=mixture.hashes if mixture else {},
        seconds=round(seconds, 1),
        results={"forgotten": results, "failures": list(failures)},
        files=[name for one in comparisons for name in _tables(one.n_clicks)],
    )
    own.write_text(RUN_JSON, record.as_text())
