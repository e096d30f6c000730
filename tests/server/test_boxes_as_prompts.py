"""A box that is drawn reaches a network that takes boxes, through both protocols, and as a box."""

from typing import Any

import numpy as np
import pytest
from nnInteractive.inference.remote.remote_session import nnInteractiveRemoteInferenceSession
from torch import Tensor

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.api import Predictor
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from moe_pipeline.records.foundation import View
from tests.phantoms.foundations import foundation_alone
from tests.phantoms.segvol import build_segvol
from tests.server.conftest import GRID, KEY, SEGMENT, Running, noise

FIRST, LAST = [5, 5, 4], [17, 13, 11]  # voxels of GRID
Said = list[tuple[int, Tensor | None]]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """SegVol of the fixture, with random weights; its crops of 80 x 32 x 12 voxels show the whole image."""
    foundation = build_segvol().eval().requires_grad_(False)
    view = View(spacing_mm="fitted", size_voxels=foundation.geometry.crop_size, normalisation="foreground")
    return Predictor(foundation_alone(foundation, view), SEGMENT)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Number of points, and boxes, of all prompts that the network embeds for its decoder."""
    seen: Said = []
    embed = SegVolFoundation.embed_turn

    def recorded(network: SegVolFoundation, points: Any, previous: Any, boxes: Any = None, text: Any = None) -> Any:
        seen.append((points[0].shape[1], boxes))
        return embed(network, points, previous, boxes, text)

    monkeypatch.setattr(SegVolFoundation, "embed_turn", recorded)
    return seen


def in_crop(corners: list[list[int]], shape: tuple[int, ...]) -> np.ndarray:
    """Middles of an image's voxels in those of the crop, both along (x, y, z)."""
    return (np.array(corners) + 0.5) * np.array([80, 32, 12]) / shape - 0.5


def test_through_the_json_api(server: Running, said: Said) -> None:
    with server.client() as client:
        lease = client.post("/api/scans/one/session", json={}).json()["lease_token"]
        client.headers["X-Lease-Token"] = lease
        answer = client.post("/api/session/box", json={"first": LAST, "last": FIRST})
        assert answer.status_code == 200, answer.text
        client.post("/api/session/click", json={"point": [8, 8, 8], "inside": True})
    expected = in_crop([[6, 6, 4], [18, 14, 11]], GRID.shape)  # GRID's x runs to the left, its y to the back
    assert [n_points for n_points, _ in said[:1] + said[-1:]] == [0, 1]
    assert all(boxes is not None and np.allclose(boxes[0], expected, atol=1e-4) for _, boxes in said)


def test_through_nninteractive(server: Running, said: Said) -> None:
    client = nnInteractiveRemoteInferenceSession(server.url, KEY)
    try:
        assert client.supported_interactions["bbox3d"] is True
        client.set_image(noise(0).array.transpose()[None], {"spacing": [2.5, 1.0, 1.5]})
        client.set_target_buffer(np.zeros((16, 20, 24), np.uint8))
        client.add_bbox_interaction([[4, 12], [5, 14], [5, 18]], True)
        found = client.target_buffer.copy()
    finally:
        client.close()
    assert all(boxes is not None and np.allclose(boxes[0], in_crop([FIRST, LAST], GRID.shape)) for _, boxes in said)
    image = Volume(noise(0).array, Geometry(GRID.shape, GRID.spacing_mm))
    boxed = server.predictor.predict(image, [{"class_id": 1, "box": [FIRST, LAST]}])
    assert np.array_equal(found, boxed.labels.array.transpose())
    clicked = server.predictor.predict(image, [{"class_id": 1, "points": [[11, 9, 7.5]], "labels": [1]}])
    assert not np.array_equal(clicked.labels.array, boxed.labels.array)  # the click that stands for it elsewhere
