"""Who is let in, with how much, and what is written down of it: before any route is reached."""

import hmac
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moe_pipeline.server.metrics import Metrics
from moe_pipeline.server.options import ServeOptions

_log = logging.getLogger(__name__)

OPEN = ("/healthz", "/")
"""Routes without a key: whether the server is there, and the page, which holds nobody's data."""
STATIC = "/static/"
_WITH_ARRAYS = ("/set_image", "/add_initial_seg_interaction")
_SMALL_BYTES = 1 << 20
"""Most that any other route takes."""
_ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}


class UploadTooLargeError(Exception):
    """A body has more bytes than are taken."""


class Access:
    """Checks host, origin, key and length of every request, counts it and logs it by its route.

    Args:
        app: what is behind.
        options: who may come.
        metrics: counts.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions, metrics: Metrics) -> None:
        self._app, self._options, self._metrics = app, options, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_ALWAYS.items()]}
            await send(message)

        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        try:
            if refusal is not None:
                await JSONResponse({"detail": refusal[1]}, refusal[0])(scope, receive, noting)
            else:
                await self._app(scope, self._bounded(receive, self._most(scope["path"])), noting)
        except Exception:  # noqa: BLE001 - it was answered and logged before it came here
            _log.debug("an error that was answered")
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.request(route, status)
            _log.info("%s %s %d %.0f ms", scope["method"], route, status, 1e3 * (time.monotonic() - began))

    def _refusal(self, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        """Status and reason; None if nothing speaks against it."""
        host = headers.get(b"host", "")
        if _name_of(f"//{host}") not in self._options.host_names:
            return 400, "this server is not called by that name; start it with --allow-host NAME"
        origin = headers.get(b"origin")
        if origin is not None and (urlsplit(origin).netloc.lower() != host.lower() or origin == "null"):
            return 403, "requests from other pages are refused"
        if not path.startswith(STATIC) and path not in OPEN and not self._has_key(headers):
            return 401, "wrong or missing API key; send it as Authorization: Bearer KEY"
        length, most = headers.get(b"content-length", "0"), self._most(path)
        if not length.isdigit() or int(length) > most:
            return 413, f"more than {most >> 20} MB at once are not taken there"
        return None

    def _most(self, path: str) -> int:
        return self._options.max_upload_bytes if path in _WITH_ARRAYS else _SMALL_BYTES

    def _has_key(self, headers: dict[bytes, str]) -> bool:
        key = self._options.api_key
        if key is None:
            return True
        kind, _, shown = headers.get(b"authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), key.strip().encode())

    @staticmethod
    def _bounded(receive: Receive, most: int) -> Receive:
        """Stop a body that says no length, or another one, where it becomes too long."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise UploadTooLargeError
            return message

        return bounded


def _name_of(address: str) -> str | None:
    try:
        name = urlsplit(address).hostname
    except ValueError:
        return None
    return name.lower() if name else None


def refused_upload(_request: Any, _error: Exception) -> JSONResponse:
    """Answer to a body that is too long."""
    return JSONResponse({"detail": "more bytes at once than are taken"}, 413)
