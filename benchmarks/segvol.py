"""SegVol's encoder and decoder at published size, random weights, against the original computation, in one run.

python benchmarks/segvol.py [--prompts 1 20] [--repeats 3] [--threads 2]
python benchmarks/segvol.py --ct 20    a whole prediction: 512 x 512 x 300 voxels, so many boxes
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from direct_segvol import decode_directly, encode_directly
from machine import best_seconds, describe, markdown_table, peak_mib, peak_mib_in_fresh_process, product_rate_gflops
from torch import Tensor
from whole_body import alone

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from moe_pipeline.presets import load_preset
from moe_pipeline.prompts.prompt import objects_in_world
from moe_pipeline.records.prompts import ObjectPrompt

CPU = torch.device("cpu")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="leave out peaks, each of which needs its own process")
    parser.add_argument("--ct", type=int, metavar="BOXES", help="predict a whole CT with so many boxes instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe(CPU) + "\n")
    if arguments.ct:
        print(whole_ct(arguments.ct))
        return
    with torch.no_grad():
        rows = list(measure(arguments))
    header = ["what", "original seconds", "seconds", "times faster", "of the machine's products"]
    print(markdown_table([*header, "original MiB", "MiB", "largest difference (largest value)"], rows))


def measure(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """A row per part and number of prompts."""
    rate = product_rate_gflops(torch.float32, CPU)
    yield row(arguments, "encoding of a crop", make_encoding, encoder_gflop() / rate)
    for n in arguments.prompts:
        yield row(arguments, f"{n} box prompts with text", partial(make_decoding, n))


def row(
    arguments: argparse.Namespace, name: str, make: Callable[[bool], Callable[[], Tensor]], floor: float | None = None
) -> list[str]:
    """Both ways of computing one thing; `floor` is the seconds that its products take at the machine's best."""
    makers = [partial(make, ours) for ours in (False, True)]
    direct, ours = (maker() for maker in makers)
    expected, found = direct(), ours()
    slow, fast = (best_seconds(work, arguments.repeats, CPU) for work in (direct, ours))
    difference = f"{float((found - expected).abs().max()):.1e} ({float(expected.abs().max()):.2g})"
    share = "" if floor is None else f"{floor / fast:.0%}"
    peaks = ["", ""]
    if not arguments.no_memory:
        peaks = [f"{peak_mib_in_fresh_process(maker, CPU):.0f}" for maker in makers]
    return [name, f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.1f}", share, *peaks, difference]


def make_encoding(ours: bool) -> Callable[[], Tensor]:
    """Network and crop; calling the result encodes once."""
    foundation = random_foundation()
    config = foundation.config.encoder
    image = torch.rand(1, 1, *config.image_size)
    if ours:
        return partial(foundation.image_encoder, image)
    weights = foundation.image_encoder.state_dict()
    return partial(encode_directly, weights, config.num_heads, config.patch_size, image)


def make_decoding(n_prompts: int, ours: bool) -> Callable[[], Tensor]:
    """Network, embedding and prompts; calling the result decodes once."""
    foundation = random_foundation()
    config = foundation.config
    embedding = torch.randn(1, config.encoder.width, *config.encoder.grid)
    low = torch.rand(n_prompts, 3) * 100
    boxes = (torch.cat([low, low + 50], dim=1) * torch.tensor([0.1, 1, 1]).repeat(2)).round()  # (P, 6)
    text = torch.randn(n_prompts, config.encoder.width)
    sparse, dense = foundation.prompt_encoder(None, boxes, text)
    if ours:
        return lambda: foundation.mask_decoder(embedding, sparse, dense, text)[0]
    positions, weights = foundation.prompt_encoder.dense_positions(), foundation.mask_decoder.state_dict()
    return partial(decode_directly, weights, positions, config.decoder.num_heads, embedding, sparse, dense, text)


def whole_ct(n_boxes: int) -> str:
    """Seconds and memory of the prediction of one CT, its view fitted to the image as the preset has it."""
    shape = (512, 512, 300)
    array = np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)
    image = Volume(array, Geometry(shape, (0.8, 0.8, 2.0)))
    corners = [((20 * k, 15 * k, 10 * k), (20 * k + 90, 15 * k + 120, 10 * k + 40)) for k in range(n_boxes)]
    objects = [ObjectPrompt(class_id=k + 1, points=(), labels=(), box=box) for k, box in enumerate(corners)]
    model = alone(random_foundation(), load_preset("segvol").view)
    request = PromptRequest("ct", image, tuple(objects_in_world(objects, "voxel_xyz", image.geometry, "ct")))
    began = time.perf_counter()
    peak = peak_mib(lambda: segment_case(model, request), CPU)
    seconds = time.perf_counter() - began
    own = array.nbytes >> 20
    return f"{n_boxes} boxes: {seconds:.0f} s, {peak:.0f} MiB above weights and image, which has {own} MiB"


def random_foundation() -> SegVolFoundation:
    """Published sizes, the same weights at every call."""
    torch.manual_seed(0)
    return SegVolFoundation(SegVolConfig()).eval().requires_grad_(False)


def encoder_gflop() -> float:
    """Multiplications and additions of the image encoder, in units of 10^9."""
    config = SegVolConfig().encoder
    d, h, w = config.grid
    n, width = d * h * w, config.width
    layer = n * width * (4 * width + 2 * config.mlp_dim) + 2 * n * n * width
    p, q, r = config.patch_size
    return 2e-9 * (config.depth * layer + n * width * p * q * r)


if __name__ == "__main__":
    main()
