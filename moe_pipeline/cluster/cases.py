"""Cases of a prediction as units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moe_pipeline.cluster.engines import Engine
from moe_pipeline.cluster.records import Resources, UnitRecord
from moe_pipeline.cluster.run import run_units
from moe_pipeline.cluster.units import Board, Unit, noting, stat_of
from moe_pipeline.cluster.worker import Job
from moe_pipeline.errors import PipelineError
from moe_pipeline.files import sha256_json
from moe_pipeline.inference.batch.case_files import CaseFiles, CaseTask, Outcome
from moe_pipeline.inference.batch.schedule import Keep, do_case
from moe_pipeline.inference.options import ModelOptions
from moe_pipeline.journal.written import Written
from moe_pipeline.records.cases import CaseRow


@dataclass(frozen=True, slots=True)
class CaseItem:
    """What a worker gets."""

    files: CaseFiles
    """Of this case alone."""
    task: CaseTask


@dataclass(frozen=True, slots=True)
class PredictCase:
    """What is done with a case; the model is loaded once per process."""

    model: ModelOptions

    def __call__(self, item: CaseItem, notes: Path) -> Outcome:
        """Read, answer, write. What goes wrong with the case is its row."""
        files = item.files
        return do_case(self.model, files.apart(noting(files.own, notes)), item.task)


@dataclass(frozen=True, slots=True)
class CasesOnEngine:
    """Does the cases of a prediction; as of `RunCases`."""

    engine: Engine
    resources: Resources
    model: ModelOptions
    """That workers load."""
    board: Board
    """In the output folder."""

    @classmethod
    def of(cls, engine: Engine, resources: Resources, model: ModelOptions, out: Path) -> "CasesOnEngine":
        """For an output folder."""
        return cls(engine, resources, model, Board(out.resolve() / "units"))

    def take_notes(self, own: Written) -> None:
        """Note what workers have written, also for an earlier command; some may still be at it."""
        self.board.take_notes(own.take)

    def told(self) -> str:
        """Where the cases are done and what their workers say, in one line."""
        return f"{self.engine.told()}; what workers say: {self.board.logs}"

    def __call__(self, files: CaseFiles, tasks: Sequence[CaseTask], description: str, keep: Keep) -> None:
        """Do cases, and tell of each; a case whose worker was lost again and again is a row, too."""
        job = Job(PredictCase(self.model), Outcome, self.board, self.resources)
        units = [_unit(description, files, task) for task in tasks]

        def holds(outcome: Outcome) -> bool:
            return all((files.own.folder / name).is_file() for name in outcome.written)

        for unit, record in run_units(self.engine, job, units, holds):
            outcome = job.result_of(record) if record.status == "done" else _failed(unit, record, self.board)
            self.board.take_notes(files.own.take, record)
            keep(unit.item.task, outcome)
            if outcome.written:
                self.board.drop(unit.key)  # cases that failed stay until the end, so that none is tried twice
        self.board.take_notes(files.own.take)  # of workers that were lost
        self.board.close()


def _unit(description: str, files: CaseFiles, task: CaseTask) -> Unit[CaseItem]:
    try:
        known = stat_of(files.inputs(task))
    except (PipelineError, OSError) as error:
        known = [(str(error), 0, 0)]  # reading the case will tell
    inputs = sha256_json([description, files.prompting.sha256(task.case), known])
    return Unit(task.case, CaseItem(files.only(task.case), task), inputs)


def _failed(unit: Unit[CaseItem], record: UnitRecord, board: Board) -> Outcome:
    seen = f" ({board.log(unit.key)})" if board.log(unit.key).is_file() else ""
    return Outcome((CaseRow(case=unit.name, status="failed", message=f"{record.message}{seen}"),))


def absolute(options: ModelOptions) -> ModelOptions:
    """The same with paths that mean the same on a worker."""
    paths = {name: getattr(options, name) for name in ("model", "weights_root")}
    return replace(options, **{name: path.resolve() for name, path in paths.items() if path is not None})
