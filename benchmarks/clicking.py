"""What the benchmarks of the server share: one that runs, and a client that clicks as the annotator's page does."""

import base64
import http.client
import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray

from moe_pipeline.server.serve import server_config
from moe_pipeline.server.service import Service


class Client:
    """One connection with a session, and the label map that the answers add up to.

    Args:
        port: of the server.
        case: scan to open; whoever works on it has to leave.
    """

    def __init__(self, port: int, case: str) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self._headers = {"Content-Type": "application/json"}
        opened = self.ask("POST", f"/api/scans/{case}/session", take=True)
        self._headers["X-Lease-Token"] = opened["lease_token"]
        self.labels: NDArray[np.uint16] = np.zeros(opened["session"]["shape"], np.uint16)

    def post(self, path: str, **body: Any) -> Any:
        """A step's answer."""
        return self.ask("POST", f"/api/session{path}", **body)

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """An answer's JSON."""
        self._http.request(method, path, json.dumps(body), self._headers)
        answer = self._http.getresponse()
        content = answer.read()
        self._http.close()  # the server would not keep it while something else takes its time
        assert answer.status == 200, content
        return json.loads(content)

    def click(self, place: list[int], inside: bool = True) -> Any:
        """A click; its patch is put into `labels`."""
        change = self.post("/click", point=place, inside=inside)
        if (patch := change["patch"]) is not None:
            box = tuple(slice(*side) for side in patch["box"])
            raw = zlib.decompress(base64.b64decode(patch["data"]))
            self.labels[box] = np.frombuffer(raw, patch["dtype"]).reshape(self.labels[box].shape, order="F")
        return change

    def close(self) -> None:
        """End the session."""
        self.ask("DELETE", "/api/session")


@contextmanager
def running(service: Service) -> Iterator[int]:
    """The port of a server."""
    config = server_config(service)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
