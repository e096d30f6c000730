"""Folder in, folder out: every case a label map or a row that says why not."""

import csv
import io
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moe_pipeline.errors import ImageError, PipelineError, PromptError
from moe_pipeline.files import write_text
from moe_pipeline.imaging.files import (
    case_id_of,
    list_images,
    list_label_maps,
    read_geometry,
    read_label_map,
    read_volume,
    write_label_map,
)
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.case import Request, segment_case
from moe_pipeline.inference.maps import NO_MAPS, Maps
from moe_pipeline.inference.model import Mixture
from moe_pipeline.inference.prompt_files.reading import PromptSet, read_prompts
from moe_pipeline.inference.searchers import Search, searchers_of
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.cases import CaseRow

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where the clicks come from: exactly one of a prompt file, a folder of references, and a search.

    Attributes:
        file: prompts in any of our formats: a file, or a folder with one per case.
        labels: references a robot clicks by. An evaluation, and every row says so.
        classes: ids and names that the robot prompts; those found in the references where empty.
        n_clicks: clicks per class of the robot.
        seed: of the robot.
        search: what the experts look for by themselves.
    """

    file: Path | None = None
    labels: Path | None = None
    classes: dict[int, str] = field(default_factory=dict)
    n_clicks: int = 1
    seed: int = 0
    search: Search | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.file, self.labels, self.search)) != 1:
            raise PromptError("give one source of clicks: --prompts FILE, --labels DIR, or none of both for a search")


def predict_folder(
    model: Mixture,
    images: Path,
    out: Path,
    source: PromptSource,
    progress: Progress = silent,
    never_write: Sequence[Path] = (),
    maps: Maps = NO_MAPS,
) -> list[CaseRow]:
    """Predict every image of a folder.

    A case that fails becomes a row with its reason and the others go on; cases.csv is written anew after each case,
    so that nothing done is lost.

    Args:
        model: the mixture.
        images: folder of images.
        out: folder for `<case>.nii.gz` and cases.csv.
        source: of the clicks.
        progress: told after each case.
        never_write: further folders that `out` must not be, such as references to compare with afterwards.
        maps: what to write beside the label maps.

    Returns:
        The rows of cases.csv.

    Raises:
        ImageError: if there is no image at all.
        PromptError: if references are asked for and their folder is missing, or the model cannot search as asked.
        PipelineError: if the output folder is one of the inputs.
    """
    for folder in (images, source.labels, *never_write):
        if folder is not None and folder.resolve() == out.resolve():
            raise PipelineError(f"{out}: is one of the inputs, which are never written to; give another output folder")
    cases = list_images(images)
    if not cases:
        raise ImageError(f"{images}: no image found; expected files ending in .nii.gz, .nii, .nrrd, .mha or .mhd")
    if source.search is not None:
        searchers_of(model, source.search)  # a class or expert that there is none of is an error before any case
    references = _references(source)
    prompts = read_prompts(source.file, [case for case, _ in cases]) if source.file else None
    rows: list[CaseRow] = []
    for case, path in track(cases, "predicting", progress):
        began = time.monotonic()
        try:
            native = read_geometry(path)
            image = channel_file(path, model.channel)
            request = _request(case, image, native, source, prompts, references)
            result = segment_case(model, maps.wanted_by(request))
            maps.write(result, out, case, native)
            write_label_map(result.labels, out / f"{case}.nii.gz", native)
            rows += result.rows
        except (PipelineError, OSError) as error:
            _log.warning("%s failed: %s", case, error)
            (out / f"{case}.nii.gz").unlink(missing_ok=True)  # an older answer must not pass for this run's
            maps.forget(out, case)
            seconds = round(time.monotonic() - began, 3)
            rows.append(CaseRow(case=case, status="failed", message=str(error), seconds=seconds))
        write_rows(out / "cases.csv", rows)
    return rows


def write_rows(path: Path, rows: list[CaseRow]) -> None:
    """Write cases.csv as a whole."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(CaseRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    write_text(path, stream.getvalue())


def _references(source: PromptSource) -> dict[str, Path]:
    if source.labels is None:
        return {}
    if not source.labels.is_dir():
        raise PromptError(f"{source.labels}: no such folder; --labels expects a folder of label maps")
    return dict(list_label_maps(source.labels))


def channel_file(path: Path, channel: int) -> Path:
    """File of the channel that a model looks at; `list_images` names the first one.

    Raises:
        ImageError: if there is no such file.
    """
    if channel == 0:
        return path
    case = case_id_of(path)
    other = path.with_name(path.name.replace(case, f"{case.removesuffix('_0000')}_{channel:04d}", 1))
    if not case.endswith("_0000") or not other.is_file():
        raise ImageError(f"{path}: the model looks at channel {channel}, expected it beside this file as {other.name}")
    return other


def _request(
    case: str,
    path: Path,
    native: Geometry,
    source: PromptSource,
    prompts: PromptSet | None,
    references: dict[str, Path],
) -> Request:
    if prompts is not None:
        return Request(case, read_volume(path), prompts=tuple(prompts.of_case(case, native)))
    if source.search is not None:
        return Request(case, read_volume(path), search=source.search)
    if case not in references:
        raise PromptError(f"{case}: no reference {case}.nii.gz (or another format) in {source.labels} to click by")
    image, reference = read_volume(path), read_label_map(references[case])
    if differences := image.geometry.differences(reference.geometry):
        raise PromptError(
            f"{case}: {references[case]} is on another grid than {path}: {'; '.join(differences)}. "
            "Resample the label onto its image first."
        )
    return Request(
        case,
        image,
        reference=reference,
        classes=source.classes or _classes_in(reference),
        n_clicks=source.n_clicks,
        seed=source.seed,
    )


def _classes_in(reference: Volume) -> dict[int, str]:
    values = sorted(set(reference.array.ravel().tolist()) - {0})
    return {value: f"class {value}" for value in values}
