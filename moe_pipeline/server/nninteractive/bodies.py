"""What clients of the protocol send, and the answer that they understand."""

import json
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from pydantic import BaseModel, FiniteFloat
from starlette.responses import Response

from moe_pipeline.errors import PipelineError, PromptError
from moe_pipeline.inference.session.change import SessionChange
from moe_pipeline.server.nninteractive import wire

Triple = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class TargetBody(BaseModel):
    """Array that the client wants to be filled."""

    shape: tuple[int, int, int]
    dtype: str


class PointBody(BaseModel):
    """A click, (k, j, i)."""

    coordinates: Triple
    include_interaction: bool = True
    run_prediction: bool = True


class BboxBody(BaseModel):
    """A box: half-open intervals along k, j, i."""

    bbox_coords: tuple[tuple[FiniteFloat, FiniteFloat], ...]
    include_interaction: bool = True
    run_prediction: bool = True

    def corners(self) -> tuple[list[float], list[float]]:
        """First and last voxel (i, j, k).

        Raises:
            PromptError: if it is no box.
        """
        if len(self.bbox_coords) != 3:
            raise PromptError(f"expected three intervals (k, j, i), found {len(self.bbox_coords)}")
        if any(stop <= start for start, stop in self.bbox_coords):
            raise PromptError(f"expected intervals [first, last + 1), found {self.bbox_coords}")
        sides = self.bbox_coords[::-1]
        return [start for start, _ in sides], [stop - 1 for _, stop in sides]


class AutozoomBody(BaseModel):
    """A setting that means nothing here: objects larger than a crop are always followed."""

    do_autozoom: bool


class PredictBody(BaseModel):
    """Ask again."""

    force_full_refine: bool = False


def meta_of(text: str) -> dict[str, Any]:
    """What the header X-Meta says.

    Raises:
        PipelineError: if it is no JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PipelineError("X-Meta: expected JSON") from error
    if not isinstance(found, dict):
        raise PipelineError(f"X-Meta: expected an object, found {type(found).__name__}")
    return found


async def json_of(request: Request) -> Any:
    """Body of a request whose fields are looked at before they are checked.

    Raises:
        PipelineError: if it is no JSON.
    """
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise PipelineError("expected JSON") from error


def prediction_of(change: SessionChange | None, mask: NDArray[np.uint8] | None, dtype: str) -> Response:
    """A part of the target buffer as it is now.

    Args:
        change: what the step did; None if nothing was asked.
        mask: the changed box of the object, (k, j, i); None if nothing changed.
        dtype: of the target buffer.
    """
    meta: dict[str, Any] = {"ran_prediction": change is not None, "bbox": None, "dtype": None, "shape": None}
    body = b""
    if change is not None and change.box is not None and mask is not None:
        meta |= {"bbox": [list(side) for side in change.box[::-1]], "dtype": dtype, "shape": list(mask.shape)}
        body = wire.pack(mask.astype(dtype))
    headers = {"X-Meta": json.dumps(meta, separators=(",", ":"))}
    return Response(body, media_type="application/octet-stream", headers=headers)
