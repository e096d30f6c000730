"""Memory and processor use of one large case: a made CT of 512 x 512 x 1200 voxels with 20 classes.

    python benchmarks/whole_body.py [--network follow nano vit_b] [--threads 2] [--shape 512 512 1200]

`follow` stands in for a network that segments every object exactly, so that masks have their full size and are followed
over as many crops as are allowed; `nano` is the shipped one; `vit_b` is SAM-Med3D's with random weights, one crop per
object. Peak memory is that of a fresh process above what it held with the image read, until the label map is written.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from machine import describe, markdown_table
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_geometry, write_label_map
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.mixture.model import Mixture, load_foundation_alone
from moe_pipeline.model.foundation import Candidates, PromptEmbedding
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.model.sam.foundation import build_foundation
from moe_pipeline.presets import load_preset
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.foundation import View

SPACING_MM = (0.8, 0.8, 1.0)
N_CLASSES = 20
_MIB = 1 << 20


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--network", nargs="+", default=["follow", "nano", "vit_b"], choices=("follow", "nano", "vit_b")
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 1200])
    parser.add_argument("--zoom", default="off")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        torch.set_num_threads(arguments.threads)
        print("\t".join(measure(arguments.measure, arguments.network[0], arguments.zoom)))
        return
    print(describe(torch.device("cpu")) + "\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "ct.nii"
        write_native(made_ct(tuple(arguments.shape)), image)
        for network in arguments.network:
            command = [sys.executable, __file__, "--measure", str(image), "--network", network]
            command += ["--threads", str(arguments.threads), "--zoom", arguments.zoom]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append([network, *done.stdout.strip().split("\t")])
    sides = " x ".join(map(str, arguments.shape))
    print(f"int16 CT of {sides} voxels, {N_CLASSES} classes with one click each, {arguments.threads} threads.\n")
    header = [
        "network",
        "image, MiB",
        "peak above it, MiB",
        "seconds",
        "processors used",
        "crops",
        "cut short",
        "voxels",
    ]
    print(markdown_table(header, rows))


def made_ct(shape: tuple[int, int, int]) -> Volume:
    """A body with ellipsoids and two tubes as long as itself, each of one intensity."""
    geometry = Geometry(shape, SPACING_MM)
    values = np.full(shape, -1000, np.int16, order="F")
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    body = ((x / shape[0] - 0.5) / 0.45) ** 2 + ((y / shape[1] - 0.5) / 0.35) ** 2 <= 1
    values[body] = 0
    for z in range(shape[2]):
        for number, centre, size in objects(shape):
            rest = 1 - ((z - centre[2]) / size[2]) ** 2
            if rest > 0:
                inside = ((x - centre[0]) / size[0]) ** 2 + ((y - centre[1]) / size[1]) ** 2 <= rest
                values[:, :, z][inside] = 100 + 60 * number
    return Volume(values, geometry)


def objects(shape: tuple[int, int, int]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Class id, centre and half axes in voxels; the first two are the tubes."""
    sides = np.array(shape, float)
    tubes = [
        (1, sides * (0.5, 0.25, 0.5), np.array([22.0, 22.0, 1e6])),
        (2, sides * (0.6, 0.3, 0.5), np.array([14.0, 14.0, 1e6])),
    ]
    random = np.random.default_rng(0)
    organs = []
    for number in range(3, N_CLASSES + 1):
        level = (number - 2.5) / (N_CLASSES - 2)
        centre = sides * (random.uniform(0.25, 0.75), random.uniform(0.5, 0.7), level)
        organs.append((number, centre, random.uniform(0.3, 1.0, 3) * (110, 60, sides[2] / N_CLASSES * 2)))
    return [*tubes, *organs]


