"""Images and label maps in a store: fsspec's own in memory, and S3 as moto plays it where that is installed."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from moe_pipeline.commands.predict import PredictReport, predict_and_score
from moe_pipeline.commands.remote import remote_url
from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny
from tests.phantoms.night import write_good


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_foundation: SamFoundation) -> Workspace:
    """A workspace with two images and clicks."""
    place = Workspace(tmp_path_factory.mktemp("remote"))
    save_tiny(tiny_foundation, place.weights, View(spacing_mm=1.0, size_voxels=16))
    clicks = {}
    for number, case in enumerate(("one", "two")):
        (place.root / "scans").mkdir(exist_ok=True)
        write_good(place.root / "scans", case, number)
        clicks[case] = [{"class_id": 3, "points": [[6, 6, 4]], "labels": [1]}]
    (place.root / "clicks.json").write_text(json.dumps({"space": "voxel_xyz", "cases": clicks}))
    return place


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an empty folder."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        yield "memory://bucket"
        return
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'moe-pipeline[s3]'")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x")):
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    server.stop()


def predict(place: Workspace, images: str | Path, out: str | Path, **more: object) -> PredictReport:
    given = {"prompts": place.root / "clicks.json", "foundation": "tiny", **more}
    return predict_and_score(place, predict_options(images, out, **given))  # type: ignore[arg-type]


def test_a_store_gets_what_a_folder_would(place: Workspace, store: str, tmp_path: Path) -> None:
    predict(place, place.root / "scans", tmp_path / "out")
    system, _ = fsspec.url_to_fs(store)
    for path in (place.root / "scans").iterdir():
        system.put_file(str(path), f"{store}/scans/{path.name}")
    first = predict(place, f"{store}/scans", f"{store}/out")
    assert first.text.startswith(f"{store}/out: 2 label maps, 0 failed cases")
    found = {Path(name).name: system.cat_file(name) for name in system.find(f"{store}/out")}
    assert found.keys() == {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for name in ("one.nii.gz", "two.nii.gz"):
        assert found[name] == (tmp_path / "out" / name).read_bytes()
    assert "2 finished before" in predict(place, f"{store}/scans", f"{store}/out").text
    system.rm_file(f"{store}/out/two.nii.gz")
    assert "1 done + 1 finished before" in predict(place, f"{store}/scans", f"{store}/out").text
    assert not list((place.root / "scratch").iterdir())


def test_a_store_is_for_this_machine_alone(place: Workspace, tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError, match="--engine ray needs folders that all machines see, not memory://bucket/scans"
    ):
        predict(place, "memory://bucket/scans", tmp_path, engine="ray")


def test_a_store_that_is_not_there_is_named(place: Workspace, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nowhere://bucket: .*moe-pipeline\[s3\]"):
        predict(place, "nowhere://bucket", tmp_path)


def test_a_path_is_no_address() -> None:
    assert remote_url(Path("s3://bucket/scans")) == "s3://bucket/scans"
    assert remote_url(Path("folder/s3:scans")) is None
    assert remote_url(Path("/scans")) is None
