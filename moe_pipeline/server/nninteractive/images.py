"""Images and target buffers that clients of the protocol send."""

import asyncio
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Header, Request
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError, PipelineError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.padding import without_padding
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.inference.session.session import Session
from moe_pipeline.server.leases import Lease
from moe_pipeline.server.nninteractive import wire
from moe_pipeline.server.nninteractive.bodies import AutozoomBody, TargetBody, meta_of
from moe_pipeline.server.nninteractive.leasing import lease_of
from moe_pipeline.server.service import Service

_CASE = "image"  # a client's image has no name


def image_routes(service: Service) -> APIRouter:
    """Give an image, say how masks shall look, begin anew."""
    router = APIRouter()
    Leased = Annotated[Lease, Depends(lease_of(service, step=True))]

    @router.post("/set_image")
    async def set_image(request: Request, lease: Leased, x_meta: Annotated[str, Header()] = "{}") -> dict[str, Any]:
        """An image (channel, k, j, i) with its spacing."""
        spacing = _spacing(meta_of(x_meta))
        content = await request.body()
        lease.busy += 1
        try:
            session, shape = await asyncio.to_thread(lambda: _session(service, content, spacing))
        finally:
            lease.busy -= 1
        await service.worker.run(lease, lambda: begin(session))
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
            await service.ask(lease, begin)
        return {}

    return router


def begin(session: Session) -> None:
    """Forget all steps; the protocol knows one object only."""
    session.restart()
    session.new_object(1)


def _session(service: Service, content: bytes, spacing: tuple[float, float, float]) -> tuple[Session, tuple[int, ...]]:
    array = wire.unpack(content, service.options.max_upload_bytes)
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
    """Along i, j, k."""
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
