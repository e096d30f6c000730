"""What a person did, done again: the same masks, and what they cost in clicks and seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

import moe_pipeline
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import load_image
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.inference.options import ModelOptions
from moe_pipeline.inference.session.session import Session
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.prompts import SessionEvent
from tests.phantoms.images import write_file

BALLS = ((7.0, 8.0, 8.0), (22.0, 8.0, 7.0))
STEPS: list[dict[str, Any]] = [
    {"action": "open", "at": 1000},
    {"action": "new_object", "at": 1002, "object": 1, "class_id": 2, "class_name": "ball"},
    {"action": "click", "at": 1005, "object": 1, "point": (14.0, 2.0, 3.0)},
    {"action": "undo", "at": 1010},
    {"action": "click", "at": 1200, "object": 1, "point": BALLS[0]},
    {"action": "new_object", "at": 1210, "object": 2, "class_id": 2, "class_name": "ball"},
    {"action": "box", "at": 1214, "object": 2, "box": ((19.0, 5.0, 4.0), (25.0, 11.0, 10.0))},
    {"action": "click", "at": 1217, "object": 2, "point": BALLS[1]},
    {"action": "new_object", "at": 1220, "object": 3, "class_id": 3, "class_name": "slip"},
    {"action": "click", "at": 1221, "object": 3, "point": (15.0, 15.0, 1.0)},
    {"action": "remove", "at": 1223, "object": 3},
    {"action": "accept", "at": 1224},
]


def ball_at(centre: tuple[float, float, float]) -> NDArray[np.bool_]:
    x, y, z = np.indices((30, 17, 16))
    inside: NDArray[np.bool_] = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= 10
    return inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two bright balls of class 2 in case a, a journal about them; and a journal of case b, which has no image."""
    balls = ball_at(BALLS[0]) | ball_at(BALLS[1])
    tilted = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    for name, array in (("images", balls * np.float32(100)), ("labels", balls * np.uint8(2))):
        write_file(tmp_path / name / "a.nii.gz", array, (1, 1, 1), (5, 6, 7), tilted)
    (tmp_path / "journal").mkdir()
    lines = [SessionEvent.model_validate(step).model_dump_json(exclude_defaults=True) for step in STEPS]
    for case in ("a", "b"):
        (tmp_path / "journal" / f"{case}.jsonl").write_text("\n".join(lines) + '\n{"action": "cli')  # killed
    return tmp_path


@pytest.fixture(autouse=True)
def _follows_brightness(follower: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelOptions, "load", lambda _self: follower)


def test_a_journal_becomes_an_evaluation(folder: Path, follower: Mixture) -> None:
    out = folder / "out"
    report = moe_pipeline.predict(folder / "images", out, interactive_log=folder / "journal", labels=folder / "labels")
    assert report.failed
    assert "no image of that name for b.jsonl" in report.text
    assert "1 sessions replayed, 2 objects, 1 failed cases" in report.text
    table = pd.read_csv(out / "objects.csv")
    first, second, third, failed = (row for _, row in table.iterrows())
    assert (first["clicks"], first["boxes"], first["undone"], first["clicks_to_80"]) == (2, 0, 1, 2)
    assert (second["clicks"], second["boxes"], second["undone"], second["clicks_to_80"]) == (1, 1, 0, 1)
    assert first["seconds"] == 2 + 3 + 5 + 60  # of the long pause a minute counts
    assert second["seconds"] == 10 + 4 + 3 + 2 + 1  # and what came after the third was taken away again
    assert third["status"] == "removed"
    assert failed["status"] == "failed"

    session = Session(follower, load_image(folder / "images" / "a.nii.gz"), "a")
    session.new_object(2, "ball")
    session.add_click(BALLS[0])
    session.new_object(2, "ball")
    session.add_box(*STEPS[6]["box"])
    session.add_click(BALLS[1])
    for row, place in ((first, BALLS[0]), (second, BALLS[1])):  # each against its own ball
        expected = dice(session.mask(row["object"]).array > 0, ball_at(place))
        assert row["dice"] == pytest.approx(expected, abs=1e-4)
        assert expected > 0.8
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "a.nii.gz"))).transpose()
    assert np.array_equal(written, session.labels.array)
    steps = pd.read_csv(out / "steps.csv")
    assert list(steps["action"]) == [step["action"] for step in STEPS]
    assert list(steps["at_seconds"]) == [step["at"] - 1000 for step in STEPS]
    assert steps["dice"][4] == first["dice"]


def test_what_cannot_be_replayed_is_refused(folder: Path) -> None:
    images, out, journal = folder / "images", folder / "out", folder / "journal" / "a.jsonl"
    with pytest.raises(PipelineError, match=r"no journal there; expected CASE\.jsonl"):
        moe_pipeline.predict(images, out, interactive_log=folder / "labels")
    with pytest.raises(PipelineError, match="says what was clicked; leave out --prompts"):
        moe_pipeline.predict(images, out, interactive_log=journal, classes=["ball"])
    assert not out.exists()
    write_file(folder / "other" / "a.nii.gz", np.ones((3, 3, 3), np.uint8))
    report = moe_pipeline.predict(images, out, interactive_log=journal, references=folder / "other")
    assert report.failed
    assert "a: the reference lies on another grid than the image" in report.text.replace("  a: the", "a: the")
