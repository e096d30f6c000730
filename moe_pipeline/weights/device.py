"""The one place where a device's name becomes a device."""

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
