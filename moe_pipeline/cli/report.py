"""The command that shows what a run left."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import positive, progress_bar

app = typer.Typer()


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of a prediction, evaluation, training, model, plan or check; several for one page."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="HTML file to write; else report.html in the folder.")
    ] = None,
    max_mb: Annotated[float, typer.Option(help="Size of the file at most.", callback=positive)] = 25.0,
    cases: Annotated[
        int | None, typer.Option(help="Cases to look at, the worst first; else all, at most 60.", min=0)
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Number the cases, and leave out every path.")] = False,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if they were moved since.")] = None,
    references: Annotated[Path | None, typer.Option(help="Folder of the references, likewise.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Make one HTML page of a run that opens anywhere: tables, charts, and the scans in planes and 3D."""
    from moe_pipeline.commands.report import open_page
    from moe_pipeline.report.options import ReportOptions
    from moe_pipeline.report.write import write_report

    options = ReportOptions(max_mb=max_mb, cases=cases, anonymous=anonymous, images=images, references=references)
    with progress_bar() as progress:
        page = write_report(runs, out, options, progress)
    typer.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
    if show:
        open_page(page)
