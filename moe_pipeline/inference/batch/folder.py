"""Folder in, folder out: every case a label map or a row that says why not."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from moe_pipeline.errors import ImageError, PipelineError
from moe_pipeline.files import csv_text, remove_leftovers, sha256_json
from moe_pipeline.imaging.io.files import SUFFIXES, images_in
from moe_pipeline.inference.batch.case_files import CaseFiles, CaseTask, Outcome
from moe_pipeline.inference.batch.extra_outputs import ExtraOutputs
from moe_pipeline.inference.batch.prompt_sources import Prompting
from moe_pipeline.inference.batch.resume import FINISHED, Finished
from moe_pipeline.inference.batch.schedule import RunCases, run_in_processes, run_overlapped
from moe_pipeline.inference.batch.tally import Tally, files_left_out
from moe_pipeline.inference.options import PredictOptions
from moe_pipeline.inference.search.experts import class_searches, class_tables
from moe_pipeline.inference.search.named import words_of
from moe_pipeline.journal.case_errors import is_full
from moe_pipeline.journal.written import Written, refuse_inputs
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.paths import PredictionFolder
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.run import package_version

CASES_CSV = PredictionFolder.CASES
_SAVE_SHARE = 20.0  # times what it takes to write cases.csv pass before it is written again


@dataclass(frozen=True, slots=True)
class FolderOutcome:
    """What became of a folder.

    Attributes:
        rows: of cases.csv.
        tally: numbers that add up.
        notes: what else a person should know.
    """

    rows: tuple[CaseRow, ...]
    tally: Tally
    notes: tuple[str, ...] = ()


def predict_folder(
    model: Mixture,
    options: PredictOptions,
    progress: Progress = silent,
    tables: Sequence[str] = (),
    run: RunCases | None = None,
) -> FolderOutcome:
    """Predict every image of a folder.

    A case that fails becomes a row with its reason and the others go on. cases.csv is written anew as cases end, and
    finished.jsonl says what it was made from: a case whose image, prompts, model and settings are the same is not done
    again. It also says what is ours: a file in `out` that we did not write, or that was changed since, is left alone.

    Args:
        model: the mixture.
        options: what to read, to ask and to write; several processes load the model by them.
        progress: told after each case.
        tables: further files that the caller will write into `out`.
        run: who does the cases, if not this process or, with `jobs`, some of this machine.

    Raises:
        ImageError: if there is no image at all.
        KeyboardInterrupt: at Ctrl-C; says what is kept.
        PromptError: if references are asked for and their folder is missing, or the model cannot search as asked.
        PipelineError: if the output folder is one of the inputs or holds files that are not ours where we would write,
            the disk is full, or a process was killed.
    """
    out, images = options.outputs.out, options.run.images
    refuse_inputs(out, options.reads)
    if images.is_file():
        raise ImageError(f"{images}: a file, expected a folder of images; give {images.parent}")
    listed = images_in(images)
    tasks = [CaseTask(case, path) for case, path in listed.files]
    cases = sorted([*dict(listed.files), *listed.doubled])
    if not cases:
        there = "".join(f"\n  {len(names)} {why}" for why, names in files_left_out(images, [], [out]).items())
        raise ImageError(f"{images}: no image found; expected files ending in {', '.join(SUFFIXES)}, or DICOM{there}")
    if options.prompts.text:
        words_of(model)  # no vocabulary is an error before any case
    if options.prompts.search is not None:
        class_searches(model, options.prompts.search)  # what there is none of is an error before any case
    prompting = Prompting.of(options.prompts, images, cases, class_tables(model))
    extras = ExtraOutputs(Written(out / FINISHED), options.outputs)
    files = CaseFiles(images, prompting, model.channel, options.segment, extras)
    if run is not None:
        files.own.ask = partial(run.take_notes, files.own)
    description = _description(model, files)
    finished = Finished(files.own, images, description)
    book = _Book(cases, files, finished, progress, listed.doubled)
    to_do = tasks if options.run.overwrite else [task for task in tasks if not book.is_done(task)]
    names = [name for task in to_do for name in files.names(task.case)]
    files.own.check([CASES_CSV, *tables, *names], options.reads)
    try:
        _tidy(files)
        with book.open():
            if run is not None:
                run(files, to_do, description, book.keep)
            elif options.run.jobs > 1 and len(to_do) > 1:
                run_in_processes(options.model, files, to_do, min(options.run.jobs, len(to_do)), book.keep)
            else:
                run_overlapped(model, files, to_do, book.keep)
    except OSError as error:
        if not is_full(error):
            raise
        raise PipelineError(
            f"{out}: the disk is full. {book.kept()}; make room and run the same command again"
        ) from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{out}: interrupted. {book.kept()}; the same command goes on from there") from error
    finally:
        _tidy(files)
    apart = (out, *(prompting.given.files if prompting.given else ()), *(p for p in options.reads if p != images))
    left_out = files_left_out(images, listed.paths, apart)
    stale = finished.left_over(cases)
    notes = (f"  of an earlier run, without an image now: {', '.join(stale)}",) if stale else ()
    return FolderOutcome(tuple(book.rows()), book.tally(left_out), notes)


def _tidy(files: CaseFiles) -> None:
    for folder in files.extras.folders():
        remove_leftovers(folder)


class _Book:
    """What has become of the cases."""

    def __init__(
        self, cases: Sequence[str], files: CaseFiles, finished: Finished, progress: Progress, faults: Mapping[str, str]
    ) -> None:
        self._cases, self._files, self._finished = cases, files, finished
        self._progress = progress
        self._rows: dict[str, tuple[CaseRow, ...]] = {
            case: (CaseRow(case=case, status="failed", message=why),) for case, why in faults.items()
        }
        self._before: set[str] = set()
        self._next_save = 0.0
        self._report()

    def kept(self) -> str:
        """How far the run has come, for messages."""
        tally = self.tally({})
        return f"{tally.done + tally.before} of {len(self._cases)} cases are finished and kept"

    def tally(self, left_out: Mapping[str, tuple[str, ...]]) -> Tally:
        """What has become of the cases so far, and of the files that are of no case."""
        failed = sum(any(row.status == "failed" for row in rows) for rows in self._rows.values())
        before = len(self._before)
        done = len(self._rows) - failed - before
        return Tally(done, before, failed, len(self._cases) - len(self._rows), left_out)

    def is_done(self, task: CaseTask) -> bool:
        """Whether an earlier run has finished a case; its rows are kept then.

        A case whose files were changed since is not done again, which would destroy them, and is not finished either.
        """
        try:
            line = self._finished.find(task.case, self._files.inputs(task), self._files.prompting.sha256(task.case))
        except (PipelineError, OSError):
            return False  # reading the case will tell what is wrong with it
        if line is None:
            return False
        changed = [str(self._files.own.folder / name) for name in line.written if self._files.own.is_foreign(name)]
        if changed:
            fault = (
                f"{', '.join(changed)}: changed since it was written, so it is left alone and does not count as done"
            )
            message = f"{task.case}: {fault}; move it away to have the case done again"
            self._rows[task.case] = (CaseRow(case=task.case, status="failed", message=message),)
        else:
            self._rows[task.case] = line.rows
            self._before.add(task.case)
        self._report()
        return True

    def keep(self, task: CaseTask, outcome: Outcome) -> None:
        """Note a case that is done, or has failed."""
        if outcome.written:
            prompts = self._files.prompting.sha256(task.case)
            self._finished.add(task.case, outcome.files, prompts, outcome.written, outcome.rows)
        self._rows[task.case] = outcome.rows
        if time.monotonic() > self._next_save:
            self._save()
        self._report()

    def rows(self) -> list[CaseRow]:
        """In the order of the cases."""
        return [row for case in self._cases for row in self._rows.get(case, ())]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Write cases.csv before and after the block, however it ends, and so often in between that it costs little."""
        self._save()
        try:
            yield
        finally:
            self._save()

    def _save(self) -> None:
        began = time.monotonic()
        self._files.own.write_text(CASES_CSV, rows_as_csv(self.rows()))
        now = time.monotonic()
        self._next_save = now + _SAVE_SHARE * (now - began)

    def _report(self) -> None:
        self._progress("predicting", len(self._rows), len(self._cases))


def rows_as_csv(rows: list[CaseRow]) -> str:
    """Text of cases.csv."""
    return csv_text(list(CaseRow.model_fields), (row.model_dump() for row in rows))


def _description(model: Mixture, files: CaseFiles) -> str:
    """Hash of all that is the same for every case of a run."""
    outputs = files.extras.options
    parts = {
        "version": package_version(),
        "model": [model.identity, sorted(model.hashes.items()), model.tau, model.selector, model.channel],
        "options": asdict(files.options),
        "outputs": [outputs.save_probabilities, outputs.uncertainty, outputs.dicom_seg],
        "prompts": files.prompting.sha256_of_all(),
    }
    return sha256_json(parts)
