import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from moe_pipeline.training.engine.loop import InterruptedRunError, LoopSettings, Task, run_loop

Weights = dict[str, Tensor]


@pytest.fixture
def whole_and_in_parts(tmp_path: Path) -> Callable[[Callable[[], Task], LoopSettings, int], tuple[Weights, Weights]]:
    """Weights after an undisturbed run, and after one that Ctrl-C ended in some step and that was gone on with."""

    def run(make: Callable[[], Task], settings: LoopSettings, interrupt_at: int) -> tuple[Weights, Weights]:
        def learn(folder: str, stop: int | None = None) -> Weights:
            task = make()
            answer = task.loss

            def loss(step: int) -> Tensor:
                if step == stop:
                    signal.raise_signal(signal.SIGINT)
                return answer(step)

            task.loss = loss  # type: ignore[method-assign]
            try:
                run_loop(task, settings, tmp_path / folder, torch.device("cpu"))
            finally:
                task.close()  # type: ignore[attr-defined]
            return {name: tensor.detach() for name, tensor in task.module.named_parameters()}

        expected = learn("whole")
        with pytest.raises(InterruptedRunError):
            learn("parts", interrupt_at)
        return expected, learn("parts")

    return run
