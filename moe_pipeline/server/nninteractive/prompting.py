"""Prompts of the protocol, and the masks that answer them."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from moe_pipeline.errors import PipelineError, PromptError
from moe_pipeline.inference.session.change import SessionChange
from moe_pipeline.inference.session.session import Session
from moe_pipeline.server.leases import Lease
from moe_pipeline.server.nninteractive import wire
from moe_pipeline.server.nninteractive.bodies import BboxBody, PointBody, PredictBody, json_of, prediction_of
from moe_pipeline.server.nninteractive.images import begin
from moe_pipeline.server.nninteractive.leasing import lease_of
from moe_pipeline.server.service import Service

OLD = (
    "this is the protocol of nnInteractive 0.3, and this server speaks 2.6: update the extension (3D Slicer: "
    "SlicerNNInteractive 1.0 or later)"
)
_FIRST = 1  # steps of a session before anything is asked: the object itself

Step = Callable[[Session], SessionChange | None]
"""None where there was nothing to do."""


def prompt_routes(service: Service) -> APIRouter:
    """Points, boxes, initial segmentations, undo, predict."""
    router = APIRouter()
    Leased = Annotated[Lease, Depends(lease_of(service, step=True))]
    prediction = _predicting(service)

    @router.post("/add_point_interaction")
    async def add_point(request: Request, lease: Leased) -> Response:
        """A click."""
        raw = await json_of(request)
        if "voxel_coord" in raw:
            raise PipelineError(OLD)
        body = PointBody.model_validate(raw) if isinstance(raw, dict) else None
        if body is None:
            raise PromptError("expected coordinates (k, j, i)")
        i, j, k = reversed(body.coordinates)

        def clicking(session: Session) -> SessionChange:
            return session.add_click((i, j, k), body.include_interaction, run=body.run_prediction)

        return await prediction(lease, clicking, body.run_prediction)

    @router.post("/add_bbox_interaction")
    async def add_bbox(body: BboxBody, lease: Leased) -> Response:
        """A box around the object; one beside it is a click outside, in its middle."""
        first, last = body.corners()

        def boxing(session: Session) -> SessionChange:
            if not body.include_interaction:
                middle = [(low + high) / 2 for low, high in zip(first, last, strict=True)]
                return session.add_click(middle, inside=False, run=body.run_prediction)
            return session.add_box(first, last, run=body.run_prediction)

        return await prediction(lease, boxing, body.run_prediction)

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
            mask = wire.unpack(content, service.options.max_upload_bytes)
            begin(session)
            return session.set_mask(mask.transpose())

        return await prediction(lease, giving, False)

    @router.post("/undo")
    async def undo(lease: Leased) -> Response:
        """Take a step back."""
        return await prediction(lease, lambda session: session.undo() if session.can_undo > _FIRST else None, True)

    @router.post("/predict")
    async def predict(lease: Leased, body: PredictBody | None = None) -> Response:
        """Ask about prompts that nobody was asked about yet."""
        del body

        def asking(session: Session) -> SessionChange | None:
            waits = any(one.can_be_asked and not one.asked for one in session.objects.values())
            return session.predict() if waits else None

        return await prediction(lease, asking, True)

    return router


def _predicting(service: Service) -> Callable[[Lease, Step, bool], Awaitable[Response]]:
    """What does a step and answers with what changed, or, where that is not to be told, with nothing."""

    async def prediction(lease: Lease, step: Step, told: bool) -> Response:
        def stepping(session: Session) -> Response:
            change = step(session)
            if change is None or not told:
                return prediction_of(None, None, lease.target_dtype)
            if change.answer is not None:
                service.metrics.prompt(change.seconds)
            mask = None if change.box is None else session.mask_in(change.box).transpose()  # (k, j, i)
            return prediction_of(change, mask, lease.target_dtype)

        return await service.ask(lease, stepping)

    return prediction
