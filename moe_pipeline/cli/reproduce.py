"""Commands that make a table of the paper from raw data."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import Device, Root, positive, progress_bar
from moe_pipeline.workspace import Workspace

app = typer.Typer(help="A table of the paper from raw data.", no_args_is_help=True)


@app.callback()
def _tables() -> None:
    """Keep the name of the table a word of its own while there is only one."""


@app.command()
def totalsegmentator(
    source: Annotated[Path, typer.Argument(help="TotalSegmentator's dataset: a folder per case, meta.csv.")],
    classes: Annotated[
        Path | None, typer.Option(help="JSON of classes, like plans/totalsegmentator_classes.json.")
    ] = None,
    foundation: Annotated[str, typer.Option(help="Preset or imported weights.")] = "nano",
    clicks: Annotated[
        list[int] | None, typer.Option(help="Clicks per object; repeat for more tables.", min=1, max=50)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each training; instead of the plan's.", min=1)] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Of each of the two trainings.", callback=positive)] = None,
    seed: Annotated[int, typer.Option(help="Of crops, training and clicks.")] = 0,
    device: Device = "cpu",
    workspace: Root = Path("moe_totalsegmentator"),
) -> None:
    """Compare general expert, expert, wholly finetuned network and mixture, class by class.

    Repeated, the command goes on where it stopped.
    """
    from moe_pipeline.commands.reproduce import ReproduceOptions, reproduce_totalsegmentator
    from moe_pipeline.presets import PaperClasses, totalsegmentator_classes
    from moe_pipeline.training.expert.session import FinetuneOptions

    options = ReproduceOptions(
        classes=PaperClasses.load(classes) if classes else totalsegmentator_classes(),
        foundation=foundation,
        clicks=tuple(clicks or (1,)),
        training=FinetuneOptions(epochs=epochs, max_minutes=max_minutes, device=device, click_proposer=None),
        seed=seed,
    )
    place = Workspace(workspace)
    with progress_bar(lines=True) as progress:
        found = reproduce_totalsegmentator(place, source, options, progress)
    typer.echo(f"{found.text}\nTables: {place.root / 'evaluation'}")
    for failure in found.failures:
        typer.echo(f"  {failure}", err=True)
    if found.failures:
        raise typer.Exit(1)
