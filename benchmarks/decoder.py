"""Mask decoder: many prompts on one crop against one prompt, with and without the crop's encoding; a training click.

python benchmarks/decoder.py [--preset sam_med3d] [--prompts 1 5 20] [--device cpu] [--repeats 10]
"""

import argparse
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

import torch
from machine import best_seconds, describe, markdown_table
from torch import Tensor

from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.presets import load_preset, preset_names

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="sam_med3d", choices=preset_names())
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--dtype", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe(arguments.device) + "\n")
    for name in arguments.dtype:
        rows = list(measure(arguments, DTYPES[name]))
        print(f"{arguments.preset}, encoder in {name}:\n")
        print(markdown_table(["what", "milliseconds", "over one prompt"], rows) + "\n")


def measure(arguments: argparse.Namespace, dtype: torch.dtype) -> Iterator[list[str]]:
    """Rows of one dtype of the encoder; the decoder always computes in fp32."""
    device, config = arguments.device, load_preset(arguments.preset).config
    torch.manual_seed(0)
    foundation = build_foundation(config).to(device).eval().requires_grad_(False)
    foundation.image_encoder.compute_in(dtype)
    image = torch.randn(1, 1, *[config.encoder.img_size] * 3, device=device)

    def seconds(work: Callable[[], object]) -> float:
        return best_seconds(work, arguments.repeats, device)

    with torch.no_grad():
        encoding = seconds(lambda: foundation.image_encoder(image))
        embedding = foundation.image_encoder(image)
        yield ["encoding of the crop", f"{1e3 * encoding:.1f}", ""]
        for with_mask in (False, True):
            what = "previous masks" if with_mask else "clicks only"
            one = seconds(partial(decode, foundation, embedding, 1, with_mask))
            for n in arguments.prompts:
                many = seconds(partial(decode, foundation, embedding, n, with_mask))
                yield [f"{n} prompts, {what}", f"{1e3 * many:.1f}", f"{many / one:.1f}"]
                whole, single = encoding + many, encoding + one
                yield [f"{n} prompts, {what}, with the encoding", f"{1e3 * whole:.1f}", f"{whole / single:.2f}"]
    click = seconds(training_click(foundation, embedding))
    yield ["training of an expert, forward and backward of one click", f"{1e3 * click:.1f}", ""]


def decode(foundation: SamFoundation, embedding: Tensor, n_prompts: int, with_mask: bool) -> tuple[Tensor, Tensor]:
    """Masks of some prompts of one click each."""
    config, device = foundation.config, embedding.device
    coordinates = torch.rand(n_prompts, 1, 3, device=device) * config.encoder.img_size
    labels = torch.ones(n_prompts, 1, dtype=torch.long, device=device)
    mask = torch.zeros(n_prompts, 1, *[config.low_resolution_size] * 3, device=device) if with_mask else None
    sparse, dense = foundation.prompt_encoder(points=(coordinates, labels), mask=mask)
    logits, iou = foundation.mask_decoder(embedding, sparse, dense)
    return logits, iou


def training_click(foundation: SamFoundation, embedding: Tensor) -> Callable[[], None]:
    """One click's forward and backward pass through a decoder that learns."""
    student = deepcopy(foundation)
    student.mask_decoder.requires_grad_(True)

    def work() -> None:
        logits, iou = decode(student, embedding, 1, with_mask=True)
        (logits.sigmoid().mean() + iou.mean()).backward()
        student.zero_grad()

    return work


if __name__ == "__main__":
    main()
