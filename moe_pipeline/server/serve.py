"""Run the server until it is told to stop."""

import logging
import socket
from collections.abc import Callable

import uvicorn

from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.options import ModelOptions
from moe_pipeline.server.app import served
from moe_pipeline.server.options import ServeOptions
from moe_pipeline.server.service import Service

_SHUTDOWN_SECONDS = 10


def serve(model: ModelOptions, options: ServeOptions, ready: Callable[[str], None]) -> None:
    """Load a model and answer until SIGINT or SIGTERM; requests that are worked on are finished first.

    Args:
        model: who answers.
        options: where to listen, and what to show.
        ready: is told the address.

    Raises:
        PipelineError: if the model cannot be loaded, or the port is taken.
    """
    listening = _socket(options)
    try:
        service = Service(model.load(), model.segment(), options)
        server = uvicorn.Server(server_config(service))
        listening.listen()  # who comes now waits until the server has begun
        host, port = listening.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listening])
    finally:
        listening.close()


def server_config(service: Service) -> uvicorn.Config:
    """How uvicorn runs: one process, its own access log off, since it names scans."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Config(
        served(service),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        limit_concurrency=256,
        h11_max_incomplete_event_size=64 << 10,
        ws="none",
    )


def _socket(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError as error:
        listening.close()
        where = f"--host {options.host} --port {options.port}"
        raise PipelineError(f"{where}: cannot listen there ({error.strerror}); choose another --port") from error
    return listening
