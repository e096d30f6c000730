"""Every prompt of a case, as every model segments it: scored alone, before objects compete for voxels."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError, RecordError
from moe_pipeline.evaluation.forgetting.datasets import EvaluationCase, EvaluationSet
from moe_pipeline.evaluation.forgetting.models import ComparedModel
from moe_pipeline.files import sha256_file, sha256_json
from moe_pipeline.imaging.io.files import label_counts, read_label_map, read_volume
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.inference.interactive.segment_case import Request, segment_case
from moe_pipeline.journal.written import Written
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.comparison import CaseScores, ModelScores, PromptScore

_INSIDE = 0.5  # probability above which a voxel belongs to an object


@dataclass(frozen=True, slots=True)
class Clicking:
    """How the simulated user clicks."""

    n_clicks: int
    """Per object."""
    seed: int
    """Of all clicks; the first one of an object is the same for every model."""

    def scores_key(self, model: str) -> str:
        """Where the scores of a model are kept."""
        return f"{model}, {self.n_clicks} click{'s' if self.n_clicks > 1 else ''}"


def score_case(
    case: EvaluationCase,
    of: EvaluationSet,
    models: Sequence[ComparedModel],
    clickings: Sequence[Clicking],
    own: Written,
    name: str,
) -> CaseScores:
    """Segment every object of a case with every model; what its record has already is not done again.

    Args:
        case: image and reference.
        of: the set it belongs to.
        models: the models.
        clickings: how often to click.
        own: what is ours in the output folder.
        name: of the case's record in it, written anew after each model.

    Raises:
        PipelineError: if image or reference cannot be used, or what stands in the record's place is not ours.
    """
    own.check([name])
    known = _known(own.folder / name, of.name, case.case)
    inputs = {"image": sha256_file(case.image), "reference": sha256_file(case.reference)}
    volumes: tuple[Volume, Volume] | None = None
    for model in models:
        mixture = model.model_for(of.name)
        if mixture is None:
            continue
        for clicking in clickings:
            key = clicking.scores_key(model.name)
            recipe = {**inputs, "model": model.identity(of.name), "clicks": clicking.n_clicks, "seed": clicking.seed}
            made_of = sha256_json({**recipe, "classes": {str(value): name for value, name in of.classes.items()}})
            if key in known.models and known.models[key].made_of == made_of:
                continue
            volumes = volumes or _read(case)
            prompts = _score_prompts(mixture, case.case, *volumes, of.classes, clicking)
            scored = {**known.models, key: ModelScores(made_of=made_of, prompts=prompts)}
            known = known.model_copy(update={"models": scored})
            own.write_text(name, known.as_text())
    return known


def voxels_of(answer: MixtureMask) -> NDArray[np.int64]:
    """Indices of the voxels of an object's mask, (n, 3), in one order whatever way the answer came in pieces."""
    parts: list[NDArray[np.int64]] = [np.empty((0, 3), np.int64)]
    for slab in answer.slabs(above=0.0):
        corner = np.array([start for start, _ in slab.box], dtype=np.int64)
        parts.append(np.argwhere(slab.probability > _INSIDE) + corner)
    voxels = np.concatenate(parts)  # (n, 3)
    return voxels[np.lexsort(voxels.T[::-1])]


def _score_prompts(
    model: Mixture, case: str, image: Volume, reference: Volume, classes: dict[int, str], clicking: Clicking
) -> tuple[PromptScore, ...]:
    sizes = label_counts(reference.array)
    present = {value: name for value, name in sorted(classes.items()) if value and value in sizes}
    request = Request(
        case,
        image,
        reference=reference,
        classes=present,
        n_clicks=clicking.n_clicks,
        seed=clicking.seed,
        keep_answers=True,
    )
    began = time.monotonic()
    result = segment_case(model, request)
    each = (time.monotonic() - began) / max(1, len(result.rows))
    masks = {class_id: voxels_of(answer) for class_id, (answer,) in result.answers.items()}
    hits = {value: int(np.count_nonzero(reference.array[tuple(mask.T)] == value)) for value, mask in masks.items()}
    return tuple(
        PromptScore(
            class_id=class_id,
            class_name=row.class_name,
            dice=2 * hits[class_id] / (len(masks[class_id]) + sizes[class_id]),
            voxels=len(masks[class_id]),
            mask_sha256=hashlib.sha256(masks[class_id].tobytes()).hexdigest(),
            expert=row.expert,
            weight=row.weight or 0.0,
            in_distribution=row.in_distribution,
            seconds=round(each, 3),
        )
        for row in result.rows
        if (class_id := row.class_id) is not None
    )


def _read(case: EvaluationCase) -> tuple[Volume, Volume]:
    image, reference = read_volume(case.image), read_label_map(case.reference)
    if differences := image.geometry.differences(reference.geometry):
        raise ImageError(f"{case.case}: {case.reference} is on another grid than its image: {'; '.join(differences)}")
    return image, reference


def _known(path: Path, dataset: str, case: str) -> CaseScores:
    """What an earlier run left; a record of another version is made again."""
    nothing = CaseScores(dataset=dataset, case=case, models={})
    if not path.is_file():
        return nothing
    try:
        return CaseScores.load(path)
    except RecordError:
        return nothing
