"""Cases of a source that are converted elsewhere."""

from dataclasses import dataclass, replace
from pathlib import Path

from dataset_conversion.case import convert_case, row_if_present, target_names
from dataset_conversion.layout import SourceCase, SourceDataset
from dataset_conversion.state import ConversionState, description_sha256, files_of
from moe_pipeline.cluster.engines import Engine
from moe_pipeline.cluster.records import Resources, UnitRecord
from moe_pipeline.cluster.run import run_units
from moe_pipeline.cluster.units import Board, Unit, noting, stat_of
from moe_pipeline.cluster.worker import Job
from moe_pipeline.files import sha256_json
from moe_pipeline.journal.written import Written
from moe_pipeline.progress import Progress, track
from moe_pipeline.records.dataset import ConversionRow


@dataclass(frozen=True, slots=True)
class ConvertItem:
    """What a worker gets."""

    case: SourceCase
    own: Written
    """What is known of its files."""


@dataclass(frozen=True, slots=True)
class ConvertCase:
    """What is done with a case; its journal lines go where the notes go."""

    source: Path
    dataset: SourceDataset
    """Without its cases."""

    def __call__(self, item: ConvertItem, notes: Path) -> ConversionRow:
        """Check, repair, write."""
        own = noting(item.own, notes)
        return convert_case(item.case, self.dataset, ConversionState(notes, self.source, self.dataset, own))


@dataclass(frozen=True, slots=True)
class ConvertOnEngine:
    """Converts the cases of a source; as of `ConvertCases`."""

    engine: Engine
    resources: Resources
    source: Path

    def __call__(
        self, described: SourceDataset, state: ConversionState, progress: Progress, stage: str
    ) -> list[ConversionRow]:
        """What has become of each case."""
        board = Board(state.own.folder.resolve() / "units")
        board.take_notes(state.take)
        rows = {case.case_id: row_if_present(case, described, state) for case in described.cases}
        common = replace(described, cases=(), faults={}, left_out={}, notes=(), refusals=())
        job = Job(ConvertCase(self.source.resolve(), common), ConversionRow, board, self.resources)
        description = description_sha256(described)
        units = [_unit(case, description, described, state) for case in described.cases if rows[case.case_id] is None]

        def holds(row: ConversionRow) -> bool:
            return row.status == "failed"  # of the others the journal knows, unless their files are gone

        for unit, record in track(run_units(self.engine, job, units, holds), stage, progress, len(units)):
            rows[unit.name] = _row(job, unit, record)
            board.take_notes(state.take, record)
        board.take_notes(state.take)  # of workers that were lost
        board.close()
        return [row for row in rows.values() if row is not None]


def _unit(case: SourceCase, description: str, described: SourceDataset, state: ConversionState) -> Unit[ConvertItem]:
    names = target_names(case, len(described.channel_names))
    inputs = sha256_json([description, case.part, stat_of(files_of(case))])
    return Unit(case.case_id, ConvertItem(case, state.own.only(names)), inputs)


def _row(job: Job[ConvertItem, ConversionRow], unit: Unit[ConvertItem], record: UnitRecord) -> ConversionRow:
    if record.status == "done":
        return job.result_of(record)
    return ConversionRow(case_id=unit.name, status="failed", message=record.message)
