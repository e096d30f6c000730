"""What the commands share: options, and the progress bar."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from moe_pipeline.paths import remote_url

if TYPE_CHECKING:
    from moe_pipeline.progress import Progress
    from moe_pipeline.records.moe import GateCard


def local_root(root: Path) -> Path:
    """Refuse a workspace in a store."""
    if (url := remote_url(root)) is not None:
        raise typer.BadParameter(f"{url}: only moe predict works with a store; mount it as a folder")
    return root


Root = Annotated[
    Path, typer.Option("--workspace", help="Folder that holds everything moe writes.", callback=local_root)
]
RootOrStore = Annotated[
    Path, typer.Option("--workspace", help="Folder that holds everything moe writes; or an address in a store.")
]
Dataset = Annotated[str, typer.Argument(help="Dataset number, name, or the path of an nnU-Net raw folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
Engine = Annotated[
    Literal["local", "slurm", "ray"], typer.Option(help="Where the units run: here, in SLURM's queue, or on Ray.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a Ray cluster: auto, ray://HOST:10001, HOST:6379; else one is started here.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left.")]

Risk = Annotated[
    float, typer.Option(help="Mean Dice that experts may cost on prompts they are not meant for.", min=1e-4, max=0.9)
]
Confidence = Annotated[float, typer.Option(help="That this is held.", min=0.5, max=0.9999)]

WithReport = Annotated[bool, typer.Option("--report/--no-report", help="Also write report.html beside the tables.")]

ROOT = Path("moe_workspace")
FIXES = ("safe", "snap", "round", "resample-labels", "split-4d", "sform", "qform", "pixdim", "mm", "union")
"""Values of --fix, as `records.check.FIXES`, which is not loaded before a command runs."""


def positive(value: float | None) -> float | None:
    """Refuse an option that is no number above 0: a limit of 0 or NaN is a slip, and stands for no default."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"must be a number above 0, got {value:g}")
    return value


@contextmanager
def progress_bar(*, lines: bool = False) -> Iterator["Progress"]:
    """A bar with the time left on a terminal; elsewhere nothing, or with `lines` one line when a stage begins."""
    if sys.stderr.isatty():
        with _bars() as show:
            yield show
    elif lines:
        yield _stage_lines()
    else:
        from moe_pipeline.progress import silent

        yield silent


@contextmanager
def _bars() -> Iterator["Progress"]:
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


def _stage_lines() -> "Progress":
    """For a log: `[  12 s] encoding Dataset004_Hippocampus (108)` when a stage begins."""
    began, current = time.monotonic(), ""

    def show(stage: str, done: float, total: float) -> None:
        nonlocal current
        if stage == current and done != 0:
            return
        current = stage
        typer.echo(f"[{time.monotonic() - began:4.0f} s] {stage} ({total:g})", err=True)

    return show


def show_report(folder: Path, wanted: bool) -> None:
    """Write the page of a run that is done, and print where it is, or why there is none."""
    if not wanted:
        return
    from moe_pipeline.commands.report import report_line

    with progress_bar() as progress:
        line = report_line([folder], progress=progress)
    typer.echo(line)


def show_routing(card: "GateCard") -> None:
    """Print who answers the validation prompts of each dataset."""
    for name, shares in card.confusion.items():
        typer.echo(f"  {name}: " + ", ".join(f"{output} {share:.1%}" for output, share in shares.items()))


_OFTEN_ENOUGH = 0.5
"""An expert that answers less of its own prompts is called silent."""


def show_claims(card: "GateCard") -> None:
    """Print what the gate guarantees, and when each expert answers; warn of those that stay silent."""
    if card.claims is None:
        return
    of = card.claims.guarantee
    held = "" if of.held else f"; the {of.risk:g} asked for cannot be shown with so few prompts"
    lost = "" if of.lost is None else f" ({of.lost:.4f} without what is won)"
    each = "" if of.first_loss is None else f"; {of.first_loss:.4f} with one click, {of.corrected_loss:.4f} with five"
    typer.echo(
        f"  general prompts lose at most {of.bound:.4f} Dice on average ({of.confidence:.0%} confidence), measured "
        f"{of.mean_loss:.4f}{lost}{each}; on {of.prompts} prompts, {of.answered:.1%} answered by an expert{held}"
    )
    for name, claim in card.claims.experts.items():
        typer.echo(
            f"  {name}: answers {claim.answered:.0%} of its own {claim.prompts} validation prompts and wins "
            f"{claim.wins:+.3f} Dice on average (all of them: {claim.could_win:+.3f})"
        )
        if claim.answered < _OFTEN_ENOUGH:
            typer.secho(
                f"  {name} stays silent on {1 - claim.answered:.0%} of its own prompts: its images or its answers are "
                "too like what it may not touch; more patients, more training or a higher --risk let it speak",
                fg="yellow",
                err=True,
            )


class BareFix(TyperCommand):
    """A command whose option `--fix` may stand without a value, which then is `safe`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the value that was left out."""
        told: list[str] = []
        for word, following in zip(args, [*args[1:], ""], strict=True):
            told += [word, FIXES[0]] if word == "--fix" and following not in FIXES else [word]
        return super().parse_args(ctx, told)
