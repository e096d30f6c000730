"""Clicks at a server: the first one at an object, with its encoding, and further ones; several sessions at once.

    python benchmarks/serve.py [--preset nano sam_med3d] [--rounds 5] [--clicks 8] [--sessions 8] [--threads 2]

The image is 256 x 256 x 160 voxels of 1 mm. SAM-Med3D has random weights, whose masks are noise that fills the crop:
what is sent back is as large as it can be, and no object is followed beyond its crop. Each object is clicked at anew in
a crop of its own, near to its first click. Clicks go over HTTP and their masks come back, packed; `in the server`
leaves HTTP out. Rounds alternate with a prediction of the same clicks from the beginning, as `moe predict` does it, so
that both have the same load. On a machine that is busy otherwise, seconds of the processor say more than those of the
clock.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from clicking import Client, running
from machine import describe, markdown_table

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.api import Predictor
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.mixture.model import Mixture, load_foundation_alone
from moe_pipeline.model.sam.foundation import build_foundation
from moe_pipeline.presets import load_preset
from moe_pipeline.server.options import ServeOptions
from moe_pipeline.server.service import Service

GRID = Geometry((256, 256, 160), (1.0, 1.0, 1.0))
PRESETS = ("nano", "sam_med3d")  # SegVol has other networks, and is measured by segvol.py
SEGMENT = SegmentOptions(max_crops=1)
Numbers = dict[str, list[float]]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=PRESETS, choices=PRESETS)
    parser.add_argument("--rounds", type=int, default=5, help="Objects per model.")
    parser.add_argument("--clicks", type=int, default=8, help="Per object.")
    parser.add_argument("--sessions", type=int, default=8, help="At once.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe(torch.device("cpu")) + "\n")
    for preset in arguments.preset:
        mixture = model_of(preset)
        with tempfile.TemporaryDirectory() as folder, served(mixture, Path(folder), arguments.sessions) as port:
            numbers = one_session(Predictor(mixture, SEGMENT), port, arguments)
            print(f"{preset}, one session, milliseconds:\n\n{table(numbers)}\n")
            print(f"{preset}, {arguments.sessions} sessions at once:\n\n{many_sessions(port, arguments)}\n")


def model_of(preset: str) -> Mixture:
    """The built-in nano, or SAM-Med3D's sizes with random weights."""
    nano = load_foundation_alone("nano")
    if preset == "nano":
        return nano
    torch.manual_seed(0)
    chosen = load_preset(preset)
    return replace(nano, foundation=build_foundation(chosen.config).eval().requires_grad_(False), view=chosen.view)


@contextmanager
def served(mixture: Mixture, folder: Path, sessions: int) -> Iterator[int]:
    """The port of a server with a scan for each session."""
    for number in range(sessions):
        voxels = np.random.default_rng(number).normal(100, 20, GRID.shape).astype(np.float32)
        write_native(Volume(voxels, GRID), folder / "scans" / f"scan{number}.nii")
    options = ServeOptions(images=folder / "scans", dataset=folder / "Dataset900_Noise", max_sessions=sessions)
    with running(Service(mixture, SEGMENT, options)) as port:
        yield port


def clicks_of(number: int, n: int) -> list[list[int]]:
    """The clicks at one object: near each other, far from those of other objects."""
    random = np.random.default_rng(number)
    first = random.integers(70, 90, 3) + np.array([(number % 3) * 40, (number // 3 % 3) * 40, 0])
    return [(first + random.integers(-8, 9, 3)).tolist() for _ in range(n)]


def timed(work: Callable[..., Any], *given: Any, **named: Any) -> tuple[Any, float, float]:
    """Result, milliseconds of the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*given, **named)
    return result, 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def one_session(predictor: Predictor, port: int, arguments: argparse.Namespace) -> Numbers:
    """Milliseconds by what was done; the first object of the model is not counted."""
    client = Client(port, "scan0")
    image = Volume(np.random.default_rng(0).normal(100, 20, GRID.shape).astype(np.float32), GRID)
    numbers: Numbers = {}
    for number in range(arguments.rounds + 1):
        places = clicks_of(number, arguments.clicks)
        client.post("/objects", class_name=f"object {number}")
        for n, place in enumerate(places):
            change, wall, cpu = timed(client.click, place)
            what = "first click" if n == 0 else "further click"
            if number:
                numbers.setdefault(f"{what}, over HTTP", []).append(wall)
                numbers.setdefault(f"{what}, over HTTP, processor", []).append(cpu)
                numbers.setdefault(f"{what}, in the server", []).append(1e3 * change["seconds"])
        prompt = {"class_id": 1, "points": places, "labels": [1] * len(places)}
        _, wall, cpu = timed(predictor.predict, image, [prompt])
        if number:
            numbers.setdefault("all clicks predicted anew", []).append(wall)
            numbers.setdefault("all clicks predicted anew, processor", []).append(cpu)
        client.post("/undo", steps=arguments.clicks + 1)
    return numbers


def many_sessions(port: int, arguments: argparse.Namespace) -> str:
    """Sessions that click without a pause, each on its own scan."""
    before = psutil.Process().memory_info().rss
    clients = [Client(port, f"scan{number}") for number in range(arguments.sessions)]

    def work(number: int) -> list[float]:
        client, seconds = clients[number], []
        client.post("/objects", class_name="object")
        for place in clicks_of(number, arguments.clicks):
            seconds.append(timed(client.click, place)[1])
        return seconds

    with ThreadPoolExecutor(arguments.sessions) as pool:
        waits = list(pool.map(work, range(arguments.sessions)))
    rows = [[f"scan{number}", f"{np.median(of[1:]):.0f}", f"{max(of[1:]):.0f}"] for number, of in enumerate(waits)]
    held = (psutil.Process().memory_info().rss - before) / arguments.sessions / 2**20
    image = float(np.prod(GRID.shape)) * 4 / 2**20
    told = f"\n\nmemory per session: {held:.0f} MB, {image:.0f} of them the image"
    return markdown_table(["session", "median wait, ms", "longest"], rows) + told


def table(numbers: Numbers) -> str:
    """Median and 95th percentile."""
    rows = [
        [what, f"{np.median(of):.0f}", f"{np.percentile(of, 95):.0f}", str(len(of))] for what, of in numbers.items()
    ]
    return markdown_table(["what", "median", "95 %", "n"], rows)


if __name__ == "__main__":
    main()
