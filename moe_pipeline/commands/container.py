"""The predict command in a challenge's container: one image in a place of its own, one label map in another."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from moe_pipeline.commands.predict import PredictReport, predict_and_score
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import list_images, read_geometry, read_label_map, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.inference.options import PredictOptions
from moe_pipeline.journal.written import Written
from moe_pipeline.presets import Container, challenges
from moe_pipeline.progress import Progress, silent
from moe_pipeline.workspace import Workspace


def predict_container(
    place: Workspace, options: PredictOptions, name: str, progress: Progress = silent
) -> PredictReport:
    """Predict the one image of a container's input, and write what the challenge looks for beside the usual files.

    Args:
        place: the workspace.
        options: as for a folder of images; `images` is the container's input, `out` its output. Without prompts, only
            the challenge's class is searched for.
        name: of the challenge.
        progress: told after the case.

    Raises:
        PipelineError: as `predict_and_score`; or if the challenge has no container that we know, the input does not
            hold exactly one image, or nothing that was asked for is the challenge's class.
    """
    container = _container(name)
    case, image = _only_image(options.run.images / container.images)
    prompts = options.prompts
    if prompts.search is not None and not prompts.classes:
        prompts = replace(prompts, classes=(container.class_name,))
    inside = replace(options, prompts=prompts, run=replace(options.run, images=image.parent))
    report = predict_and_score(place, inside, progress)
    if any(row.status == "failed" for row in report.rows):
        return report
    values = [row.class_id for row in report.rows if row.class_id and row.class_name == container.class_name]
    if not values:
        asked = ", ".join(sorted({row.class_name for row in report.rows})) or "none"
        raise PipelineError(f"{name}: looks for the class {container.class_name}; asked for was {asked}")
    out = options.outputs.out
    labels = read_label_map(out / f"{case}.nii.gz")
    mask = Volume(np.isin(labels.array, values).astype(np.uint8), labels.geometry)
    with Written(out / FINISHED).writing(container.label_map) as temporary:
        write_label_map(mask, temporary, read_geometry(image))
    return replace(report, text=f"{report.text}\n{out / container.label_map}: {container.class_name}")


def _container(name: str) -> Container:
    known = {key: found.container for key, found in challenges().items() if found.container is not None}
    if name not in known:
        raise PipelineError(f"no container layout of {name!r} is known; there are: {', '.join(known)}")
    return known[name]


def _only_image(folder: Path) -> tuple[str, Path]:
    """Case id and file."""
    found = list_images(folder)
    if len(found) != 1:
        names = ", ".join(path.name for _, path in found) or "none"
        raise PipelineError(f"{folder}: a container's input holds exactly one image there, found {names}")
    return found[0]
