"""A thread that works beside the training without slowing it down."""

from concurrent.futures import ThreadPoolExecutor

import torch


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
