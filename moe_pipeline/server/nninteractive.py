"""nnInteractive's remote protocol, 2.6: what 3D Slicer's and napari's extensions speak. Its arrays are (k, j, i)."""

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Header, Request
from numpy.typing import NDArray
from pydantic import BaseModel, FiniteFloat
from starlette.responses import Response

from moe_pipeline.errors import ImageError, PipelineError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.padding import without_padding
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.inference.session.session import Session, SessionChange
from moe_pipeline.server import wire
from moe_pipeline.server.leases import Lease
from moe_pipeline.server.service import Service

VERSION = "2.6.0"
_CASE = "image"  # a client's image has no name
_OLD = (
    "this is the protocol of nnInteractive 0.3, and this server speaks 2.6: update the extension (3D Slicer: "
    "SlicerNNInteractive 1.0 or later)"
)
_FIRST = 1  # steps of a session before anything is asked: the object itself

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


class AutozoomBody(BaseModel):
    """A setting that means nothing here: objects larger than a crop are always followed."""

    do_autozoom: bool


class PredictBody(BaseModel):
    """Ask again."""

    force_full_refine: bool = False


def protocol_routes(service: Service) -> APIRouter:
    """Routes of the protocol."""
    router = APIRouter(tags=["nnInteractive"])
    most = service.options.max_upload_bytes

    def lease_of(x_lease_token: Annotated[str | None, Header()] = None) -> Lease:
        return service.leases.get(x_lease_token, step=True)

    def sign_of(x_lease_token: Annotated[str | None, Header()] = None) -> Lease:
        return service.leases.get(x_lease_token, step=False)

    Leased = Annotated[Lease, Depends(lease_of)]
    Alive = Annotated[Lease, Depends(sign_of)]

    async def prediction(
        lease: Lease, step: Callable[[Session], SessionChange | None], *, told: bool = True
    ) -> Response:
        """Do a step and answer with what changed; None where there was nothing to do."""

        def stepping(session: Session) -> Response:
            change = step(session)
            if change is None or not told:
                return _prediction(None, None, lease.target_dtype)
            if change.answer is not None:
                service.metrics.prompt(change.seconds)
            mask = None if change.box is None else session.mask_in(change.box).transpose()  # (k, j, i)
            return _prediction(change, mask, lease.target_dtype)

        return await service.ask(lease, stepping)

    @router.post("/claim")
    def claim() -> dict[str, Any]:
        """A lease."""
        lease = service.leases.claim()
        return {
            "lease_token": lease.token,
            "idle_timeout_seconds": service.options.idle_seconds,
            "liveness_timeout_seconds": service.options.liveness_seconds,
            "max_sessions": service.options.max_sessions,
        }

    @router.post("/release")
    def release(x_lease_token: Annotated[str | None, Header()] = None) -> dict[str, bool]:
        """End a lease."""
        service.leases.release(x_lease_token)
        return {"released": True}

    @router.post("/heartbeat")
    def heartbeat(lease: Alive) -> dict[str, float]:
        """A sign of life."""
        return {"remaining_seconds": service.leases.remaining_seconds(lease)}

    @router.get("/lease_status")
    def lease_status(lease: Alive) -> dict[str, float]:
        """How long a lease lasts."""
        idle = service.options.idle_seconds
        return {"remaining_seconds": service.leases.remaining_seconds(lease), "idle_timeout_seconds": idle}

    @router.get("/capabilities")
    def capabilities(_lease: Alive) -> dict[str, Any]:
        """Points and boxes."""
        view = service.mixture.view
        return {
            "supported_interactions": {
                "points": True,
                "bbox2d": True,
                "bbox3d": True,
                "lasso": False,
                "scribble": False,
            },
            "channel_mapping": {"prev_seg": 0, "points": [1, 2], "bbox2d": [3, 4], "bbox3d": [3, 4]},
            "num_interaction_channels": 5,
            "supports_initial_label": True,
            "supports_zero_shot_label_refinement": False,
            "preferred_scribble_thickness": [1, 1, 1],
            "interaction_decay": 1.0,
            "patch_size": list(view.size_voxels),
            "do_autozoom": True,
            "inference_session_version": VERSION,
            "license": "that of the model's foundation; see `moe weights list`",
            "supports_undo": True,
        }

    @router.post("/set_image")
    async def set_image(request: Request, lease: Leased, x_meta: Annotated[str, Header()] = "{}") -> dict[str, Any]:
        """An image (channel, k, j, i) with its spacing."""
        spacing = _spacing(_meta(x_meta))
        content = await request.body()
        lease.busy += 1
        try:
            session, shape = await asyncio.to_thread(lambda: _session(service, content, most, spacing))
        finally:
            lease.busy -= 1
        await service.worker.run(lease, lambda: _begin(session))
        lease.session = session
        return {"original_image_shape": shape}

    @router.post("/set_target_buffer")
    async def set_target_buffer(body: TargetBody, lease: Leased) -> dict[str, Any]:
        """What masks shall look like."""
        if body.dtype not in wire.TYPES or body.dtype.startswith("float"):
            raise PipelineError(f"target buffer: expected bool or whole numbers, found {body.dtype[:20]!a}")
        shape = await service.ask(lease, lambda session: session.native.shape[::-1])
        if body.shape != shape:
            raise PipelineError(f"target buffer: its shape {body.shape} is not the image's {shape}")
        lease.target_dtype = body.dtype
        return {}

    @router.post("/set_do_autozoom")
    def set_do_autozoom(_body: AutozoomBody, _lease: Leased) -> dict[str, Any]:
        """Taken note of; objects larger than a crop are always followed."""
        return {}

    @router.post("/reset_interactions")
    async def reset_interactions(lease: Leased) -> dict[str, Any]:
        """Begin anew with the same image."""
        if lease.session is not None:
            await service.ask(lease, _begin)
        return {}

    @router.post("/add_point_interaction")
    async def add_point(request: Request, lease: Leased) -> Response:
        """A click."""
        raw = await _json(request)
        if "voxel_coord" in raw:
            raise PipelineError(_OLD)
        body = PointBody.model_validate(raw) if isinstance(raw, dict) else None
        if body is None:
            raise PromptError("expected coordinates (k, j, i)")
        i, j, k = reversed(body.coordinates)

        def clicking(session: Session) -> SessionChange:
            return session.add_click((i, j, k), body.include_interaction, run=body.run_prediction)

        return await prediction(lease, clicking, told=body.run_prediction)

    @router.post("/add_bbox_interaction")
    async def add_bbox(body: BboxBody, lease: Leased) -> Response:
        """A box around the object; one beside it is a click outside, in its middle."""
        first, last = _corners(body)

        def boxing(session: Session) -> SessionChange:
            if not body.include_interaction:
                middle = [(low + high) / 2 for low, high in zip(first, last, strict=True)]
                return session.add_click(middle, inside=False, run=body.run_prediction)
            return session.add_box(first, last, run=body.run_prediction)

        return await prediction(lease, boxing, told=body.run_prediction)

    @router.post("/add_scribble_interaction")
    @router.post("/add_lasso_interaction")
    def not_there(_lease: Leased) -> Response:
        """Declared as not there."""
        raise PipelineError("this model takes points and boxes, no scribbles and lassos")

    @router.post("/add_initial_seg_interaction")
    async def add_initial_seg(request: Request, lease: Leased) -> Response:
        """A mask to begin with, instead of all prompts."""
        content = await request.body()

        def giving(session: Session) -> SessionChange:
            mask = wire.unpack(content, most)
            _begin(session)
            return session.set_mask(mask.transpose())

        return await prediction(lease, giving, told=False)

    @router.post("/undo")
    async def undo(lease: Leased) -> Response:
        """Take a step back."""
        return await prediction(lease, lambda session: session.undo() if session.can_undo > _FIRST else None)

    @router.post("/predict")
    async def predict(lease: Leased, body: PredictBody | None = None) -> Response:
        """Ask about prompts that nobody was asked about yet."""
        del body

        def asking(session: Session) -> SessionChange | None:
            waits = any(one.can_be_asked and not one.asked for one in session.objects.values())
            return session.predict() if waits else None

        return await prediction(lease, asking)

    @router.post("/upload_image")
    @router.post("/upload_segment")
    def old_protocol() -> Response:
        """Say which protocol this is."""
        raise PipelineError(_OLD)

    return router


