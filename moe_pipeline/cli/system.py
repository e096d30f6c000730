"""Commands around the job: demo, doctor."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import ROOT, Root, progress_bar
from moe_pipeline.workspace import Workspace

app = typer.Typer()


@app.command()
def demo(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", help="Where to work; else a temporary folder.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="End the training of each expert after this time.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the report, if there is a display.")] = False,
) -> None:
    """Run the whole job on small synthetic datasets: general against expert against mixture."""
    from moe_pipeline.commands.demo import run_demo

    with progress_bar(lines=True) as progress:
        report = run_demo(workspace, minutes, progress, show=show)
    typer.echo(report)


@app.command()
def doctor(
    case: Annotated[
        Path | None, typer.Option("--for", help="State the memory that `moe predict` takes for this image instead.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="With --for: model folder; else the workspace's.")] = None,
    foundation: Annotated[str | None, typer.Option(help="With --for: this foundation alone.")] = None,
    workspace: Root = ROOT,
) -> None:
    """Show versions, devices, memory, disk, weights, and what the workspace holds."""
    from moe_pipeline.commands.doctor import examine, expect
    from moe_pipeline.inference.options import ModelOptions

    place = Workspace(workspace)
    if case is None:
        found = examine(place)
    else:
        found = expect(case, ModelOptions(model=model, foundation=foundation).within(place))
    for topic, finding in found:
        typer.echo(f"{topic:24s} {finding}")
