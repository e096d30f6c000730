"""Commands on datasets: convert, plan."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import ROOT, Dataset, Root, progress_bar
from moe_pipeline.workspace import Workspace

app = typer.Typer()


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of the raw dataset.")],
    out: Annotated[str, typer.Option(help="Dataset name such as Dataset004_Hippocampus, or a folder path.")] = "",
    source_format: Annotated[str | None, typer.Option("--as", help="Source format; recognised if not given.")] = None,
    workspace: Root = ROOT,
) -> None:
    """Convert a raw dataset to nnU-Net v2's layout."""
    from dataset_conversion.convert import convert as convert_dataset
    from dataset_conversion.naming import suggest_name

    name = out or suggest_name(source)
    target = Path(name) if "/" in name else Workspace(workspace).raw(name)
    with progress_bar() as progress:
        report = convert_dataset(source, target, source_format, progress)
    typer.echo(report.summary())
    for row in report.failed:
        typer.echo(f"  {row.case_id}: {row.message}", err=True)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def plan(
    dataset: Dataset,
    foundation: Annotated[str, typer.Option(help="Preset or imported weights to plan for.")] = "nano",
    seed: Annotated[int, typer.Option(help="Of crops, training and folds.")] = 0,
    patients: Annotated[
        str | None, typer.Option(help="Regular expression that finds the patient in a case id.")
    ] = None,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help="Go on without the cases that have errors.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print every choice with its reason.")] = False,
    workspace: Root = ROOT,
) -> None:
    """Check a dataset, take its fingerprint, plan views, crops and training, split it into folds."""
    from moe_pipeline.planning.plan_dataset import plan_dataset

    place = Workspace(workspace)
    folder = place.raw_folder(dataset)
    with progress_bar() as progress:
        made = plan_dataset(
            folder,
            place.plans(folder.name),
            foundation,
            place.weights,
            seed,
            progress,
            leave_out_faulty=skip_faulty,
            patient_pattern=patients,
        )
    typer.echo(made.summary())
    if explain:
        typer.echo("\n".join(f"  {field}: {reason}" for field, reason in made.plan.reasons.items()))
