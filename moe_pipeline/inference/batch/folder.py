"""Folder in, folder out: every case a label map or a row that says why not."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from moe_pipeline.errors import ImageError, PipelineError
from moe_pipeline.files import csv_text, remove_leftovers, sha256_json
from moe_pipeline.imaging.io.files import list_images
from moe_pipeline.inference.batch.case_files import CaseFiles, CaseTask, Outcome, is_full
from moe_pipeline.inference.batch.extra_outputs import NO_MAPS, Maps
from moe_pipeline.inference.batch.prompt_sources import Prompting, PromptSource
from moe_pipeline.inference.batch.resume import FINISHED, Finished
from moe_pipeline.inference.batch.schedule import run_in_processes, run_overlapped
from moe_pipeline.inference.options import ModelChoice
from moe_pipeline.inference.search.experts import class_searches
from moe_pipeline.journal.written import Written, refuse_inputs
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.paths import PredictionFolder
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.run import package_version

CASES_CSV = PredictionFolder.CASES


@dataclass(frozen=True, slots=True)
class Running:
    """How a folder is worked through. None of it changes a label map.

    Attributes:
        overwrite: also do the cases that an earlier run has finished with the same inputs.
        jobs: cases at once, each in a process of its own.
        choice: what those processes load the model by.
    """

    overwrite: bool = False
    jobs: int = 1
    choice: ModelChoice | None = None


def predict_folder(
    model: Mixture,
    images: Path,
    out: Path,
    source: PromptSource,
    progress: Progress = silent,
    reads: Sequence[Path] = (),
    maps: Maps = NO_MAPS,
    running: Running = Running(),
    tables: Sequence[str] = (),
) -> list[CaseRow]:
    """Predict every image of a folder.

    A case that fails becomes a row with its reason and the others go on. cases.csv is written anew after each case, and
    finished.jsonl says what it was made from: a case whose image, prompts, model and settings are the same is not done
    again. It also says what is ours: a file in `out` that we did not write, or that was changed since, is left alone.

    Args:
        model: the mixture.
        images: folder of images.
        out: folder for `<case>.nii.gz` and cases.csv.
        source: of the clicks.
        progress: told after each case.
        reads: what else is read and never written to, such as references to compare with afterwards.
        maps: what to write beside the label maps.
        running: whether to begin anew, and how many cases at once.
        tables: further files that the caller will write into `out`.

    Returns:
        The rows of cases.csv.

    Raises:
        ImageError: if there is no image at all.
        PromptError: if references are asked for and their folder is missing, or the model cannot search as asked.
        PipelineError: if the output folder is one of the inputs or holds files that are not ours where we would write,
            the disk is full, or a process was killed.
    """
    reads = [path for path in (images, source.file, source.labels, *reads) if path is not None]
    refuse_inputs(out, reads)
    own = Written(out / FINISHED)
    tasks = [CaseTask(case, path) for case, path in list_images(images)]
    if not tasks:
        raise ImageError(f"{images}: no image found; expected files ending in .nii.gz, .nii, .nrrd, .mha or .mhd")
    if source.search is not None:
        class_searches(model, source.search)  # a class or expert that there is none of is an error before any case
    prompting = Prompting.of(source, [task.case for task in tasks])
    files = CaseFiles(images, own, prompting, model.channel, maps)
    finished = Finished(out, images, _description(model, source, maps))
    book = _Book(tasks, files, finished, progress)
    to_do = tasks if running.overwrite else [task for task in tasks if not book.is_done(task)]
    own.check([CASES_CSV, *tables, *(name for task in to_do for name in files.names(task.case))], reads)
    try:
        _tidy(files)
        book.save()
        if running.jobs > 1 and running.choice is not None and len(to_do) > 1:
            run_in_processes(running.choice, files, to_do, min(running.jobs, len(to_do)), book.keep)
        else:
            run_overlapped(model, files, to_do, book.keep)
    except OSError as error:
        if not is_full(error):
            raise
        raise PipelineError(
            f"{out}: the disk is full. {book.n_kept} of {len(tasks)} cases are finished and kept; make room and run "
            "the same command again"
        ) from error
    finally:
        _tidy(files)
    return book.rows()


def _tidy(files: CaseFiles) -> None:
    for folder in files.maps.folders(files.own.folder):
        remove_leftovers(folder)


class _Book:
    """What has become of the cases."""

    def __init__(self, tasks: Sequence[CaseTask], files: CaseFiles, finished: Finished, progress: Progress) -> None:
        self._tasks, self._files, self._finished = tasks, files, finished
        self._progress = progress
        self._rows: dict[str, tuple[CaseRow, ...]] = {}
        self._report()

    @property
    def n_kept(self) -> int:
        """Cases with a label map so far."""
        return sum(all(row.status != "failed" for row in rows) for rows in self._rows.values())

    def is_done(self, task: CaseTask) -> bool:
        """Whether an earlier run has finished a case; its rows are kept then."""
        try:
            line = self._finished.find(task.case, self._files.inputs(task), self._files.prompting.sha256(task.case))
        except (PipelineError, OSError):
            return False  # reading the case will tell what is wrong with it
        if line is not None:
            self._rows[task.case] = line.rows
            self._report()
        return line is not None

    def keep(self, task: CaseTask, outcome: Outcome) -> None:
        """Note a case that is done, or has failed."""
        if outcome.written:
            prompts = self._files.prompting.sha256(task.case)
            self._finished.add(task.case, outcome.files, prompts, outcome.written, outcome.rows)
        self._rows[task.case] = outcome.rows
        self.save()
        self._report()

    def rows(self) -> list[CaseRow]:
        """In the order of the cases."""
        return [row for task in self._tasks for row in self._rows.get(task.case, ())]

    def save(self) -> None:
        """Write cases.csv."""
        self._files.own.write_text(CASES_CSV, rows_as_csv(self.rows()))

    def _report(self) -> None:
        self._progress("predicting", len(self._rows), len(self._tasks))


def rows_as_csv(rows: list[CaseRow]) -> str:
    """Text of cases.csv."""
    return csv_text(list(CaseRow.model_fields), (row.model_dump() for row in rows))


def _description(model: Mixture, source: PromptSource, maps: Maps) -> str:
    """Hash of all that is the same for every case of a run."""
    parts = {
        "version": package_version(),
        "model": [model.identity, sorted(model.hashes.items()), model.tau, model.selector, model.channel],
        "settings": asdict(model.settings),
        "maps": asdict(maps),
        "source": source.sha256(),
    }
    return sha256_json(parts)