def measure(path: Path, network: str, zoom: Any) -> list[str]:
    """One row, in a process of its own."""
    model, options = mixtures()[network](), SegmentOptions(zoom=zoom, max_crops=1 if network == "vit_b" else 64)
    native = read_geometry(path)
    image = to_canonical(read_native(path))
    prompts = tuple(
        Prompt(number, str(number), native.voxel_to_world(centre)[None], np.array([1]), "prompts")
        for number, centre, _ in objects(native.shape)
    )
    process = psutil.Process()
    before = process.memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # sets the process's peak back to what it holds now
    began, busy = time.perf_counter(), time.process_time()
    result = segment_case(model, PromptRequest("ct", image, prompts), options)
    write_label_map(result.labels, path.with_name("labels.nii.gz"), native)
    seconds, used = time.perf_counter() - began, time.process_time() - busy
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    cut = sum("crops" in row.message for row in result.rows)
    crops = sum(ENCODED)
    voxels = int(np.count_nonzero(result.labels.array))
    figures = [f"{image.array.nbytes / _MIB:.0f}", f"{(peak - before) / _MIB:.0f}", f"{seconds:.0f}"]
    return [*figures, f"{used / seconds:.2f} of {os.cpu_count()}", str(crops), str(cut), str(voxels)]


ENCODED: list[int] = []


def mixtures() -> dict[str, Any]:
    """The networks by name."""
    return {"follow": follow, "nano": lambda: counted(load_foundation_alone("nano")), "vit_b": vit_b}


def follow() -> Mixture:
    """The stand-in."""
    view = View(spacing_mm=1.5, size_voxels=64, normalisation="zscore_clipped")
    return counted(alone(SameIntensity(), view))


def vit_b() -> Mixture:
    """Random weights."""
    preset = load_preset("sam_med3d")
    torch.manual_seed(0)
    model = alone(build_foundation(preset.config).eval().requires_grad_(False), preset.view)
    return counted(model)


def alone(foundation: Any, view: View) -> Mixture:
    """A mixture without experts."""
    return Mixture(
        foundation=foundation,
        view=view,
        experts=(),
        router=None,
        tau=0.0,
        selector="general",
        device=torch.device("cpu"),
        hashes={},
    )


def counted(model: Mixture) -> Mixture:
    """The same, which counts its encodings."""
    foundation: Any = model.foundation
    encode: Callable[[Tensor], Tensor] = foundation.encode

    def counting(crops: Tensor) -> Tensor:
        ENCODED.append(len(crops))
        return encode(crops)

    foundation.encode = counting
    return model


class SameIntensity:
    """Takes the connected low-resolution voxels that are as bright as where the clicks are."""

    def __init__(self, low: int = 32) -> None:
        self.takes = frozenset({"points", "mask"})
        self.geometry = FoundationGeometry.of_cubes(2 * low, low, low)

    @property
    def decoder(self) -> "SameIntensity":
        """Itself."""
        return self

    def encode(self, crops: Tensor) -> Tensor:
        """Every other voxel is the embedding."""
        return functional.avg_pool3d(crops, 2)

    def embed_turn(self, points: tuple[Tensor, Tensor], previous: Tensor, _: None = None) -> PromptEmbedding:
        """As they are."""
        return PromptEmbedding(points, previous)  # type: ignore[arg-type]

    def prepare(self, embedding: Tensor) -> Tensor:
        """As it is."""
        return embedding

    def decode(self, embedding: Tensor, prompts: PromptEmbedding) -> Candidates:
        """+-4."""
        coordinates, _ = prompts.sparse
        low_res_voxels = ((coordinates[0] + 0.5) // 2).long().numpy()
        values = embedding[0, 0].numpy()
        first = values[tuple(low_res_voxels[0])]
        alike = np.abs(values - first) < 0.08
        numbers, _ = ndimage.label(alike)
        mask = alike & (numbers == numbers[tuple(low_res_voxels[0])])
        logits = torch.from_numpy(np.where(mask, 4.0, -4.0).astype(np.float32))[None, None]
        return Candidates(logits, torch.ones(1, 1), torch.zeros(1, dtype=torch.long))


if __name__ == "__main__":
    main()
