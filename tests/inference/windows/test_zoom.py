"""SegVol's way of prediction against what the original code did with the same weights; its arrays are (z, y, x)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_pipeline.inference.windows.zoom import ZoomPrompt, region_of, window_starts, zoom_out_zoom_in
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from tests.phantoms.segvol import build_segvol, segvol_reference

TOLERANCE = 2e-4
CROP = (12, 32, 80)


@pytest.fixture(scope="module")
def segvol() -> SegVolFoundation:
    return build_segvol().eval().requires_grad_(False)


def turned(array: Tensor) -> Tensor:
    return array.transpose(0, 2).contiguous()


@pytest.mark.parametrize("case", ["pipe/box_text", "pipe/text", "pipe_one_window/box_text"])
def test_as_published(segvol: SegVolFoundation, case: str) -> None:
    reference, scan = segvol_reference(), case.split("/")[0]
    image = reference[f"{scan}/image_q"].float() / 255
    box = reference[f"{scan}/zoom_out_box"].reshape(2, 3).flip(1).t().numpy()  # (3, 2), x first
    prompt = ZoomPrompt(box if "box" in case else None, None, reference[f"{scan}/text_embedding"])
    answer = zoom_out_zoom_in(segvol, turned(image), prompt)
    middle = len(image) // 2
    for found, name in ((answer.zoomed_out, "zoom_out_logits_plane"), (answer.logits, "logits_plane")):
        assert float((turned(found)[middle] - reference[f"{case}/{name}"]).abs().max()) <= TOLERANCE
    assert answer.region is not None
    assert answer.region[::-1].T.ravel().tolist() == reference[f"{case}/roi"].tolist()
    mask = np.unpackbits(reference[f"{case}/mask_packed"].numpy())[: image.numel()].reshape(image.shape)
    assert ((turned(answer.logits) > 0).numpy() == mask.astype(bool)).mean() > 0.9999
    if "box" in case:
        boxes = answer.window_boxes[:, ::-1].transpose(0, 2, 1).reshape(-1, 6)
        assert boxes.tolist() == reference[f"{case}/window_boxes"].tolist()


def test_region_as_published() -> None:
    reference = segvol_reference()
    names = ("roi/volume_shape", "roi/positive_half_open", "roi/result")
    for shape, box, expected in zip(*(reference[name].tolist() for name in names), strict=True):
        found = np.zeros(shape, dtype=bool)
        found[tuple(slice(*side) for side in zip(box[:3], box[3:], strict=True))] = True
        region = region_of(found, CROP)
        assert region is not None
        assert region.T.ravel().tolist() == expected
    assert region_of(np.zeros((3, 4, 5), dtype=bool), CROP) is None


def test_windows_overlap_by_half_and_the_last_is_pulled_back() -> None:
    assert window_starts((12, 32, 80), CROP) == [(0, 0, 0)]
    along_first = sorted({start[0] for start in window_starts((27, 32, 80), CROP)})
    assert along_first == [0, 6, 12, 15]


class Recorder(SegVolFoundation):
    """Answers that everything is inside, and keeps the boxes and points it was asked with."""

    asked: list[tuple[Tensor | None, Tensor | None]]

    def embed_prompts(self, points=None, boxes=None, mask=None, text=None):  # type: ignore[no-untyped-def]
        self.asked.append((None if points is None else points[0], boxes))
        return super().embed_prompts(points, boxes, mask, text)


def test_points_of_windows_lie_in_the_point_that_the_first_look_was_given() -> None:
    torch.manual_seed(0)
    known = build_segvol()
    recorder = Recorder(known.config).eval()
    recorder.asked = []
    recorder.load_state_dict(known.state_dict())
    image = turned(segvol_reference()["pipe/image_q"].float() / 255)  # (120, 50, 20)
    answer = zoom_out_zoom_in(recorder, image, ZoomPrompt(points=np.array([[5, 16, 6]])))
    assert answer.region is not None
    first, *windows = recorder.asked
    assert first[0] is not None
    assert first[0].tolist() == [[[5, 16, 6]]]
    starts = window_starts(tuple(answer.region[:, 1] - answer.region[:, 0] + 1), recorder.geometry.crop_size)
    assert len(windows) == len(starts) == len(answer.window_boxes)
    shown = 0
    for (points, boxes), start in zip(windows, starts, strict=True):
        assert boxes is not None
        if points is not None:
            shown += 1
            there = points[0] + torch.tensor(start) + torch.from_numpy(answer.region[:, 0].copy())
            low, high = there.amin(0), there.amax(0)  # a crop of 80 x 32 x 12 of 120 x 50 x 20 voxels
            assert (low >= torch.tensor([8, 25, 10])).all()
            assert (high <= torch.tensor([8, 26, 11])).all()
            assert points.shape[1] <= 5
    assert 0 < shown < len(starts)
