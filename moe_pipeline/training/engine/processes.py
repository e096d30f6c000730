"""One process that trains, or several that share its batches; lightning-fabric is imported for several only."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from moe_pipeline.errors import PipelineError
from moe_pipeline.weights.device import open_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

_T = TypeVar("_T")
_PATIENCE = timedelta(days=1)  # the others wait while the first encodes or validates
_LAST_STEP = 0xFFFFFFEF  # of SLURM: numbers above are of a batch script or an interactive shell, which are one process


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together.

    Whatever they do together raises a PipelineError if another one is lost.
    """

    device: torch.device
    """Where this process computes."""
    rank: int = 0
    """Its number; the first, 0, alone writes."""
    size: int = 1
    """How many there are."""
    fabric: "Fabric | None" = None
    """What connects them; None for one."""

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, the same ones in every process, by their means over the processes, in one message."""
        if self.fabric is None or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _told_if_one_is_lost():
            self.fabric.all_reduce(flat, reduce_op="mean")
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def collect(self, part: Tensor) -> Tensor:
        """The parts of all processes, one behind the other along the first axis, on the CPU."""
        part = part.cpu()
        if self.fabric is None:
            return part
        with _told_if_one_is_lost():
            return torch.cat([self.fabric.broadcast(part, src=rank) for rank in range(self.size)])

    def from_first(self, make: Callable[[], _T]) -> _T:
        """What `make` gives in the first process, which alone calls it; its named errors are raised in all.

        Raises:
            PipelineError: as `make` does.
        """
        if self.fabric is None:
            return make()
        result: tuple[_T | None, PipelineError | None] = (None, None)
        if self.first:
            try:
                result = (make(), None)
            except PipelineError as error:
                result = (None, error)
        with _told_if_one_is_lost():
            value, fault = self.fabric.broadcast(result)
        if fault is not None:
            raise fault
        return value  # type: ignore[return-value]

    def part_of(self, count: int) -> slice:
        """Which of `count` things belong to this process.

        Raises:
            PipelineError: if there are fewer things than processes.
        """
        if count < self.size:
            raise PipelineError(f"{count} prompts per step cannot be shared by {self.size} processes; take fewer")
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)


@contextmanager
def _told_if_one_is_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PipelineError(
            f"another process of this training has ended or cannot be reached: see what it says ({error}); the same "
            "command goes on from the last checkpoint"
        ) from error


def started(environment: Mapping[str, str]) -> tuple[int, int]:
    """Nodes, and processes of each, that torchrun or srun have started to train together; (1, 1) without them.

    Raises:
        PipelineError: if the nodes have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        size, of_node = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        nodes = size // of_node
    elif _in_step_of_srun(environment):
        size, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", "1"))
        of_node = size // nodes
    else:
        return 1, 1
    if nodes * of_node != size:
        raise PipelineError(f"{size} processes on {nodes} nodes: expected as many on each; give --ntasks-per-node")
    return nodes, of_node


def _in_step_of_srun(environment: Mapping[str, str]) -> bool:
    """Whether srun has started this process; batch scripts have the number of tasks, too, and their own rank is 0."""
    step = environment.get("SLURM_STEP_ID", "")
    return (
        step.isdigit() and int(step) <= _LAST_STEP and "SLURM_PROCID" in environment and "SLURM_NTASKS" in environment
    )


def open_processes(device: str, count: int = 1) -> Processes:
    """The processes that train together: this one, or `count` of them on one kind of device.

    For several the same command is started again for each further process; those write nothing to standard output.
    Where torchrun or srun have started several, perhaps on several nodes, those are taken.

    Args:
        device: cpu, cuda, ...; with a number only for one process.
        count: processes on this machine, each with its own device of that kind.

    Raises:
        PipelineError: if there is no such device, or there are not enough.
    """
    chosen, (nodes, of_node) = open_device(device), started(os.environ)
    if nodes * of_node == count == 1:
        return Processes(chosen)
    if nodes * of_node > 1:
        if count not in (1, of_node):
            raise PipelineError(
                f"--devices {count}, but torchrun or srun have started {of_node} processes on this node"
            )
        count = of_node
    if chosen.index is not None:
        raise PipelineError(f"{count} processes cannot share {chosen}; give --device {chosen.type}")
    if chosen.type == "cuda" and torch.cuda.device_count() < count:
        raise PipelineError(f"{count} processes were asked for, but there are {torch.cuda.device_count()} GPUs")
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    strategy, plugins = DDPStrategy(timeout=_PATIENCE), [_environment(nodes, of_node)]
    fabric = Fabric(accelerator=chosen.type, devices=count, num_nodes=nodes, strategy=strategy, plugins=plugins)
    fabric.launch()
    if fabric.global_rank > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 (until this process ends)
    return Processes(fabric.device, fabric.global_rank, fabric.world_size, fabric)


def is_first() -> bool:
    """Whether this process is the first of those that train together, or the only one: no other writes anything."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not together or torch.distributed.get_rank() == 0


def _environment(nodes: int, of_node: int) -> "ClusterEnvironment":
    """Who has started the processes, said to Fabric, which would look at the name of a job and its number of tasks."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if "TORCHELASTIC_RUN_ID" in os.environ:
        return TorchElasticEnvironment()
    if nodes * of_node == 1:
        return LightningEnvironment()
    os.environ["SLURM_NTASKS_PER_NODE"] = str(of_node)  # which Fabric wants to have been given
    return SLURMEnvironment(auto_requeue=False)
