"""Commands that segment and compare: predict, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import ROOT, Device, Root, progress_bar
from moe_pipeline.errors import PipelineError
from moe_pipeline.workspace import Workspace

app = typer.Typer()


@app.command()
def predict(
    images: Annotated[Path, typer.Option("-i", "--input", help="Folder of images.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for label maps and tables.")],
    prompts: Annotated[Path | None, typer.Option(help="prompts.json with clicks.")] = None,
    labels: Annotated[Path | None, typer.Option(help="References to simulate clicks from: an evaluation.")] = None,
    references: Annotated[Path | None, typer.Option("-r", "--references", help="References for dice.csv.")] = None,
    clicks: Annotated[int, typer.Option(help="Simulated clicks per class.", min=1, max=50)] = 1,
    model: Annotated[Path | None, typer.Option(help="Model folder; else the workspace's.")] = None,
    foundation: Annotated[str | None, typer.Option(help="Predict with this foundation alone.")] = None,
    selector: Annotated[str | None, typer.Option(help="weighted, specific or general; else the model's.")] = None,
    tau: Annotated[
        float | None, typer.Option(help="Threshold of the selector; else the model's.", min=0, max=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of simulated clicks.")] = 0,
    device: Device = "cpu",
    workspace: Root = ROOT,
) -> None:
    """Segment a folder of images: one label map each, cases.csv, and dice.csv where there are references."""
    from moe_pipeline.evaluation.predict_and_score import PredictOptions, predict_and_score

    options = PredictOptions(
        images, out, prompts, labels, references, clicks, model, foundation, selector, tau, seed, device
    )
    with progress_bar() as progress:
        report = predict_and_score(Workspace(workspace), options, progress)
    typer.echo(report.text)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option("-i", "--input", help="Folder of predicted label maps.")],
    references: Annotated[Path, typer.Option("-r", "--references", help="Folder of reference label maps.")],
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for dice.csv; else the input.")] = None,
) -> None:
    """Compare label maps with references, case by case and class by class."""
    from moe_pipeline.evaluation.folder import evaluate_folder
    from moe_pipeline.evaluation.summary import summarise
    from moe_pipeline.evaluation.table import n_failed
    from moe_pipeline.planning.classes import classes_beside, classes_of
    from moe_pipeline.report.tables import as_text

    with progress_bar() as progress:
        classes = classes_beside(references) or classes_of(references)
        table = evaluate_folder(predictions, references, classes, out or predictions, progress=progress)
    typer.echo(as_text(summarise(table)))
    for _, row in table[~table["status"].isin(("ok", "absent"))].iterrows():
        typer.echo(f"  {row['case']}: {row['message']}", err=True)
    if not (table["status"] == "ok").any():
        raise PipelineError(f"nothing was scored: no class of {references} is in a case that could be compared")
    if n_failed(table):
        raise typer.Exit(1)
