from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.io.files import read_geometry
from moe_pipeline.prompts.read import read_prompts
from moe_pipeline.prompts.simulate import SimulatedUserOptions, simulate_prompts
from moe_pipeline.records.prompts import PromptFile
from tests.phantoms.images import write_file

SHAPE = (20, 16, 12)


def write(path: Path, labels: np.ndarray) -> None:
    turned = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    write_file(path, labels, (1.0, 1.5, 2.0), (5.0, -6.0, 7.0), turned)


@pytest.fixture
def reference() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 3:10, 2:7] = 1
    labels[14:19, 2:5, 8:11] = 3
    return labels


@pytest.fixture
def labels(tmp_path: Path, reference: np.ndarray) -> Path:
    write(tmp_path / "labelsTs" / "a.nii.gz", reference)
    (tmp_path / "dataset.json").write_text('{"labels": {"1": "ball", "3": "bar"}}')
    return tmp_path / "labelsTs"


def voxels(file: Path, labels: Path) -> list[tuple[int, str, list[list[int]], list[int]]]:
    native = read_geometry(labels / "a.nii.gz")
    return [
        (p.class_id, p.class_name, np.rint(native.world_to_voxel(p.clicks_mm)).astype(int).tolist(), p.labels.tolist())
        for p in read_prompts(file).of_case("a", native)
    ]


def test_random_clicks_lie_in_their_class(labels: Path, reference: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    assert simulate_prompts(labels, out, SimulatedUserOptions("random", clicks=5, seed=3)) == {}
    for class_id, _, places, signs in voxels(out, labels):
        assert signs == [1] * 5
        assert [int(reference[tuple(place)]) for place in places] == [class_id] * 5
    assert PromptFile.load(out).made_by == "simulated user random, 5 clicks an object, seed 3, by labelsTs"


def test_the_same_seed_gives_the_same_file_and_another_one_another(labels: Path, tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a.json", 1), ("b.json", 1), ("c.json", 2)):
        simulate_prompts(labels, tmp_path / name, SimulatedUserOptions("random", clicks=2, seed=seed))
        texts.append((tmp_path / name).read_text().replace(f"seed {seed}", ""))
    assert texts[0] == texts[1] != texts[2]


def test_centre_is_the_deepest_voxel(labels: Path, tmp_path: Path) -> None:
    simulate_prompts(labels, tmp_path / "p.json", SimulatedUserOptions("centre"))
    assert voxels(tmp_path / "p.json", labels) == [(1, "ball", [[5, 6, 4]], [1]), (3, "bar", [[16, 3, 9]], [1])]


def test_jitter_moves_the_centre_but_not_out_of_the_image(labels: Path, tmp_path: Path) -> None:
    moved = []
    for seed in range(30):
        simulate_prompts(labels, tmp_path / f"{seed}.json", SimulatedUserOptions("jitter", seed=seed, jitter_mm=6))
        moved += [place for *_, places, _ in voxels(tmp_path / f"{seed}.json", labels)[:1] for place in places]
    away_mm = (np.array(moved) - (5, 6, 4)) * (1.0, 1.5, 2.0)
    assert (np.array(moved) >= 0).all()
    assert (np.array(moved) < SHAPE).all()
    assert 2 < away_mm.std() < 7  # 6 mm, less what the image's border takes
    simulate_prompts(labels, tmp_path / "p.json", SimulatedUserOptions("jitter", jitter_mm=0))
    assert voxels(tmp_path / "p.json", labels)[0][2] == [[5, 6, 4]]


def test_error_clicks_where_a_prediction_is_wrong(labels: Path, reference: np.ndarray, tmp_path: Path) -> None:
    prediction = reference.copy()
    prediction[2:4, 3:10, 2:7] = 0  # missed
    prediction[12:15, 11:14, 0:3] = 1  # invented
    write(tmp_path / "answers" / "a.nii.gz", prediction)
    options = SimulatedUserOptions("error", clicks=3, predictions=tmp_path / "answers")
    assert simulate_prompts(labels, tmp_path / "p.json", options) == {}
    ball, bar = voxels(tmp_path / "p.json", labels)
    assert ball[2][0] == [5, 6, 4]
    assert ball[3] == [1, 1, 0]
    assert reference[tuple(ball[2][1])] == 1
    assert prediction[tuple(ball[2][1])] == 0
    assert ball[2][2] == [13, 12, 1]
    assert len(bar[2]) == 1  # nothing is wrong there


def test_a_case_that_cannot_be_clicked_on_is_named(labels: Path, tmp_path: Path) -> None:
    write(labels / "b.nii.gz", np.zeros(SHAPE, np.uint8))
    (labels / "c.nii.gz").write_bytes(b"no image")
    failed = simulate_prompts(labels, tmp_path / "p.json", SimulatedUserOptions("centre"))
    assert sorted(failed) == ["b", "c"]
    assert "the reference is empty" in failed["b"]
    assert sorted(PromptFile.load(tmp_path / "p.json").cases) == ["a"]
    (labels / "a.nii.gz").unlink()
    with pytest.raises(PromptError, match="nothing to click on: "):
        simulate_prompts(labels, tmp_path / "q.json", SimulatedUserOptions("centre"))


def test_a_prediction_on_another_grid_is_refused(labels: Path, tmp_path: Path) -> None:
    write(tmp_path / "answers" / "a.nii.gz", np.zeros((20, 16, 11), np.uint8))
    with pytest.raises(PromptError, match="is on another grid than its reference: shape"):
        simulate_prompts(labels, tmp_path / "p.json", SimulatedUserOptions("error", predictions=tmp_path / "answers"))
    (tmp_path / "answers" / "a.nii.gz").unlink()
    with pytest.raises(PromptError, match="a: no prediction to look for errors in"):
        simulate_prompts(labels, tmp_path / "p.json", SimulatedUserOptions("error", predictions=tmp_path / "answers"))


def test_simulated_users_are_named() -> None:
    with pytest.raises(PromptError, match="no simulated user 'human'; there are: random, centre, jitter, error"):
        SimulatedUserOptions("human")  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="moe predict --labels"):
        SimulatedUserOptions("error")
    with pytest.raises(PromptError, match="only then"):
        SimulatedUserOptions("random", predictions=Path("x"))
