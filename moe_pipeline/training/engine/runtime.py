"""A thread that works beside the training without slowing it down."""

import ctypes
import logging
from concurrent.futures import ThreadPoolExecutor

import torch

_log = logging.getLogger(__name__)

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of mallopt's settings in malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees for its next use, where the C library is glibc.

    By default glibc gives large blocks back to the system at once, and every step of training gets the same blocks
    again, zeroed page by page: about a third of the time of a step on a CPU.

    Returns:
        Whether the C library took the settings.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        _log.info("no mallopt in this C library: freed memory is not kept")
        return False
    return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, _LARGEST))


def quiet_worker() -> ThreadPoolExecutor:
    """One thread, whose torch operations take no OpenMP threads of their own.

    With a second team of OpenMP threads there are more of them than processors. libgomp then lets each fall asleep as
    soon as it waits, also those of the training, which have to be woken for every operation: a step of a small network
    on two processors takes a fifth longer.
    """
    count = torch.get_num_threads()
    worker = ThreadPoolExecutor(max_workers=1)
    worker.submit(torch.set_num_threads, 1).result()
    torch.set_num_threads(count)  # of this thread, and of those that are yet to be made
    return worker
