"""The application: routes, static page, and what happens when it begins and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from moe_pipeline.records.run import package_version
from moe_pipeline.server.access import Access
from moe_pipeline.server.api import api_routes
from moe_pipeline.server.nninteractive.routes import protocol_routes
from moe_pipeline.server.service import Service, add_error_answers
from moe_pipeline.web.viewer import HOW_TO_ADD, viewer_path

STATIC = Path(__file__).parent / "static"
_PAGE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
"""Headers of the annotator: nothing is loaded from elsewhere, nothing in it can send anything elsewhere."""
_REAP_SECONDS = 5.0


def served(service: Service) -> Access:
    """The application behind the checks of who may come."""
    return Access(create_app(service), service.options, service.metrics)


def create_app(service: Service) -> FastAPI:
    """All routes; FastAPI's own documentation page is left out, as it would load scripts from elsewhere."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        reaping = asyncio.create_task(_reap(service))
        yield
        reaping.cancel()
        await asyncio.to_thread(service.worker.end)

    app = FastAPI(
        title="moe",
        version=package_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
    )
    add_error_answers(app, service)
    app.include_router(protocol_routes(service))
    app.include_router(api_routes(service))

    @app.get("/healthz", tags=["server"])
    def healthz() -> dict[str, bool]:
        """Whether the server is there."""
        return {"ok": True}

    @app.get("/metrics", tags=["server"], response_class=PlainTextResponse)
    def metrics() -> str:
        """Counts in Prometheus' format."""
        return service.metrics.text(service.gauges())

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        index = STATIC / "index.html"
        if service.scans is None or not index.is_file():
            return PlainTextResponse("moe serves sessions here; see /openapi.json\n")
        return FileResponse(index, headers=_PAGE)

    @app.get("/static/niivue.js", include_in_schema=False)
    def viewer() -> Response:
        path = viewer_path()
        if not path.is_file():
            return PlainTextResponse(f"the viewer is missing. {HOW_TO_ADD}\n", 404)
        return FileResponse(path, media_type="text/javascript")

    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _reap(service: Service) -> None:
    """End leases that nobody asks for any more."""
    while True:
        await asyncio.sleep(_REAP_SECONDS)
        service.leases.end_expired()
