"""Images and label maps in a store: fsspec's own in memory, and S3 as moto plays it where that is installed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

import moe_pipeline
from moe_pipeline.cli import app
from moe_pipeline.commands.predict import PredictReport, predict_and_score
from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.paths import remote_url
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


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of a bucket; fsspec keeps the connection."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'moe-pipeline[s3]'")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("ACCESS_KEY_ID", "x")):
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> str:
    """Address of an empty folder."""
    address = "memory://bucket" if request.param == "memory" else request.getfixturevalue("s3")
    system, root = fsspec.url_to_fs(address)
    for path in system.find(root):
        system.rm_file(path)
    return str(address)


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


def test_the_workspace_may_be_in_the_store_too(
    place: Workspace, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    system, _ = fsspec.url_to_fs(store)
    with pytest.raises(PipelineError, match=f"{store}/ws: expected a workspace with a folder model or weights"):
        predict(Workspace(Path(f"{store}/ws")), place.root / "scans", "out", prompts=place.root / "clicks.json")
    for path in place.weights.iterdir():
        system.put_file(str(path), f"{store}/ws/weights/{path.name}")
    (tmp_path / "scans").symlink_to(place.root / "scans")
    given: Any = {"prompts": place.root / "clicks.json", "foundation": "tiny", "workspace": f"{store}/ws"}
    for _ in range(2):
        assert moe_pipeline.predict("scans", "out", **given).text.startswith("out: 2 label maps, 0 failed cases")
    monkeypatch.setattr(system, "get_file", None)  # nothing is fetched again
    moe_pipeline.predict("scans", "out", **given, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"moe_workspace", "out", "scans"}
    with pytest.raises(PipelineError, match=f"workspace: {store}/ws: only predict works with a store"):
        moe_pipeline.plan(1, workspace=f"{store}/ws")
    refused = CliRunner().invoke(app, ["plan", "1", "--workspace", f"{store}/ws"])
    assert (refused.exit_code, "only moe predict" in " ".join(refused.output.split())) == (2, True)


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
