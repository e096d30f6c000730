"""Cases of a forgetting matrix that are scored elsewhere."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from moe_pipeline.cluster.engines import Engine, EngineOptions, engine_file, open_engine
from moe_pipeline.cluster.records import Resources
from moe_pipeline.cluster.run import run_units
from moe_pipeline.cluster.units import Board, Unit, noting, stat_of
from moe_pipeline.cluster.worker import Job
from moe_pipeline.evaluation.forgetting.compare import (
    MatrixOptions,
    MatrixReport,
    ScoreRequest,
    forgetting_report,
    record_name,
)
from moe_pipeline.evaluation.forgetting.datasets import EvaluationCase, EvaluationSet
from moe_pipeline.evaluation.forgetting.models import ComparedModel, load_compared_models
from moe_pipeline.evaluation.forgetting.score import Clicking, score_case
from moe_pipeline.files import sha256_json
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import ModelFolder
from moe_pipeline.progress import Progress, track
from moe_pipeline.records.comparison import CaseScores
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ScoreItem:
    """What a worker gets."""

    of: EvaluationSet
    """Without its cases."""
    case: EvaluationCase
    own: Written
    """What is known of its record."""


@dataclass(frozen=True, slots=True)
class ScoreCase:
    """What is done with a case; the models are loaded once per process."""

    place: Workspace
    model: Path
    device: str
    experts_everywhere: bool
    clickings: tuple[Clicking, ...]

    def __call__(self, item: ScoreItem, notes: Path) -> CaseScores:
        """Every object as every model segments it; what its record has already is not done again."""
        name = record_name(item.of, item.case)
        models = _models(self.place, self.model, self.device, self.experts_everywhere)
        return score_case(item.case, item.of, models, self.clickings, noting(item.own, notes), name)


@lru_cache(maxsize=1)
def _models(place: Workspace, model: Path, device: str, experts_everywhere: bool) -> list[ComparedModel]:
    return load_compared_models(place, model, device, experts_everywhere=experts_everywhere)


@dataclass(frozen=True, slots=True)
class ScoresOnEngine:
    """Scores cases; as of `ScoreCases`."""

    engine: Engine
    resources: Resources

    def __call__(self, request: ScoreRequest, progress: Progress) -> tuple[list[CaseScores], list[str]]:
        """The scores in the order of sets and cases, and why others have none."""
        own, board = request.own, Board(request.own.folder.resolve() / "units")
        board.take_notes(own.take)
        clickings = tuple(request.clickings)
        work = ScoreCase(request.place, request.model, request.device, request.experts_everywhere, clickings)
        job = Job(work, CaseScores, board, self.resources)
        made_of = sha256_json([ModelCard.load(ModelFolder(request.model).card).sha256(), str(clickings)])
        units = [_unit(of, case, own, made_of) for of in request.sets for case in of.cases]
        scores: dict[str, CaseScores] = {}
        failures: dict[str, str] = {}
        for unit, record in track(run_units(self.engine, job, units), "comparing", progress, len(units)):
            board.take_notes(own.take, record)
            if record.status == "done":
                scores[unit.key] = job.result_of(record)
                board.drop(unit.key)
            else:
                failures[unit.key] = f"{unit.item.of.name}, {unit.item.case.case}: {record.message}"
        board.take_notes(own.take)  # of workers that were lost
        board.close()
        return (
            [scores[unit.key] for unit in units if unit.key in scores],
            [failures[unit.key] for unit in units if unit.key in failures],
        )


def forgetting_report_on(
    chosen: EngineOptions, place: Workspace, out: Path, options: MatrixOptions, progress: Progress
) -> MatrixReport:
    """As `forgetting_report`, on the engine that is chosen.

    Raises:
        PipelineError: as `forgetting_report`, or if the engine is not there.
    """
    if chosen.is_local:
        return forgetting_report(place, out, options, progress)
    run = ScoresOnEngine(open_engine(chosen), engine_file(place).of("evaluate"))
    model = options.model.resolve() if options.model else None
    there = replace(options, model=model, unseen=tuple(path.resolve() for path in options.unseen))
    return forgetting_report(Workspace(place.root.resolve()), out.resolve(), there, progress, run)


def _unit(of: EvaluationSet, case: EvaluationCase, own: Written, made_of: str) -> Unit[ScoreItem]:
    item = ScoreItem(replace(of, cases=()), case, own.only([record_name(of, case)]))
    inputs = [made_of, sorted(of.classes.items()), stat_of([case.image, case.reference])]
    return Unit(f"{of.name}.{case.case}", item, sha256_json(inputs))
