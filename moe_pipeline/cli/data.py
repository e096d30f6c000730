"""Commands on datasets: convert, plan."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_pipeline.cli.common import (
    FIXES,
    ROOT,
    BareFix,
    Dataset,
    Engine,
    RayAddress,
    Root,
    WithReport,
    progress_bar,
    show_report,
)
from moe_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from moe_pipeline.cluster.engines import EngineOptions
    from moe_pipeline.commands.convert import ConvertOnEngine

app = typer.Typer()
_MAX_REMARKS = 10


@app.command(cls=BareFix)
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of the raw dataset.")],
    out: Annotated[str, typer.Option(help="Dataset name such as Dataset004_Hippocampus, or a folder path.")] = "",
    source_format: Annotated[str | None, typer.Option("--as", help="Source format; recognised if not given.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help='JSON of classes to make: {"liver": [1, 2], "tumour": 3, "background": "*"}.')
    ] = None,
    images: Annotated[str, typer.Option(help="Template of image paths: '{patient}/{visit}_{channel}.nii.gz'.")] = "",
    masks: Annotated[str, typer.Option(help="Template of label paths; {class} where each shows one class.")] = "",
    channels: Annotated[str, typer.Option(help="Channels to take, in order: FLAIR,T1. Names a single one: CT.")] = "",
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Smallest fraction inside a fractional DICOM segment; else 0.5.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Say all that is wrong with it, and convert nothing.")] = False,
    fix: Annotated[
        list[str] | None,
        typer.Option(help=f"Mend what is safe on the way, or ask for one of {', '.join(FIXES)}; may be repeated."),
    ] = None,
    patients: Annotated[
        str | None, typer.Option(help="With --check: regular expression that finds the patient in a case id.")
    ] = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    report: WithReport = True,
    workspace: Root = ROOT,
) -> None:
    """Convert a raw dataset to nnU-Net v2's layout, or check it."""
    from dataset_conversion.checking.check import check as check_dataset
    from dataset_conversion.checking.findings_text import as_table
    from dataset_conversion.checking.fixing import fixes_named
    from dataset_conversion.convert import convert as convert_dataset
    from dataset_conversion.label_map import LabelMap
    from dataset_conversion.layout import Options
    from dataset_conversion.naming import suggest_name
    from moe_pipeline.cluster.engines import EngineOptions
    from moe_pipeline.records.names import printable

    place = Workspace(workspace)
    options = Options(images, masks, tuple(name.strip() for name in channels.split(",") if name.strip()), threshold)
    label_map = LabelMap.load(labels) if labels else None
    if check:
        name = Path(out).name or source.resolve().name
        with progress_bar() as progress:
            found = check_dataset(
                source,
                place.checks(name),
                source_format,
                progress,
                options=options,
                label_map=label_map,
                patient_pattern=patients,
                splits=place.splits(name),
            )
        typer.echo(as_table(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
        typer.echo(f"all of it: {place.checks(name) / 'check.txt'} and check.json")
        show_report(place.checks(name), report)
        raise typer.Exit(1 if found.errors else 0)
    name = out or suggest_name(source)
    target = Path(name) if "/" in name else place.raw(name)
    fixes = fixes_named(fix or ())
    run = _converter(EngineOptions(engine=engine, ray_address=ray_address), place, source)
    if run is not None:  # a worker may stand in another folder
        source, target = source.resolve(), target.resolve()
    with progress_bar() as progress:
        converted = convert_dataset(
            source, target, source_format, progress, options=options, label_map=label_map, fixes=fixes, run=run
        )
    sums = [f"  {line}" for one in converted.accounting for line in one.lines()]
    typer.echo("\n".join([converted.summary(), *(f"  {note}" for note in converted.notes), *sums]))
    if fixes:
        typer.echo(
            "\n".join(f"  {row.case_id}: {row.message}" for row in converted.changed) or "  nothing was repaired"
        )
    elif remarked := [f"  {row.case_id}: {row.remarks}" for row in converted.changed if row.remarks]:
        more = [f"  ... and {len(remarked) - _MAX_REMARKS} more, see conversion.json"] * (len(remarked) > _MAX_REMARKS)
        typer.echo("\n".join([*remarked[:_MAX_REMARKS], *more]))
    for row in converted.failed:
        typer.echo(f"  {printable(row.case_id)}: {row.message}", err=True)
    for warning in converted.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if converted.failed:
        raise typer.Exit(1)


def _converter(options: "EngineOptions", place: Workspace, source: Path) -> "ConvertOnEngine | None":
    from moe_pipeline.cluster.engines import engine_file, open_engine
    from moe_pipeline.commands.convert import ConvertOnEngine

    if options.is_local:
        return None
    return ConvertOnEngine(open_engine(options), engine_file(place).of("convert"), source)


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
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every choice and class as tables, with reasons.")
    ] = False,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    report: WithReport = True,
    workspace: Root = ROOT,
) -> None:
    """Check a dataset, take its fingerprint, plan views, crops and training, split it into folds."""
    from moe_pipeline.commands.learning import plan as plan_dataset

    with progress_bar() as progress:
        made = plan_dataset(
            dataset,
            foundation=foundation,
            seed=seed,
            patients=patients,
            skip_faulty=skip_faulty,
            engine=engine,
            ray_address=ray_address,
            workspace=workspace,
            progress=progress,
        )
    typer.echo(made.summary())
    if explain:
        typer.echo("\n" + made.explain(shutil.get_terminal_size((120, 24)).columns))
    show_report(Workspace(workspace).plans(made.plan.dataset), report)
