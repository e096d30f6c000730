"""Journals of sessions done again on a folder of images: what people clicked becomes an evaluation."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_pipeline.commands.predict import PredictReport
from moe_pipeline.errors import PipelineError
from moe_pipeline.evaluation.replay import Replayed, replay_session
from moe_pipeline.files import csv_text
from moe_pipeline.imaging.io.files import label_maps_in, list_images, load_image
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.batch.prompt_sources import channel_file
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.inference.options import PredictOptions, PromptOptions, SegmentOptions
from moe_pipeline.inference.session.accepted import ENDING, masks_beside, read_journal
from moe_pipeline.inference.session.session import Session
from moe_pipeline.journal.case_errors import CaseError, guarded
from moe_pipeline.journal.written import Written, refuse_inputs, refuse_unwritable
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.paths import RUN_JSON
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.evaluation import ReplayedObject, ReplayedStep
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.workspace import Workspace

OBJECTS_CSV, STEPS_CSV = "objects.csv", "steps.csv"
_ENDING = ".jsonl"
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class _JournalFolder:
    """What is read and how it is answered."""

    model: Mixture
    segment: SegmentOptions
    images: dict[str, Path]
    references: dict[str, Path] | None

    def replay(self, case: str, journal: Path) -> Replayed:
        """One journal."""
        if case not in self.images:
            raise PipelineError(f"{case}: no image of that name for {journal.name}")
        image = load_image(channel_file(self.images[case], self.model.channel))
        session = Session(self.model, image, case, self.segment)
        return replay_session(case, session, read_journal(journal), masks_beside(journal), self._reference(case))

    def _reference(self, case: str) -> Volume | None:
        if self.references is None:
            return None
        if case not in self.references:
            raise PipelineError(f"{case}: no reference of that name")
        return read_native(self.references[case])


def replay_journals(
    place: Workspace, options: PredictOptions, journal: Path, progress: Progress = silent
) -> PredictReport:
    """Do the sessions of a folder of journals again: label maps, objects.csv, steps.csv and run.json.

    A case that fails is a row with its reason, and the others go on. References (`references`, or `labels`) are only
    compared with, never clicked by.

    Args:
        place: the workspace.
        options: model, images, output folder and references of a prediction; other sources of clicks contradict.
        journal: file, named after its case, or folder of files.
        progress: told after each case.

    Raises:
        PipelineError: if options, model or folders do not fit, or there is no journal; before anything is done.
    """
    began, out = time.monotonic(), options.outputs.out
    journals = _journals(journal)
    if options.prompts != PromptOptions(labels=options.prompts.labels, seed=options.prompts.seed):
        raise PipelineError("--interactive-log says what was clicked; leave out --prompts, --clicks and what to search")
    refuse_inputs(out, (*options.reads, journal))
    refuse_unwritable(out)
    model = options.model.within(place).load()
    wanted = options.outputs.references or options.prompts.labels
    references = None if wanted is None else dict(label_maps_in(wanted).files)
    folder = _JournalFolder(model, options.segment, dict(list_images(options.run.images)), references)
    own = Written(out / FINISHED)
    own.check([OBJECTS_CSV, STEPS_CSV, RUN_JSON, *(f"{case}{ENDING}" for case in journals)], options.reads)
    objects: list[ReplayedObject] = []
    steps: list[ReplayedStep] = []
    for case, path in track(list(journals.items()), "replaying", progress):
        done = guarded(case, own, _work(folder, case, path))
        if isinstance(done, CaseError):
            objects.append(_failed(case, done.message))
            continue
        with own.writing(f"{case}{ENDING}") as temporary:
            write_native(done.labels, temporary)
        objects += done.objects
        steps += done.steps
    own.write_text(OBJECTS_CSV, csv_text(list(ReplayedObject.model_fields), _cells(objects), _DIGITS))
    own.write_text(STEPS_CSV, csv_text(list(ReplayedStep.model_fields), _cells(steps), _DIGITS))
    record = RunRecord(
        command="predict --interactive-log",
        versions=library_versions(),
        device=options.model.device,
        settings=options.by_name() | {"interactive_log": str(journal.resolve())},
        inputs=model.hashes,
        seconds=round(time.monotonic() - began, 1),
        results={"objects": len(objects), "steps": len(steps)},
        files=[OBJECTS_CSV, STEPS_CSV],
    )
    own.write_text(RUN_JSON, record.as_text())
    failed = [row for row in objects if row.status == "failed"]
    return PredictReport(_told(out, len(journals), objects), bool(failed), ())


def _work(folder: _JournalFolder, case: str, path: Path) -> Callable[[], Replayed]:
    return lambda: folder.replay(case, path)


def _journals(path: Path) -> dict[str, Path]:
    """Journal by case."""
    found = sorted(path.glob(f"*{_ENDING}")) if path.is_dir() else [path]
    if not found or not all(one.is_file() for one in found):
        raise PipelineError(
            f"{path}: no journal there; expected CASE{_ENDING} as a session writes it, or a folder of them"
        )
    return {one.name.removesuffix(_ENDING): one for one in found}


def _failed(case: str, message: str) -> ReplayedObject:
    nothing = {"object": 0, "class_id": 0, "clicks": 0, "boxes": 0, "undone": 0, "seconds": 0.0}
    return ReplayedObject.model_validate({"case": case, "status": "failed", "message": message, **nothing})


def _cells(rows: list[ReplayedObject] | list[ReplayedStep]) -> list[dict[str, object]]:
    """Rows for a table, NaN as an empty cell."""
    return [{name: None if cell != cell else cell for name, cell in row.model_dump().items()} for row in rows]


def _told(out: Path, n_cases: int, objects: list[ReplayedObject]) -> str:
    done = [row for row in objects if row.status == "ok"]
    failed = [row for row in objects if row.status == "failed"]
    lines = [f"{out}: {n_cases - len(failed)} sessions replayed, {len(done)} objects, {len(failed)} failed cases"]
    if done:
        clicks = np.mean([row.clicks + row.boxes for row in done])
        seconds = np.mean([row.seconds for row in done])
        scored = [row.dice for row in done if row.dice == row.dice]
        told = f", Dice {np.mean(scored):.3f}" if scored else ""
        lines.append(f"  a mean object: {clicks:.1f} clicks and boxes, {seconds:.0f} s{told}")
    lines += [f"  {row.case}: {row.message.removeprefix(f'{row.case}: ')}" for row in failed]
    return "\n".join([*lines, f"details: {out / OBJECTS_CSV}, {out / STEPS_CSV}"])
