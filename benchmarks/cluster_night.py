"""A night on a Ray cluster: a node is lost, a worker is killed, the command is killed and repeated.

    python benchmarks/cluster_night.py

A head without cores and two nodes on this machine (`ray.cluster_utils.Cluster`), 30 images of which 8 are bad. What
comes out is compared with what one process makes of the same images: label maps byte for byte, and a row for each bad
case, which is tried once only. Exit code 1 where they differ. Run from the repository; needs the extra `ray`.
"""

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).parent.parent))  # for the phantoms of the tests

import psutil
from ray.cluster_utils import Cluster

from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import build_tiny, save_tiny
from tests.phantoms.night import N_GOOD, REASONS, write_night

_CORES = 2  # of each node
_PATIENCE_SECONDS = 600.0


def main() -> None:
    """Print what happened and whether it did any harm."""
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder))
        save_tiny(build_tiny(16), place.weights, View(spacing_mm=1.0, size_voxels=16))
        write_night(place.root)
        began = time.monotonic()
        subprocess.run(command(place, "alone"), check=False, capture_output=True)
        print(f"one process: {time.monotonic() - began:.1f} s")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            night(place, cluster)
        finally:
            cluster.shutdown()
        sys.exit(0 if compared(place) else 1)


def night(place: Workspace, cluster: Cluster) -> None:
    """Predict on the cluster while things go wrong."""
    nodes = [cluster.add_node(num_cpus=_CORES) for _ in range(2)]
    words = [*command(place, "night"), "--engine", "ray", "--ray-address", cluster.address]
    out, began = place.root / "night", time.monotonic()

    def n_done() -> int:
        return len(list(out.glob("*.nii.gz")))

    def told(what: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {n_done():2d} label maps: {what}", flush=True)

    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told("the command begins")
    wait_for(lambda: n_done() >= 3)
    cluster.remove_node(nodes[0], allow_graceful=False)
    told("a node was lost")
    wait_for(lambda: n_done() >= 7)
    told(f"worker {kill_a_worker()} was killed")
    wait_for(lambda: n_done() >= 12)
    first.kill()
    first.wait()
    told("the command was killed")
    again = subprocess.run(words, check=False, capture_output=True, text=True)
    told(f"the command, repeated, ended with {again.returncode}")
    print(again.stdout or again.stderr)


def command(place: Workspace, out: str) -> list[str]:
    """Of a prediction."""
    words = [sys.executable, "-m", "moe_pipeline", "predict", "-i", str(place.root / "images")]
    words += ["-o", str(place.root / out), "--prompts", str(place.root / "clicks.json")]
    return [*words, "--foundation", "tiny", "--workspace", str(place.root)]


def kill_a_worker() -> int:
    """One that is at work."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [one.pid for one in psutil.process_iter() if "ray::carry_out" in " ".join(cmdline(one))]
        return bool(found)

    wait_for(is_there)
    os.kill(found[0], signal.SIGKILL)
    return found[0]


def cmdline(process: psutil.Process) -> list[str]:
    """Of a process that may be gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_for(reached: Callable[[], bool]) -> None:
    """Look often."""
    limit = time.monotonic() + _PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > limit:
            sys.exit("this takes too long")
        time.sleep(0.01)


def compared(place: Workspace) -> bool:
    """Whether all is as of one process."""
    alone, there = place.root / "alone", place.root / "night"
    maps = [{path.name: path.read_bytes() for path in folder.glob("*.nii.gz")} for folder in (alone, there)]
    rows = list(csv.DictReader((there / "cases.csv").open()))
    failed = {row["case"]: row["message"] for row in rows if row["status"] == "failed"}
    tries = {
        case: sum(log.read_text().count(f"{case} failed:") for log in (there / "units" / "logs").glob(f"{case}.*"))
        for case in REASONS
    }
    findings = {
        f"{len(maps[1])} label maps, equal byte for byte to those of one process": maps[0] == maps[1]
        and len(maps[1]) == N_GOOD,
        f"{len(failed)} rows with reasons": all(reason in failed.get(case, "") for case, reason in REASONS.items()),
        f"a bad case was tried {sorted(set(tries.values()))} times": set(tries.values()) == {1},
        "nothing half written is left": not list(there.rglob(".*")),
    }
    print("\n".join(f"{'yes' if right else 'NO '}  {finding}" for finding, right in findings.items()))
    return all(findings.values())


if __name__ == "__main__":
    main()
