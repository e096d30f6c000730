"""Image encoder against the direct computation with real padding, in one run.

python benchmarks/encoder.py [--batch 1 4] [--dtype fp32 bf16] [--device cpu] [--repeats 5] [--profile]
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import torch
from direct import load_direct
from machine import best_seconds, describe, markdown_table, peak_mib_in_fresh_process, product_rate_gflops
from torch import Tensor

from moe_pipeline.model.config import EncoderConfig
from moe_pipeline.model.sam.image_encoder import ImageEncoder
from moe_pipeline.presets import load_preset

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="sam_med3d", help="a preset whose stem is patch")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--dtype", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--direct-repeats", type=int, default=2)
    parser.add_argument("--tf32", action="store_true", help="let a GPU round fp32 products to tf32")
    parser.add_argument("--compile", action="store_true", help="also measure under torch.compile")
    parser.add_argument("--profile", action="store_true", help="say where the encoder's time goes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.tf32:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    print(describe(arguments.device) + "\n")
    with torch.no_grad():
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Print a row per way of computing, batch and dtype."""
    rows = [row for batch in arguments.batch for row in measure_batch(arguments, batch)]
    print(f"{gflop(load_preset(arguments.preset).config.encoder):.0f} GFLOP per image without padding.\n")
    header = ["encoder", "batch", "seconds", "times faster", "GFLOP/s", "of the machine's products", "peak MiB"]
    print(markdown_table([*header, "largest difference (relative error)"], rows))


def measure_batch(arguments: argparse.Namespace, batch: int) -> Iterator[list[str]]:
    """Rows of one batch size; the direct computation first, everything else against it."""
    device, preset = arguments.device, arguments.preset
    config = load_preset(preset).config.encoder
    direct = make_work(preset, "direct", batch, device)
    exact = direct()
    direct_seconds = best_seconds(direct, arguments.direct_repeats, device)
    yield [
        "direct fp32",
        str(batch),
        f"{direct_seconds:.3f}",
        "1.0",
        "",
        "",
        memory(preset, "direct", batch, device),
        "",
    ]
    kinds = [name + suffix for name in arguments.dtype for suffix in ("", " compiled")[: 1 + arguments.compile]]
    for kind in kinds:
        work = make_work(preset, kind, batch, device)
        seconds = best_seconds(work, arguments.repeats, device)
        rate = batch * gflop(config) / seconds
        share = rate / product_rate_gflops(DTYPES[kind.split()[0]], device)
        row = [kind, str(batch), f"{seconds:.3f}", f"{direct_seconds / seconds:.1f}", f"{rate:.0f}", f"{share:.0%}"]
        yield [*row, memory(preset, kind, batch, device), error(work(), exact)]
        if arguments.profile:
            print(f"{kind}, batch {batch}:\n\n{profile(work)}\n")
    with torch.autocast(device.type, dtype=torch.bfloat16):
        yield ["direct, bf16 autocast", str(batch), *[""] * 5, error(direct(), exact)]


def make_work(preset: str, kind: str, batch: int, device: torch.device) -> Callable[[], Tensor]:
    """Encoder, image and weights; calling the result encodes once. Kinds: direct, fp32, "bf16 compiled" and so on."""
    config = load_preset(preset).config.encoder
    encoder = random_encoder(config).to(device)
    image = torch.randn(batch, config.in_chans, *[config.img_size] * 3, device=device)
    if kind == "direct":
        return partial(load_direct(), encoder.state_dict(), asdict(config), image)
    dtype, *compiled = kind.split()
    encoder.compute_in(DTYPES[dtype])
    return partial(torch.compile(encoder) if compiled else encoder, image)


def random_encoder(config: EncoderConfig) -> ImageEncoder:
    """An encoder with no zero in its tables, the same at every call."""
    torch.manual_seed(0)
    encoder = ImageEncoder(config).eval().requires_grad_(False)
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name or name.endswith("bias"):
            parameter.normal_(std=0.1)
    return encoder


def gflop(config: EncoderConfig) -> float:
    """Multiplications and additions per image that the closed form needs, in units of 10^9 FLOP."""
    n, width, out = config.grid_size**3, config.embed_dim, config.out_chans
    layer = n * width * (4 * width + 2 * int(config.embed_dim * config.mlp_ratio)) + 2 * n * n * width
    patches = n * width * config.in_chans * config.patch_size**3 if config.stem == "patch" else 0
    return 2e-9 * (config.depth * layer + patches + n * out * (width + 27 * out))


def error(found: Tensor, exact: Tensor) -> str:
    """Largest difference, and the norm of the difference over that of the exact result."""
    difference = found.float() - exact
    return f"{difference.abs().max().item():.1e} ({(difference.norm() / exact.norm()).item():.1e})"


def memory(preset: str, kind: str, batch: int, device: torch.device) -> str:
    """Peak memory of one run above the weights, in MiB."""
    return f"{peak_mib_in_fresh_process(partial(make_work, preset, kind, batch, device), device):.0f}"


def profile(work: Callable[[], object]) -> str:
    """The costliest operations of one run."""
    with torch.profiler.profile() as recorded:
        work()
    rows = sorted(recorded.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    lines = [
        [row.key, str(row.count), f"{row.self_cpu_time_total / 1e3:.1f}", f"{row.self_cpu_time_total / total:.0%}"]
        for row in rows[:12]
    ]
    return markdown_table(["operation", "calls", "ms", "share"], lines)


if __name__ == "__main__":
    main()
