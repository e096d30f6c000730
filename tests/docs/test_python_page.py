"""Every block of docs/python.md, in a workspace with a small dataset of two classes; first that which trains."""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import moe_pipeline
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.training.claims import learn_claims
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.click_proposer import train
from moe_pipeline.training.click_proposer.train import ClickProposerSettings
from moe_pipeline.workspace import Workspace

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
NAME = "Dataset004_Hippocampus"
SMALL = partial(ClickProposerSettings, steps=24, hidden=16, depth=1, search_crops=12, synthetic=2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_phantom_dataset: Callable[..., Path]) -> Path:
    """The present folder: a workspace with a plan of little work, and the files that the page names."""
    monkeypatch.chdir(tmp_path)
    place = Workspace(Path("moe_workspace"))
    raw = make_phantom_dataset(place.raw(NAME), n_cases=6)
    description = json.loads((raw / "dataset.json").read_text())
    labels = {"background": 0, "Anterior": 1, "Posterior": 3}
    (raw / "dataset.json").write_text(json.dumps({**description, "labels": labels}))
    plan = plan_dataset(raw, place.plans(NAME), "nano", place.weights).plan
    few = {"crops_per_case": 2, "copies_per_case": 2, "epochs": 1, "steps_per_epoch": 2, "batch_size": 2}
    plan.model_copy(update=few).save(place.plan(NAME))
    prompts = {"space": "voxel_xyz", "cases": {"p000": [{"class_id": 1, "points": [[8, 12, 6]], "labels": [1]}]}}
    for folder in ("images", "labels", "prompts"):
        Path(folder).mkdir()
    Path("clicks.json").write_text(json.dumps({**prompts, "cases": {"scan": prompts["cases"]["p000"]}}))  # type: ignore[index]
    Path("prompts/p000.json").write_text(json.dumps(prompts))
    for target in ("scan.nii.gz", "images/p000.nii.gz"):
        shutil.copy(raw / "imagesTr" / "p000_0000.nii.gz", target)
    shutil.copy(raw / "labelsTr" / "p000.nii.gz", "labels/p000.nii.gz")
    return tmp_path


def test_every_block_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cheap_claims: ClaimSettings
) -> None:
    monkeypatch.setattr(train, "ClickProposerSettings", SMALL)
    monkeypatch.setattr(learn_claims, "ClaimSettings", lambda **_: cheap_claims)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {"moe_pipeline": moe_pipeline}
    for block in sorted(blocks, key=lambda block: "moe_pipeline.finetune" not in block):
        exec(compile(block.replace('"class_id": 2', '"class_id": 3'), str(PAGE), "exec"), names)  # as phantoms have it
    told = capsys.readouterr().out
    assert f"('{NAME}',)" in told
    assert "space: no space 'voxel_zyx'; there are: world_lps_mm, voxel_xyz, array_zyx" in told
    assert (here / "labels.nii.gz").is_file()
