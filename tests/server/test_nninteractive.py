"""The contract: nnInteractive's own client against a running server."""

import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest
from nnInteractive.inference.remote.remote_session import (
    ServerAtCapacityError,
    SessionExpiredError,
    nnInteractiveRemoteInferenceSession,
)
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.server.nninteractive import wire
from tests.server.conftest import GRID, KEY, Running, noise

SIDES = (16, 20, 24)  # k, j, i
SPACING = [2.5, 1.0, 1.5]
CLICKS = [((8, 10, 12), True), ((9, 12, 10), True), ((3, 4, 20), False)]


@pytest.fixture
def connect(server: Running) -> Any:
    opened: list[Any] = []

    def connecting(key: str = KEY) -> Any:
        client = nnInteractiveRemoteInferenceSession.__new__(nnInteractiveRemoteInferenceSession)
        opened.append(client)  # also if it is refused, since it does not close itself then
        client.__init__(server.url, key)
        return client

    yield connecting
    for client in opened:
        client._stop_heartbeat = getattr(client, "_stop_heartbeat", threading.Event())
        client._heartbeat_thread = getattr(client, "_heartbeat_thread", None)
        client.close()


def with_image(client: Any, seed: int = 0, dtype: str = "uint8") -> Any:
    client.set_image(noise(seed).array.transpose()[None], {"spacing": SPACING})
    client.set_target_buffer(np.zeros(SIDES, dtype))
    return client


def predicted(server: Running, seed: int, prompts: list[dict[str, Any]]) -> NDArray[Any]:
    """As `moe predict` has it, (k, j, i)."""
    image = Volume(noise(seed).array, Geometry(GRID.shape, GRID.spacing_mm))
    return server.predictor.predict(image, prompts).labels.array.transpose()


def clicked(n: int) -> list[dict[str, Any]]:
    points, labels = [place[::-1] for place, _ in CLICKS[:n]], [int(inside) for _, inside in CLICKS[:n]]
    return [{"class_id": 1, "points": points, "labels": labels}]


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int32"])
def test_masks_are_those_of_a_prediction_and_undo_leads_back(server: Running, connect: Any, dtype: str) -> None:
    client = with_image(connect(), dtype=dtype)
    assert client.original_image_shape == (1, *SIDES)
    seen = [client.target_buffer.copy()]
    for n, (place, inside) in enumerate(CLICKS, start=1):
        box = client.add_point_interaction(place, inside)
        assert np.array_equal(client.target_buffer, predicted(server, 0, clicked(n)))
        differs = np.argwhere(client.target_buffer != seen[-1])
        assert box == np.stack([differs.min(axis=0), differs.max(axis=0) + 1], axis=1).tolist()
        seen.append(client.target_buffer.copy())
    for expected in reversed(seen[:-1]):
        assert client.undo() is True
        assert np.array_equal(client.target_buffer, expected)
    assert client.undo() is False


def test_boxes_of_two_and_three_dimensions(server: Running, connect: Any) -> None:
    client = with_image(connect())
    client.add_bbox_interaction([[4, 12], [5, 15], [6, 18]], True)
    box = {"class_id": 1, "box": [[6, 5, 4], [17, 14, 11]]}
    assert np.array_equal(client.target_buffer, predicted(server, 0, [box]))
    client.reset_interactions()
    assert not client.target_buffer.any()
    assert client.undo() is False
    client.add_bbox_interaction([[8, 9], [5, 15], [6, 18]], True)
    flat = {"class_id": 1, "box": [[6, 5, 8], [17, 14, 8]]}
    assert np.array_equal(client.target_buffer, predicted(server, 0, [flat]))


def test_prompts_without_prediction_wait_for_one(server: Running, connect: Any) -> None:
    client = with_image(connect())
    for place, inside in CLICKS:
        assert client.add_point_interaction(place, inside, run_prediction=False) is None
    assert not client.target_buffer.any()
    assert client._predict() is not None
    assert np.array_equal(client.target_buffer, predicted(server, 0, clicked(3)))
    assert client._predict() is None


def test_a_segment_is_taken_over_and_corrected(connect: Any) -> None:
    client = with_image(connect())
    given = np.zeros(SIDES, np.uint8)
    given[5:11, 6:14, 8:16] = 1
    client.add_initial_seg_interaction(given)
    assert np.array_equal(client.target_buffer, given)
    client.add_point_interaction((6, 7, 9), False)
    assert not np.array_equal(client.target_buffer, given)
    assert client.undo() is True
    assert np.array_equal(client.target_buffer, given)


