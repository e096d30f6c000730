from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from moe_pipeline.evaluation.forgetting.datasets import raw_set
from moe_pipeline.evaluation.forgetting.models import load_compared_models
from moe_pipeline.evaluation.forgetting.score import Clicking, score_case
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.journal.written import Written
from moe_pipeline.workspace import Workspace

ONE = "Dataset001_One"


def test_models_on_one_foundation_encode_no_cube_twice_and_score_as_each_does_alone(
    trained_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = load_compared_models(trained_workspace, trained_workspace.model, "cpu")
    held_back = raw_set(trained_workspace, ONE, None, 0)
    case, clickings = held_back.cases[0], [Clicking(1, 0), Clicking(2, 0)]
    everywhere: Any = models[-1].everywhere
    encoder = everywhere.foundation.image_encoder
    whole, cubes = encoder.forward, []

    def counted(images: Tensor) -> Tensor:
        cubes.append(images.numpy().tobytes())
        return whole(images)

    monkeypatch.setattr(encoder, "forward", counted)
    together = score_case(case, held_back, models, clickings, Written(tmp_path / "a" / FINISHED), "case.json")
    assert len(cubes) == len(set(cubes)) > 1
    n_together = len(cubes)
    for model in models:
        own = Written(tmp_path / model.name / FINISHED)
        alone = score_case(case, held_back, [model], clickings, own, "case.json")
        for key, found in alone.models.items():
            masks = [(prompt.mask_sha256, prompt.dice, prompt.expert) for prompt in found.prompts]
            shared = together.models[key].prompts
            assert masks == [(prompt.mask_sha256, prompt.dice, prompt.expert) for prompt in shared]
    assert len(cubes) > 2 * n_together  # each alone encodes for itself
