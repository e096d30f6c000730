"""The thread beside the training."""

import torch

from moe_pipeline.training.engine.runtime import quiet_worker


def test_the_worker_computes_alone_and_nobody_else_has_to() -> None:
    count = torch.get_num_threads()
    with quiet_worker() as worker, quiet_worker() as another:
        assert worker.submit(torch.get_num_threads).result() == 1
        assert another.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == count