def _begin(session: Session) -> None:
    session.restart()
    session.new_object(1)


def _session(
    service: Service, content: bytes, most: int, spacing: tuple[float, float, float]
) -> tuple[Session, tuple[int, ...]]:
    array = wire.unpack(content, most)
    if array.ndim != 4:
        raise ImageError(f"expected an image (channel, k, j, i), found {array.shape}")
    channel = service.mixture.channel
    if len(array) <= channel:
        raise ImageError(f"the model looks at channel {channel}, the image has {len(array)}")
    voxels: NDArray[np.float32] = array[channel].transpose().astype(np.float32)  # (i, j, k)
    if not np.isfinite([voxels.min(), voxels.max()]).all():
        raise ImageError("the image holds NaN or infinity; replace them by numbers")
    i, j, k = voxels.shape
    stored = without_padding(Volume(voxels, Geometry((i, j, k), spacing)))
    return Session(service.mixture, LoadedImage.of(stored), _CASE, service.segment), array.shape


def _spacing(meta: dict[str, Any]) -> tuple[float, float, float]:
    properties = meta.get("image_properties") or {}
    given = properties.get("spacing", (1.0, 1.0, 1.0)) if isinstance(properties, dict) else None
    expected = "expected image_properties with a spacing of three positive numbers (k, j, i)"
    if not isinstance(given, list | tuple) or len(given) != 3:
        raise ImageError(f"{expected}, found {given!r}")
    try:
        k, j, i = (float(mm) for mm in given)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{expected}, found {given!r}") from error
    return i, j, k


def _meta(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PipelineError("X-Meta: expected JSON") from error
    if not isinstance(found, dict):
        raise PipelineError(f"X-Meta: expected an object, found {type(found).__name__}")
    return found


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise PipelineError("expected JSON") from error


def _corners(body: BboxBody) -> tuple[list[float], list[float]]:
    """First and last voxel (i, j, k) of half-open intervals along k, j, i."""
    if len(body.bbox_coords) != 3:
        raise PromptError(f"expected three intervals (k, j, i), found {len(body.bbox_coords)}")
    if any(stop <= start for start, stop in body.bbox_coords):
        raise PromptError(f"expected intervals [first, last + 1), found {body.bbox_coords}")
    sides = body.bbox_coords[::-1]
    return [start for start, _ in sides], [stop - 1 for _, stop in sides]


def _prediction(change: SessionChange | None, mask: NDArray[np.uint8] | None, dtype: str) -> Response:
    meta: dict[str, Any] = {"ran_prediction": change is not None, "bbox": None, "dtype": None, "shape": None}
    body = b""
    if change is not None and change.box is not None and mask is not None:
        meta |= {"bbox": [list(side) for side in change.box[::-1]], "dtype": dtype, "shape": list(mask.shape)}
        body = wire.pack(mask.astype(dtype))
    headers = {"X-Meta": json.dumps(meta, separators=(",", ":"))}
    return Response(body, media_type="application/octet-stream", headers=headers)
