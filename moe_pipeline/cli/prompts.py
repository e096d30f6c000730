"""Commands on prompts: convert, simulate."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import progress_bar

app = typer.Typer(help="Convert prompts between formats, and make them from references.", no_args_is_help=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="File of prompts, or a folder with one per case.")],
    to: Annotated[str, typer.Option(help="prompts.json, mrk.json, fcsv or napari.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="File for prompts.json, else a folder or a file.")],
    images: Annotated[
        Path | None, typer.Option("--images", "--image", help="Folder of the images, or the only one.")
    ] = None,
) -> None:
    """Write prompts in another format: of ours, 3D Slicer, napari, CVPR25 archives, or from masks."""
    from moe_pipeline.prompts.convert import convert_prompts

    _tell(out, convert_prompts(source, to, out, images))


@app.command()
def simulate(
    labels: Annotated[Path, typer.Option(help="Folder of reference label maps.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="prompts.json to be written.")],
    user: Annotated[str, typer.Option(help="random, centre, jitter or error.")] = "random",
    clicks: Annotated[int, typer.Option(help="Per object.", min=1, max=50)] = 1,
    seed: Annotated[int, typer.Option(help="Same seed, same clicks.")] = 0,
    jitter_mm: Annotated[float, typer.Option(help="How far jitter moves clicks, as a standard deviation.", min=0)] = 5,
    predictions: Annotated[Path | None, typer.Option(help="For error: label maps to be corrected.")] = None,
) -> None:
    """Let a simulated user click on every class of every reference. The file says which simulated user it was."""
    from moe_pipeline.prompts.simulate import SimulatedUserOptions, simulate_prompts

    options = SimulatedUserOptions(user, clicks, seed, jitter_mm, predictions)  # type: ignore[arg-type]
    with progress_bar() as progress:
        failed = simulate_prompts(labels, out, options, progress)
    _tell(out, failed)


def _tell(out: Path, failed: dict[str, str]) -> None:
    typer.echo(f"{out}: written" + (f", without {len(failed)} cases" if failed else ""))
    for case, reason in failed.items():
        typer.echo(f"  {case}: {reason}", err=True)
    if failed:
        raise typer.Exit(1)
