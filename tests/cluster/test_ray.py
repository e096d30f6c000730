"""A Ray of several nodes on this machine: a node is lost, a worker is killed, the command is killed and repeated."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.works import attempts, doubled

if find_spec("ray") is None:
    pytest.skip("ray is not installed: pip install 'moe-pipeline[ray]'", allow_module_level=True)

from moe_pipeline.cluster import on_ray
from moe_pipeline.cluster.on_ray import RayEngine
from moe_pipeline.cluster.records import Resources
from moe_pipeline.cluster.units import Board
from moe_pipeline.files import remove_leftovers

NUMBERS = range(24)  # the odd ones are bad
COMMAND = """
import sys
from pathlib import Path
from moe_pipeline.cluster.on_ray import RayEngine
from tests.cluster.works import doubled
doubled(RayEngine(sys.argv[1]), Path(sys.argv[2]), range(24), seconds=0.1)
"""
PATIENCE_SECONDS = 300.0


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without processor cores."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def wait_until(reached: Callable[[], Any]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < limit, "nothing happens"
        time.sleep(0.01)


def workers() -> list[psutil.Process]:
    """Those that are at a unit."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found += [process] if "ray::carry_out" in process.cmdline() else []
        except psutil.Error:
            continue
    return found


def a_worker_is_killed() -> bool:
    """Whether one was there, and still is when it is killed."""
    for process in workers():
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
        return True
    return False


def test_whatever_dies_nothing_is_lost_and_nothing_is_tried_twice(cluster: Any, tmp_path: Path) -> None:
    def n_done() -> int:
        return len(list(tmp_path.glob("*.txt")))

    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    command = subprocess.Popen([sys.executable, "-c", COMMAND, cluster.address, str(tmp_path)])
    wait_until(lambda: n_done() >= 3)
    cluster.remove_node(nodes[0], allow_graceful=False)
    wait_until(lambda: n_done() >= 5)
    wait_until(a_worker_is_killed)
    wait_until(lambda: n_done() >= 8)
    command.send_signal(signal.SIGKILL)
    command.wait()
    before = attempts(tmp_path)
    found = doubled(RayEngine(cluster.address), tmp_path, NUMBERS)

    remove_leftovers(tmp_path)  # as predict does: whoever was killed may have left half a file
    good = [number for number in NUMBERS if number % 2 == 0]
    assert {path.name: path.read_text() for path in tmp_path.glob("*.txt")} == {f"{n}.txt": f"{2 * n}" for n in good}
    assert {n: record.message for n, record in found.items()} == {n: f"{n} is odd" if n % 2 else "" for n in NUMBERS}
    assert {n: record.result for n, record in found.items() if n in good} == {n: 2 * n for n in good}
    logs = [path.read_text() for path in (tmp_path / "units" / "logs").iterdir()]
    assert sorted(log.count("is odd") for log in logs) == [1] * (len(NUMBERS) - len(good))
    assert len(before) < len(NUMBERS)  # killed in the middle
    assert sum(attempts(tmp_path).values()) <= len(NUMBERS) + 3  # those at which node, worker and command were lost
    Board(tmp_path / "units").close()  # as a command does at its end
    assert not list(tmp_path.rglob(".*"))


def test_a_large_cluster_is_told_of_enough_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    size = {"CPU": 0.0}
    monkeypatch.setattr("ray.cluster_resources", lambda: size)
    monkeypatch.setattr(on_ray, "_ROOM_SECONDS", 0.0)
    room = on_ray._Room(Resources(cpus=4))
    assert room.tasks() == 512  # none yet: enough to see that it should grow
    size["CPU"] = 8000.0
    assert room.tasks() == 4000
