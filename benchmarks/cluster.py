"""What the engines cost: start, cases per second, memory; and a simulation of very many cases.

    python benchmarks/cluster.py engines [--cases 100] [--engine jobs ray ray-here slurm]
    python benchmarks/cluster.py simulation [--units 100000]

`engines` predicts small images with two workers: `--jobs 2` as it is without any engine, Ray with two cores that is
there already (ray) or is started by the command (ray-here), and submitit's stand-in for SLURM with two jobs. Start is
the time until the first label map is there; cases per second are those after it; memory is the largest sum over all
processes of what each has for itself. `simulation` has workers that do nothing but say that they are done: what is left
is the command itself, in seconds of the processor, with 1,000, 10,000, ... units.
Run from the repository.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the phantoms of the tests
os.environ["OMP_NUM_THREADS"] = "1"

import psutil
from pydantic import TypeAdapter

from moe_pipeline.cluster.cases import CasesOnEngine, absolute
from moe_pipeline.cluster.engines import Lost
from moe_pipeline.cluster.records import Resources, UnitRecord
from moe_pipeline.cluster.units import Unit
from moe_pipeline.cluster.worker import Job
from moe_pipeline.inference.batch.case_files import Outcome
from moe_pipeline.inference.batch.folder import predict_folder
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.journal.written import WrittenFile
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.foundation import View
from moe_pipeline.records.stamp import FileStamp
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import build_tiny, save_tiny
from tests.phantoms.night import write_good

_MIB = 1 << 20
_AT_ONCE = 10_000
_OUTCOME = TypeAdapter(Outcome)
_WRITTEN = WrittenFile(file="", size_bytes=0, sha256=hashlib.sha256().hexdigest())
_SLURM = """
import sys
from math import ceil
from moe_pipeline.cluster import on_slurm
on_slurm.SlurmEngine.__init__.__defaults__ = ("local", 0.5, 5.0)
from moe_pipeline.cli import main
main(sys.argv[1:])
"""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["engines", "simulation"])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--engine", nargs="+", default=["jobs", "ray", "ray-here", "slurm"])
    parser.add_argument("--units", type=int, default=100_000)
    chosen = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder))
        save_tiny(build_tiny(16), place.weights, View(spacing_mm=1.0, size_voxels=16))
        if chosen.what == "engines":
            engines(place, chosen.cases, chosen.engine)
        else:
            simulations(place, chosen.units)


def engines(place: Workspace, n_cases: int, names: Sequence[str]) -> None:
    """One row per engine."""
    images = place.root / "images"
    images.mkdir()
    for number in range(n_cases):
        write_good(images, f"scan-{number:04d}", number)
    cases = {
        f"scan-{number:04d}": [{"class_id": k, "points": [[6, 6, 1 + k]], "labels": [1]} for k in range(1, 9)]
        for number in range(n_cases)
    }
    (place.root / "clicks.json").write_text(json.dumps({"space": "voxel_xyz", "cases": cases}))
    resources = {"all": {"cpus": 1, "units_per_job": -(-n_cases // 2)}}
    (place.root / "engine.json").write_text(json.dumps(resources))
    print("| engine | start, s | cases per s | all, s | memory, MiB |\n|---|---:|---:|---:|---:|")
    for name in names:
        print(measured(place, name, n_cases), flush=True)


def measured(place: Workspace, name: str, n_cases: int) -> str:
    """A row of the table."""
    out = place.root / name
    words = ["predict", "-i", str(place.root / "images"), "-o", str(out), "--prompts", str(place.root / "clicks.json")]
    words += ["--foundation", "tiny", "--workspace", str(place.root)]
    program = ["-m", "moe_pipeline"]
    with ray_of_two(name) as address:
        if name == "jobs":
            words += ["--jobs", "2"]
        elif name.startswith("ray"):
            words += ["--engine", "ray", *(["--ray-address", address] if address else [])]
        else:
            words, program = [*words, "--engine", "slurm"], ["-c", _SLURM]
        began, peak = time.time(), 0.0
        command = subprocess.Popen([sys.executable, *program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while command.poll() is None:
            peak = max(peak, memory_mib(os.getpid()))
            time.sleep(0.5)
        seconds = time.time() - began
    written = sorted(path.stat().st_mtime for path in out.glob("*.nii.gz"))
    if len(written) != n_cases:
        sys.exit(command.stdout.read().decode() if command.stdout else "not all cases were done")
    rate = (n_cases - 1) / (written[-1] - written[0])
    return f"| {name} | {written[0] - began:.1f} | {rate:.2f} | {seconds:.1f} | {peak:.0f} |"


@contextmanager
def ray_of_two(name: str) -> Iterator[str]:
    """A Ray of two cores, as it would be started by hand; its start is counted as none of the command's."""
    if name != "ray":
        yield ""
        return
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def memory_mib(pid: int) -> float:
    """Of a process's children, each without what it shares with others."""
    total = 0
    for process in psutil.Process(pid).children(recursive=True):
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue
    return total / _MIB


