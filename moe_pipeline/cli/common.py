"""What the commands share: options, and the progress bar."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from moe_pipeline.progress import Progress

Root = Annotated[Path, typer.Option("--workspace", help="Folder that holds everything moe writes.")]
Dataset = Annotated[str, typer.Argument(help="Dataset number, name, or the path of an nnU-Net raw folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left.")]

ROOT = Path("moe_workspace")


@contextmanager
def progress_bar() -> Iterator["Progress"]:
    """A bar with the time left on a terminal; silence elsewhere."""
    from moe_pipeline.progress import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: float, total: float) -> None:
            if stage not in tasks or done == 0:
                tasks[stage] = bars.add_task(stage, total=int(total))
            bars.update(tasks[stage], completed=int(done), total=int(total))  # type: ignore[arg-type]

        yield show
