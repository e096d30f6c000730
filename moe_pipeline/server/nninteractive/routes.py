"""All routes of the protocol."""

from fastapi import APIRouter
from starlette.responses import Response

from moe_pipeline.errors import PipelineError
from moe_pipeline.server.nninteractive.images import image_routes
from moe_pipeline.server.nninteractive.leasing import lease_routes
from moe_pipeline.server.nninteractive.prompting import OLD, prompt_routes
from moe_pipeline.server.service import Service


def protocol_routes(service: Service) -> APIRouter:
    """Routes of the protocol, and the two that its old version began with."""
    router = APIRouter(tags=["nnInteractive"])
    for routes in (lease_routes, image_routes, prompt_routes):
        router.include_router(routes(service))

    @router.post("/upload_image")
    @router.post("/upload_segment")
    def old_protocol() -> Response:
        """Say which protocol this is."""
        raise PipelineError(OLD)

    return router