class Saying:
    """Workers that do nothing, and say that they have; the time that their side takes is counted apart."""

    def __init__(self, images: Path, out: Path) -> None:
        self.images, self.out = images, out
        self.seconds = 0.0
        self.listing_seconds = 0.0

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        """As of `Engine`; ten thousand units end at a time."""
        for start in range(0, len(units), _AT_ONCE):
            began = time.process_time()
            part = units[start : start + _AT_ONCE]
            for unit in part:
                self._say(job, unit)
            listing = time.process_time()
            job.board.ended()
            self.listing_seconds = max(self.listing_seconds, time.process_time() - listing)
            self.seconds += time.process_time() - began
            yield from (unit.key for unit in part)

    def told(self) -> str:
        """As of `Engine`."""
        return "a simulation"

    def _say(self, job: Job[Any, Any], unit: Unit[Any]) -> None:
        name = f"{unit.name}.nii.gz"
        (self.out / name).touch()
        notes = job.board.notes(unit.key)
        notes.write_text(_WRITTEN.model_copy(update={"file": name}).model_dump_json())
        stamp = FileStamp.of(self.images / name, self.images)
        outcome = Outcome((CaseRow(case=unit.name, class_id=1, status="ok"),), (stamp, stamp), (name,))
        told = _OUTCOME.dump_python(outcome, mode="json")
        record = UnitRecord(name=unit.name, status="done", result=told, notes=notes.name)
        (job.board.folder / f"{unit.key}.json").write_text(record.model_dump_json())


def simulations(place: Workspace, most: int) -> None:
    """One row per number of units."""
    print("| units | command, s | per unit, ms | listing of 10,000 results, ms | repeated, s | memory, MiB |")
    print("|---:|---:|---:|---:|---:|---:|")
    count = 1000
    while count <= most:
        print(simulated(place, count), flush=True)
        count *= 10


def simulated(place: Workspace, count: int) -> str:
    """A row of the table."""
    images, out = place.root / f"images_{count}", place.root / f"out_{count}"
    images.mkdir()
    for number in range(count):
        (images / f"scan-{number:06d}.nii.gz").touch()
    options = predict_options(images, out, foundation="tiny", labels=images, weights_root=place.weights)
    model, saying = options.model.load(), Saying(images, out)
    began = time.process_time()
    cases = CasesOnEngine.of(saying, Resources(), absolute(options.model), out)
    predict_folder(model, options, run=cases)
    seconds = time.process_time() - began - saying.seconds
    memory = psutil.Process().memory_info().rss / _MIB
    began = time.process_time()
    again = predict_folder(model, options, run=cases)
    repeated = time.process_time() - began
    assert again.tally.before == count, again.tally
    each, listing = 1000 * seconds / count, 1000 * saying.listing_seconds
    return f"| {count:,} | {seconds:.1f} | {each:.2f} | {listing:.0f} | {repeated:.1f} | {memory:.0f} |"


if __name__ == "__main__":
    main()
