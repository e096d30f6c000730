"""A server with a tiny model on a folder of phantoms, in a thread of the tests' own process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.api import Predictor
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.server.options import ServeOptions
from moe_pipeline.server.serve import server_config
from moe_pipeline.server.service import Service
from tests.phantoms.foundations import foundation_alone

KEY = "a-key-of-the-tests"
VIEW = View(spacing_mm=2.0, size_voxels=16, normalisation="zscore_clipped")
SEGMENT = SegmentOptions(max_crops=3)
GRID = Geometry((24, 20, 16), (1.5, 1.0, 2.5), (10.0, 5.0, 3.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs.

    Attributes:
        url: where.
        service: behind it.
        predictor: the same model.
        images: folder of scans one and two.
        dataset: folder of accepted ones.
    """

    url: str
    service: Service
    predictor: Predictor
    images: Path
    dataset: Path

    def client(self, key: str | None = KEY) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def end_all(self) -> None:
        for lease in self.service.leases:
            self.service.leases.release(lease.token)


def noise(seed: int) -> Volume:
    return Volume(np.random.default_rng(seed).normal(size=GRID.shape).astype(np.float32), GRID)


@contextmanager
def running(predictor: Predictor, images: Path, dataset: Path, **options: object) -> Iterator[Running]:
    chosen = ServeOptions(images=images, dataset=dataset, port=0, api_key=KEY, **options)  # type: ignore[arg-type]
    service = Service(predictor.mixture, predictor.options, chosen)
    config = server_config(service)
    config.host, config.port = "127.0.0.1", 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(f"http://127.0.0.1:{port}", service, predictor, images, dataset)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"


@pytest.fixture(scope="session")
def predictor(tiny_foundation: SamFoundation) -> Predictor:
    return Predictor(foundation_alone(tiny_foundation, VIEW), SEGMENT)


@pytest.fixture(scope="module")
def server(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("served")
    for seed, name in enumerate(("one", "two")):
        write_native(noise(seed), root / "scans" / f"{name}.nii.gz")
    write_native(noise(2), root / "elsewhere" / "secret.nii.gz")
    (root / "scans" / "linked.nii.gz").symlink_to(root / "elsewhere" / "secret.nii.gz")
    with running(predictor, root / "scans", root / "Dataset900_Noise", max_sessions=3, max_upload_mb=8) as found:
        yield found


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies must not stand between a test and its server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def no_leases_left(server: Running) -> Iterator[None]:
    yield
    server.end_all()
