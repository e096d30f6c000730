"""Every prompt of a case, as every model segments it: scored alone, before objects compete for voxels."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
from moe_pipeline.inference.interactive.request import SimulatedRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, bank_for, segment_case
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.journal.written import Written
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.comparison import CaseScores, ModelScores, PromptScore

_INSIDE = 0.5  # probability above which a voxel belongs to an object
_OPTIONS = SegmentOptions(keep_answers=True)


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
    scored_case: _ScoredCase | None = None
    for model in models:
        mixture = model.model_for(of.name)
        if mixture is None:
            continue
        for clicking in clickings:
            key = clicking.scores_key(model.name)
            recipe = {**inputs, "model": model.identity(of.name), "clicks": clicking.n_clicks, "seed": clicking.seed}
            recipe["options"] = asdict(_OPTIONS)
            made_of = sha256_json({**recipe, "classes": {str(value): name for value, name in of.classes.items()}})
            if key in known.models and known.models[key].made_of == made_of:
                continue
            scored_case = scored_case or _ScoredCase.read(case, of.classes)
            prompts = scored_case.score(mixture, clicking)
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


@dataclass(frozen=True, slots=True)
class _ScoredCase:
    """A case that is read, and its crops as each foundation has encoded them: the models on one share them."""

    case: str
    image: Volume
    reference: Volume
    sizes: dict[int, int]
    """Voxels of each value in the reference."""
    classes: dict[int, str]
    """What to prompt: those of the set that are there."""
    banks: dict[Foundation, CropBank] = field(default_factory=dict)

    @classmethod
    def read(cls, case: EvaluationCase, classes: dict[int, str]) -> "_ScoredCase":
        image, reference = read_volume(case.image), read_label_map(case.reference)
        if differences := image.geometry.differences(reference.geometry):
            raise ImageError(
                f"{case.case}: {case.reference} is on another grid than its image: {'; '.join(differences)}"
            )
        sizes = label_counts(reference.array)
        present = {value: name for value, name in sorted(classes.items()) if value and value in sizes}
        return cls(case.case, image, reference, sizes, present)

    def score(self, model: Mixture, clicking: Clicking) -> tuple[PromptScore, ...]:
        """Every object as a model segments it."""
        if model.foundation not in self.banks:
            self.banks[model.foundation] = bank_for(model, self.image, _OPTIONS)
        request = SimulatedRequest(
            self.case, self.image, self.reference, self.classes, clicking.n_clicks, clicking.seed
        )
        began = time.monotonic()
        result = segment_case(model, request, _OPTIONS, self.banks[model.foundation])
        each = (time.monotonic() - began) / max(1, len(result.rows))
        return tuple(self._prompt_score(row, result, each) for row in result.rows)

    def _prompt_score(self, row: CaseRow, result: CaseResult, seconds: float) -> PromptScore:
        class_id = row.class_id
        assert class_id is not None, "a row without a class"
        (answer,) = result.answers[class_id]
        mask = voxels_of(answer)
        hits = int(np.count_nonzero(self.reference.array[tuple(mask.T)] == class_id))
        return PromptScore(
            class_id=class_id,
            class_name=row.class_name,
            dice=2 * hits / (len(mask) + self.sizes[class_id]),
            voxels=len(mask),
            mask_sha256=hashlib.sha256(mask.tobytes()).hexdigest(),
            expert=row.expert,
            weight=row.weight or 0.0,
            in_distribution=row.in_distribution,
            seconds=round(seconds, 3),
        )


def _known(path: Path, dataset: str, case: str) -> CaseScores:
    """What an earlier run left; a record of another version is made again."""
    nothing = CaseScores(dataset=dataset, case=case, models={})
    if not path.is_file():
        return nothing
    try:
        return CaseScores.load(path)
    except RecordError:
        return nothing
