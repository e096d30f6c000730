"""The JSON API: scans and their states, sessions that outlive their clients, accept."""

import base64
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.api import Predictor
from moe_pipeline.records.prompts import SessionEvent
from tests.server.conftest import GRID, Running, running

CLICKS = [([12, 10, 8], True), ([10, 12, 9], True), ([20, 4, 3], False)]


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def opened(client: httpx.Client, case: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/scans/{case}/session", json=body)
    assert answer.status_code == 200, answer.text
    client.headers["X-Lease-Token"] = answer.json()["lease_token"]
    session: dict[str, Any] = answer.json()["session"]
    return session


def done(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def click(client: httpx.Client, place: list[int], inside: bool = True) -> dict[str, Any]:
    return done(client.post("/api/session/click", json={"point": place, "inside": inside}))


def apply(shown: NDArray[Any], change: dict[str, Any]) -> NDArray[Any]:
    """What a page does with a change."""
    patch = change["patch"]
    if patch is None:
        return shown
    shape = [stop - start for start, stop in patch["box"]]
    raw = np.frombuffer(zlib.decompress(base64.b64decode(patch["data"])), patch["dtype"])
    after = shown.copy()
    after[tuple(slice(*side) for side in patch["box"])] = raw.reshape(shape, order="F")
    return after


def labels_now(client: httpx.Client, folder: Path) -> NDArray[Any]:
    path = folder / "now.nii.gz"
    path.write_bytes(client.get("/api/session/labels").content)
    volume = read_native(path)
    assert volume.geometry.differences(GRID) == []
    return volume.array


def state_of(client: httpx.Client, case: str) -> str:
    states = {scan["case"]: scan["state"] for scan in client.get("/api/scans").json()}
    return str(states[case])


def test_a_scan_from_untouched_to_accepted(server: Running, client: httpx.Client, tmp_path: Path) -> None:
    assert [scan["case"] for scan in client.get("/api/scans").json()] == ["one", "two"]  # none that a link leads to
    image = client.get("/api/scans/one/image").content
    assert image == (server.images / "one.nii.gz").read_bytes()
    assert gzip.GzipFile(fileobj=io.BytesIO(image)).read(4)
    opened(client, "one")
    assert state_of(client, "one") == "untouched"
    done(client.post("/api/session/objects", json={"class_name": "Lésion"}))
    shown = np.zeros(GRID.shape, np.uint8)
    for place, inside in CLICKS:
        change = click(client, place, inside)
        shown = apply(shown, change)
        assert np.array_equal(shown, labels_now(client, tmp_path))
    assert change["answer"]["expert"] == "general"
    prompts = client.get("/api/session/prompts").json()["cases"]["one"]
    assert np.array_equal(server.predictor.predict(server.images / "one.nii.gz", prompts).labels.array, shown)
    assert state_of(client, "one") == "begun"
    second = done(client.post("/api/session/objects", json={"class_name": "node"}))
    assert [one["class_name"] for one in second["objects"]] == ["Lésion", "node"]
    shown = apply(shown, done(client.post("/api/session/box", json={"first": [2, 2, 2], "last": [8, 9, 7]})))
    assert set(np.unique(shown)) == {0, 1, 2}
    taken = apply(shown, done(client.post("/api/session/undo", json={"steps": 2})))
    assert set(np.unique(taken)) == {0, 1}
    assert np.array_equal(apply(taken, done(client.post("/api/session/redo", json={"steps": 2}))), shown)
    assert done(client.post("/api/session/accept"))["state"] == "accepted"
    assert state_of(client, "one") == "accepted"
    dataset = open_dataset(server.dataset)
    assert dataset.classes == {1: "Lésion", 2: "node"}
    assert np.array_equal(read_native(server.dataset / "labelsTr" / "one.nii.gz").array, shown)
    prompts = server.dataset / "prompts" / "one.json"
    assert np.array_equal(server.predictor.predict(server.images / "one.nii.gz", prompts).labels.array, shown)
    assert client.get("/api/scans/one/labels").content == (server.dataset / "labelsTr" / "one.nii.gz").read_bytes()
    again = opened(client, "one", take=True)  # as a browser that was closed
    assert again["state"] == "accepted"
    assert len(again["objects"]) == 2
    assert np.array_equal(labels_now(client, tmp_path), shown)
    done(client.post("/api/session/objects/1/select"))
    done(client.delete("/api/session/objects/2"))
    assert state_of(client, "one") == "begun"
    assert client.get("/api/model").json()["classes"][1] == {"class_id": 2, "class_name": "node"}
    assert client.get("/api/next-commands").json()[0].startswith("moe plan ")


def test_a_client_that_vanishes_loses_nothing_and_gives_way(server: Running, client: httpx.Client) -> None:
    opened(client, "two")
    change = click(client, [12, 10, 8])
    with server.client() as other:
        assert other.post("/api/scans/two/session").status_code == 409
        taken = opened(other, "two", take=True)
        assert taken["objects"] == change["session"]["objects"]
        assert client.post("/api/session/click", json={"point": [1, 1, 1]}).status_code == 410
    assert client.delete("/api/session").json() == {"released": True}


def test_a_journal_that_was_cut_off_is_read_up_to_there(server: Running, client: httpx.Client) -> None:
    opened(client, "two", take=True)
    before = click(client, [9, 9, 9])["session"]["objects"]
    client.delete("/api/session")
    journal = server.dataset / "journal" / "two.jsonl"
    with journal.open("a") as stream:
        stream.write('{"action":"click","at":1.0,"obj')
    assert opened(client, "two")["objects"] == before
    click(client, [9, 8, 9])
    client.delete("/api/session")
    assert len(opened(client, "two")["objects"][0]["clicks"]) == len(before[0]["clicks"]) + 1
    lines = [line for line in journal.read_text().splitlines() if line]
    assert SessionEvent.model_validate_json(lines[0]).action == "open"


def test_another_image_under_an_old_journal_is_refused(predictor: Predictor, server: Running, tmp_path: Path) -> None:
    write_native(Volume(read_native(server.images / "one.nii.gz").array + 1, GRID), tmp_path / "scans" / "one.nii.gz")
    place = tmp_path / "Dataset901_Other"
    with running(predictor, tmp_path / "scans", place) as other, other.client() as client:
        opened(client, "one")
        click(client, [5, 5, 5])
        client.delete("/api/session")
        write_native(Volume(read_native(server.images / "two.nii.gz").array, GRID), tmp_path / "scans" / "one.nii.gz")
        answer = client.post("/api/scans/one/session")
        assert answer.status_code == 400
        assert "is not the one that was annotated" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text


def test_existing_label_maps_are_opened_and_corrected(predictor: Predictor, server: Running, tmp_path: Path) -> None:
    given = np.zeros(GRID.shape, np.uint8)
    given[5:11, 6:14, 4:9] = 1
    given[14:18, 6:12, 4:9] = 2
    write_native(Volume(given, GRID), tmp_path / "predicted" / "one.nii.gz")
    place = tmp_path / "Dataset902_Corrected"
    with running(predictor, server.images, place, labels=tmp_path / "predicted") as other, other.client() as client:
        scans = client.get("/api/scans").json()
        assert [scan["has_labels"] for scan in scans] == [True, False]
        opened(client, "one")
        session = done(client.post("/api/session/open-labels"))
        assert [one["class_id"] for one in session["objects"]] == [1, 2]
        assert np.array_equal(labels_now(client, tmp_path), given)
        click(client, [15, 7, 5], inside=False)
        corrected = labels_now(client, tmp_path)
        assert np.array_equal((corrected == 1), (given == 1))
        client.delete("/api/session")
        opened(client, "one")
        assert np.array_equal(labels_now(client, tmp_path), corrected)
        opened(client, "two", take=True)
        assert client.post("/api/session/open-labels").status_code == 404


def test_the_next_commands_make_an_expert_or_renew_it(
    server: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = server.dataset.name
    commands = [f"moe plan {server.dataset}", f"moe finetune {name}", f"moe train-gate {name}"]
    assert client.get("/api/next-commands").json() == commands
    monkeypatch.setattr(server.service, "mixture", SimpleNamespace(experts=[SimpleNamespace(name=name)]))
    commands = [f"moe finetune {name} --continue", f"moe experts update {name}"]
    assert client.get("/api/next-commands").json() == commands