def test_who_is_not_let_in(server: Running, connect: Any) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        connect("another-key")
    clients = [connect() for _ in range(3)]
    assert clients[0].supported_interactions["points"]
    assert not clients[0].supported_interactions["lasso"]
    assert clients[0].supports_undo
    assert clients[0].ping()
    with pytest.raises(ServerAtCapacityError, match="all 3 sessions"):
        connect()
    with server.client() as bare:
        assert bare.post("/claim").headers["retry-after"] == "10"
    clients[0].close()
    connect()


def test_a_lease_ends_when_nothing_is_done(server: Running, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = with_image(connect())
    assert 0 < client.heartbeat() <= client.lease_status()["idle_timeout_seconds"]
    monkeypatch.setattr(server.service.leases, "clock", lambda: time.monotonic() + 700)
    with pytest.raises(SessionExpiredError, match="has ended"):
        client.add_point_interaction((8, 10, 12), True)
    assert len(server.service.leases) == 0


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("/add_point_interaction", {"coordinates": [16, 3, 3]}, "outside the image, which has 24 x 20 x 16 voxels"),
        ("/add_point_interaction", {"coordinates": [1, 3]}, "coordinates"),
        ("/add_point_interaction", {"voxel_coord": [1, 3, 4], "positive_click": True}, "protocol of nnInteractive 0.3"),
        ("/add_bbox_interaction", {"bbox_coords": [[9, 4], [1, 3], [1, 3]]}, "intervals"),
        ("/add_bbox_interaction", {"bbox_coords": [[40, 44], [1, 3], [1, 3]]}, "outside the image"),
        ("/set_target_buffer", {"shape": [3, 3, 3], "dtype": "uint8"}, "is not the image's"),
        ("/set_target_buffer", {"shape": list(SIDES), "dtype": "float32"}, "whole numbers"),
        ("/add_scribble_interaction", {}, "points and boxes"),
        ("/upload_image", {}, "protocol of nnInteractive 0.3"),
    ],
)
def test_what_cannot_be_is_400_with_a_reason(connect: Any, path: str, content: dict[str, Any], reason: str) -> None:
    client = with_image(connect())
    answer = client._http.post(path, json=content)
    assert answer.status_code == 400
    assert reason in answer.json()["detail"]


def test_images_that_cannot_be(connect: Any) -> None:
    client = connect()
    nan = np.full((1, *SIDES), np.nan, np.float32)
    for image, reason in ((nan, "NaN"), (np.zeros((1, *SIDES), np.int16), "without contrast")):
        with pytest.raises(httpx.HTTPStatusError, match="400") as told:
            client.set_image(image, {"spacing": SPACING})
        assert reason in told.value.response.json()["detail"]
    big = np.zeros((1, 16 << 10, 32, 32), np.uint8)  # packs to nothing, and is more than the 8 MB that this one takes
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        client.set_image(big, {"spacing": SPACING})
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        client.set_image(noise(0).array[None], {"spacing": [1, 0, 1]})
    refused = client._http.post("/set_image", content=b"x" * (9 << 20))
    assert refused.status_code == 413


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int16", "float32"])
def test_arrays_come_back_as_they_were_also_without_content(dtype: str) -> None:
    random = np.random.default_rng(0)
    for array in (np.zeros((3, 100, 7), dtype), random.integers(0, 2, (4, 5, 6)).astype(dtype)):
        assert np.array_equal(wire.unpack(wire.pack(array), 1 << 20), array)


def test_two_clients_never_see_each_others_masks(server: Running, connect: Any) -> None:
    run_interleaved(server, connect, 40)


def run_interleaved(server: Running, connect: Any, n: int) -> None:
    """Two clients with an image each, in a random order of clicks, undos and resets."""
    random = np.random.default_rng(0)
    clients = [with_image(connect(), seed) for seed in (0, 1)]
    done = [0, 0]
    expected = [[predicted(server, seed, clicked(k)) if k else np.zeros(SIDES) for k in range(4)] for seed in (0, 1)]
    assert not np.array_equal(expected[0][1], expected[1][1])
    for _ in range(n):
        who = int(random.integers(2))
        match random.choice(["click", "click", "undo", "reset"]):
            case "click" if done[who] < len(CLICKS):
                clients[who].add_point_interaction(*CLICKS[done[who]])
                done[who] += 1
            case "undo":
                assert clients[who].undo() == (done[who] > 0)
                done[who] = max(done[who] - 1, 0)
            case "reset":
                clients[who].reset_interactions()
                done[who] = 0
        for client, masks, k in zip(clients, expected, done, strict=True):
            assert np.array_equal(client.target_buffer, masks[k])
