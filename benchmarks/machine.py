"""What this machine can do, and how busy it is: every figure of a benchmark needs both beside it."""

import ctypes
import ctypes.util
import gc
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch
from torch.nn import functional as F

from moe_pipeline.model.cpu_kernels import affine

_MIB = 1 << 20


def best_seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Least wall time of several runs, after one that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def product_rate_gflops(dtype: torch.dtype, device: torch.device, repeats: int = 20) -> float:
    """GFLOP/s of the fastest matrix product at hand, over sizes that the encoder uses."""
    rates = []
    for n, n_in, n_out in ((512, 768, 2304), (512, 768, 3072), (512, 3072, 768), (2048, 768, 3072)):
        rows = torch.randn(n, n_in, device=device).to(dtype)
        weight = torch.randn(n_out, n_in, device=device).to(dtype)
        for product in (F.linear, affine):
            with torch.no_grad():
                seconds = best_seconds(partial(product, rows, weight, None), repeats, device)
            rates.append(2e-9 * n * n_in * n_out / seconds)
    return max(rates)


def peak_mib_in_fresh_process(make_work: Callable[[], Callable[[], object]], device: torch.device) -> float:
    """As `peak_mib`, of the first run in a process that has done nothing else, so that no freed memory hides it.

    Args:
        make_work: can be pickled; builds what is to be measured, weights and inputs included.
        device: where it runs.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_of_made, make_work, torch.get_num_threads(), device).result()


def _peak_of_made(make_work: Callable[[], Callable[[], object]], n_threads: int, device: torch.device) -> float:
    torch.set_num_threads(n_threads)
    with torch.no_grad():
        return peak_mib(make_work(), device)


def peak_mib(work: Callable[[], object], device: torch.device) -> float:
    """Largest memory during one run, above what was held before it, in MiB."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / _MIB
    _give_back_freed_memory()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # sets the process's peak back to what it holds now
    work()
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peak_kib / 1024 - before / _MIB


def _give_back_freed_memory() -> None:
    """What was freed while inputs were made would hide as much of what the run takes."""
    library = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(library), "malloc_trim", None) if library else None  # glibc's
    if trim is not None:
        trim(0)


def describe(device: torch.device) -> str:
    """One paragraph on machine, libraries and load, to be printed above a table."""
    busy = psutil.cpu_percent(interval=1.0)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    idle = "quiet" if busy < 5 else "NOT QUIET: compare ratios, not seconds"
    return (
        f"{chip}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}. Before the run: processors {busy:.0f} % busy with other work, "
        f"load {load} ({idle})."
    )


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table for people and for docs."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
