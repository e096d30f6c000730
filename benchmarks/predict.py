"""All classes of one CT with one simulated click each, against a pipeline that does each class by itself.

    python benchmarks/predict.py --data FOLDER [--threads 2] [--direct-classes 3] [--precision fp32] [--clock wall]

SAM-Med3D's sizes (ViT-B, 128 voxels) with random weights: they cost what trained ones cost, but their masks are noise
that fills the crop, so growth and zoom are off on our side; nobody would follow noise. The image is TotalSegmentator's
example, as it is (3 mm) and resampled to 0.75 x 0.75 x 2.5 mm.

The straightforward pipeline does for every class what published inference code does: resample the image to 1.5 mm, crop
around the click, normalise, encode, decode, resample the mask back to the image, paste. Its encoder is the direct one
with its padding; its decoder is ours, which favours it. It is timed on a few classes and multiplied; both have the
image in memory. On a machine that is busy otherwise, `--threads 1 --clock cpu` counts this process's own seconds.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from direct import load_direct
from labelled_sets import class_ids
from machine import describe, markdown_table

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.views import extract_crop, normalise, view_grid
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive import decoder_session
from moe_pipeline.inference.interactive.label_map import LabelMapBuilder
from moe_pipeline.inference.interactive.objects import SimulatedUser
from moe_pipeline.inference.interactive.request import SimulatedRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.windows import embedding_cache
from moe_pipeline.inference.windows.decode import decode
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.presets import load_preset
from moe_pipeline.records.foundation import View
from moe_pipeline.training.interactive.simulated_clicks import full_size

CLINICAL_MM = (0.75, 0.75, 2.5)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Times = dict[str, float]


class Clock:
    """What seconds are."""

    read: Callable[[], float] = staticmethod(time.perf_counter)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--direct-classes", type=int, default=3, help="classes that the straightforward pipeline does")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of our encoder")
    parser.add_argument("--grids", nargs="+", choices=("3mm", "clinical"), default=["3mm", "clinical"])
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    Clock.read = staticmethod(CLOCKS[arguments.clock])
    torch.set_num_threads(arguments.threads)
    print(describe(torch.device("cpu")) + "\n")
    folder = arguments.data / "TotalSegmentator_ref"
    image, labels = read_volume(folder / "example_ct_sm.nii.gz"), read_label_map(folder / "example_seg.nii.gz")
    preset = load_preset("sam_med3d")
    torch.manual_seed(0)
    foundation = build_foundation(preset.config).eval().requires_grad_(False)
    for name in arguments.grids:
        grid = image.geometry if name == "3mm" else image.geometry.resampled(CLINICAL_MM)
        there = (
            resample(image, grid, order="linear", outside=-1024.0),
            resample(labels, grid, order="nearest", outside=0),
        )
        compare(foundation, preset.view, *there, arguments)


def compare(foundation: SamFoundation, view: View, image: Volume, labels: Volume, options: argparse.Namespace) -> None:
    """Print both times and their ratio for one image."""
    ids = class_ids(labels)
    clicks = {value: first_click(labels, value) for value in ids}
    some = ids[:: -(-len(ids) // options.direct_classes)]
    with torch.no_grad():
        plain = [straightforward(foundation, view, image, clicks[value]) for value in some]
    own, total, n_encoded = ours(foundation, view, image, labels, ids, PRECISIONS[options.precision])
    per_class = {part: float(np.mean([times[part] for times in plain])) for part in plain[0]}
    whole = len(ids) * sum(per_class.values())
    size = "x".join(map(str, image.geometry.shape))
    spacing = "x".join(f"{mm:g}" for mm in image.geometry.spacing_mm)
    print(
        f"CT of {size} voxels of {spacing} mm, {len(ids)} classes; {options.threads} threads, {options.clock} time.\n"
    )
    rows = [["straightforward", *low_res_voxels(per_class, len(ids)), f"{whole:.1f}", str(len(ids)), "1.0"]]
    rows += [
        ["ours " + options.precision, *low_res_voxels(own, 1), f"{total:.1f}", str(n_encoded), f"{whole / total:.1f}"]
    ]
    header = ["pipeline", *per_class, "all classes, s", "encodings", "times faster"]
    print(markdown_table(header, rows))
    print(
        f"\nThe first row is {len(ids)} times the mean of {len(some)} classes; its parts are in seconds.\n", flush=True
    )


def low_res_voxels(times: Times, factor: int) -> list[str]:
    """Seconds of each part."""
    return [f"{factor * seconds:.2f}" for seconds in times.values()]


def first_click(labels: Volume, value: int) -> np.ndarray:
    """The click that the simulated user of `segment_case` starts with."""
    click = SimulatedUser(labels, value, seed=0).first("ct")
    assert click is not None
    return click[0]


def straightforward(foundation: SamFoundation, view: View, image: Volume, click: np.ndarray) -> Times:
    """One class by itself."""
    times: Times = {}
    with timed(times, "resample, crop"):
        whole = resample(image, view_grid(image.geometry, view), order="linear", outside=0.0)
        crop_grid = CropGrid(image.geometry, view, foundation.geometry.low_resolution_size)
        grid = crop_grid.cube(crop_grid.around(click[0]))
        crop = resample(whole, grid, order="linear", outside=0.0).array
        cube = normalise(crop, np.ones(crop.shape, dtype=bool), view.normalisation)
    with timed(times, "encode"):
        encoder = foundation.image_encoder
        cubes = torch.from_numpy(np.ascontiguousarray(cube))[None, None]
        embedding = load_direct()(encoder.state_dict(), asdict(encoder.config), cubes)
    with timed(times, "decode"):
        low = foundation.config.low_resolution_size
        points = torch.from_numpy(grid.world_to_voxel(click)).float()[None], torch.ones(1, 1, dtype=torch.long)
        sparse, dense = foundation.prompt_encoder(points=points, mask=torch.zeros(1, 1, low, low, low))
        logits, _ = foundation.mask_decoder(embedding, sparse, dense)
        mask = full_size(logits, view.size_voxels)[0, 0].numpy() > 0
    with timed(times, "resample back, paste"):
        back = resample(Volume(mask.astype(np.uint8), grid), image.geometry, order="nearest", outside=0)
        labels = np.zeros(image.geometry.shape, np.uint8)
        labels[back.array > 0] = 1
    return times


def ours(
    foundation: SamFoundation, view: View, image: Volume, labels: Volume, ids: list[int], dtype: torch.dtype
) -> tuple[Times, float, int]:
    """All classes: seconds of each part, of everything, and the number of encodings."""
    foundation = foundation if dtype == torch.float32 else with_encoder_in(foundation, dtype)
    model = Mixture(
        foundation=foundation,
        view=view,
        experts=(),
        router=None,
        tau=0.0,
        selector="general",
        device=torch.device("cpu"),
        hashes={},
    )
    request = SimulatedRequest("ct", image, labels, {value: str(value) for value in ids})
    times: Times = dict.fromkeys(("resample, crop", "encode", "decode", "resample back, paste"), 0.0)
    encoded: list[int] = []

    def counted(cubes: torch.Tensor) -> torch.Tensor:
        encoded.append(len(cubes))
        return encode(cubes)

    encode = foundation.image_encoder.forward
    with (
        mock.patch.object(embedding_cache, "extract_crop", timing(times, "resample, crop", extract_crop)),
        mock.patch.object(foundation.image_encoder, "forward", timing(times, "encode", counted)),
        mock.patch.object(decoder_session, "decode", timing(times, "decode", decode)),
        mock.patch.object(LabelMapBuilder, "add", timing(times, "resample back, paste", LabelMapBuilder.add)),
    ):
        began = Clock.read()
        segment_case(model, request, SegmentOptions(zoom="off", max_crops=1))
        total = Clock.read() - began
    return times, total, sum(encoded)


def with_encoder_in(foundation: SamFoundation, dtype: torch.dtype) -> SamFoundation:
    """A copy whose encoder multiplies in another type."""
    other = copy.deepcopy(foundation)
    other.bind_positions()
    other.image_encoder.compute_in(dtype)
    return other


def timing(times: Times, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its seconds added to a part."""

    def work(*arguments: Any, **named: Any) -> Any:
        with timed(times, part):
            return function(*arguments, **named)

    return work


@contextmanager
def timed(times: Times, part: str) -> Iterator[None]:
    """Add the seconds of a block to a part."""
    began = Clock.read()
    yield
    times[part] = times.get(part, 0.0) + Clock.read() - began


if __name__ == "__main__":
    main()
