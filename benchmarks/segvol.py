"""SegVol's encoder and decoder at published size, random weights, against the original computation, in one run.

python benchmarks/segvol.py [--prompts 1 20] [--repeats 3] [--threads 2]
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from direct_segvol import decode_directly, encode_directly
from machine import best_seconds, describe, markdown_table, peak_mib_in_fresh_process, product_rate_gflops
from torch import Tensor

from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation

CPU = torch.device("cpu")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="leave out peaks, each of which needs its own process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe(CPU) + "\n")
    with torch.no_grad():
        rows = list(measure(arguments))
    header = ["what", "original seconds", "seconds", "times faster", "of the machine's products"]
    print(markdown_table([*header, "original MiB", "MiB", "largest difference (largest value)"], rows))


def measure(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """A row per part and number of prompts."""
    rate = product_rate_gflops(torch.float32, CPU)
    works = [(partial(make_encoding, ours), "encoding of a crop", encoder_gflop()) for ours in (False, True)]
    yield row(arguments, *zip(*works, strict=True), rate)
    for n in arguments.prompts:
        works = [(partial(make_decoding, n, ours), f"{n} box prompts with text", 0.0) for ours in (False, True)]
        yield row(arguments, *zip(*works, strict=True), rate)


def row(
    arguments: argparse.Namespace,
    makers: tuple[Callable[[], Callable[[], Tensor]], ...],
    names: tuple[str, ...],
    gflop: tuple[float, ...],
    rate: float,
) -> list[str]:
    """Both ways of computing one thing."""
    direct, ours = (maker() for maker in makers)
    expected, found = direct(), ours()
    slow, fast = (best_seconds(work, arguments.repeats, CPU) for work in (direct, ours))
    difference = f"{float((found - expected).abs().max()):.1e} ({float(expected.abs().max()):.2g})"
    share = f"{gflop[0] / fast / rate:.0%}" if gflop[0] else ""
    peaks = ["", ""]
    if not arguments.no_memory:
        peaks = [f"{peak_mib_in_fresh_process(maker, CPU):.0f}" for maker in makers]
    return [names[0], f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.1f}", share, *peaks, difference]


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
