"""The one place where a device's name becomes a device, and where it is asked what it is good at."""

import torch

from moe_pipeline.errors import PipelineError


def open_device(name: str | torch.device) -> torch.device:
    """A device that is there.

    Args:
        name: cpu, cuda, cuda:1 and so on; mps on a Mac.

    Raises:
        PipelineError: if it is no device's name or not there; lists what there is.
    """
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise PipelineError(f"no device {str(name)!r}; there are: {', '.join(there)}") from error
    if device.type != "cpu" and not any(f"{one}:".startswith(f"{device}:") for one in there):  # cuda is cuda:0
        seen = f"torch {torch.__version__} sees only: {', '.join(there)}"
        raise PipelineError(f"device {device} was asked for, but {seen}")
    return device


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 matrices faster than fp32 ones: any GPU, and processors with AVX512-BF16."""
    if device.type != "cpu":
        return device.type == "cuda"
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not public, and not in every torch
    return known is not None and bool(known())
