"""What all routes share: the model, its worker, leases, scans; and the errors that clients are told."""

import asyncio
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import load_image
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.session.change import SessionChange
from moe_pipeline.inference.session.session import Session
from moe_pipeline.journal.case_errors import is_full
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.server.access import UploadTooLargeError, refused_upload
from moe_pipeline.server.leases import Lease, LeaseGoneError, Leases, ServerFullError
from moe_pipeline.server.metrics import Metrics
from moe_pipeline.server.options import ServeOptions
from moe_pipeline.server.scans import Scans, UnknownScanError
from moe_pipeline.server.worker import BusyError, Worker

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 10
_LISTED = 5
_Result = TypeVar("_Result")


class TakenError(PipelineError):
    """Another client works on that scan."""


_STATUS: tuple[tuple[type[PipelineError], int], ...] = (
    (LeaseGoneError, 410),
    (ServerFullError, 503),
    (UnknownScanError, 404),
    (TakenError, 409),
    (BusyError, 429),
)


class Service:
    """One model for all clients.

    Args:
        mixture: the model.
        segment: how objects are answered.
        options: of the server.
    """

    def __init__(self, mixture: Mixture, segment: SegmentOptions, options: ServeOptions) -> None:
        self.mixture, self.segment, self.options = mixture, segment, options
        self.leases = Leases(options.max_sessions, options.idle_seconds, options.liveness_seconds)
        self.worker = Worker()
        self.metrics = Metrics()
        self.scans: Scans | None = None
        if options.images is not None and options.dataset is not None:
            self.scans = Scans(options.images, options.dataset, options.labels, mixture.channel)

    @property
    def model_classes(self) -> dict[int, str]:
        """Classes of all experts; of those that share an id, that of the first expert."""
        return {number: name for expert in reversed(self.mixture.experts) for number, name in expert.classes.items()}

    def folder(self) -> Scans:
        """The scans.

        Raises:
            UnknownScanError: if the server shows none.
        """
        if self.scans is None:
            raise UnknownScanError("this server shows no folder of scans; start it with --images DIR --dataset DIR")
        return self.scans

    async def ask(self, lease: Lease, step: Callable[[Session], _Result]) -> _Result:
        """Do a step of a client's session when its turn comes.

        Raises:
            PipelineError: as the step, or if there is no image yet.
        """
        session = lease.session
        if session is None:
            raise PipelineError("there is no image yet; send or open one first")

        def stepping() -> _Result:
            if lease.session is not session:  # it ended, or was taken over, while the step waited
                raise LeaseGoneError("this session has ended; open a new one")
            return step(session)

        result = await self.worker.run(lease, stepping)
        if isinstance(result, SessionChange) and result.answer is not None:
            self.metrics.prompt(result.seconds)
        return result

    async def open(self, lease: Lease, case: str) -> None:
        """Read a scan into a client's session, and do all steps of its journal again."""
        scans = self.folder()

        def reading() -> tuple[Session, str]:
            path = scans.path(case)
            return Session(self.mixture, load_image(path), case, self.segment), scans.image_sha256(case)

        lease.busy += 1
        try:
            session, sha256 = await asyncio.to_thread(reading)
        finally:
            lease.busy -= 1

        def replaying() -> None:
            events = scans.events(case)  # now that no step of an earlier session is under way
            opened = next((event.image_sha256 for event in events if event.image_sha256), sha256)
            if opened != sha256:
                raise PipelineError(
                    f"{case}: its image is not the one that was annotated; put that one back, or move the journal away"
                )
            session.replay(events, scans.read_mask(case))

        await self.worker.run(lease, replaying)
        session.listener = scans.note(case, sha256)
        lease.session = session

    def gauges(self) -> dict[str, float]:
        """For the metrics."""
        sessions = [lease.session for lease in self.leases if lease.session is not None]
        return {
            "sessions": len(self.leases),
            "sessions_most": self.options.max_sessions,
            "session_bytes": sum(session.n_bytes for session in sessions),
            "requests_waiting": self.worker.n_waiting,
            "resident_bytes": psutil.Process().memory_info().rss,
        }

    def tell(self, error: PipelineError) -> str:
        """Message of an error, without the places of our folders."""
        text = str(error)
        for folder in (self.options.images, self.options.dataset, self.options.labels):
            if folder is not None:
                for spelt in (folder, folder.resolve()):
                    text = text.replace(f"{spelt}/", "").replace(str(spelt), spelt.name)
        return text


def add_error_answers(app: FastAPI, service: Service) -> None:
    """One sentence for every error, and never a traceback."""

    def known(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, PipelineError)
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
        headers = {"Retry-After": str(_RETRY_SECONDS)} if status in (429, 503) else None
        return JSONResponse({"detail": service.tell(error)}, status, headers)

    def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError | ValidationError)
        places = [".".join(map(str, one["loc"])).removeprefix("body.") or "body" for one in error.errors()[:_LISTED]]
        faults = [f"{place}: {one['msg']}" for place, one in zip(places, error.errors(), strict=False)]
        return JSONResponse({"detail": "; ".join(faults)}, 400)

    def http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)

    def disk(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OSError)
        if is_full(error):
            return JSONResponse({"detail": "the disk is full; nothing was changed. Make room and try again"}, 507)
        return unknown(_request, error)

    def unknown(_request: Request, error: Exception) -> JSONResponse:
        frames = traceback.extract_tb(error.__traceback__)
        places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-6:]))
        _log.error("%s at %s", type(error).__name__, places)  # not its message: it may name a patient
        return JSONResponse({"detail": "something went wrong in the server; its log says where"}, 500)

    app.add_exception_handler(PipelineError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(UploadTooLargeError, refused_upload)
    app.add_exception_handler(OSError, disk)
    app.add_exception_handler(Exception, unknown)
