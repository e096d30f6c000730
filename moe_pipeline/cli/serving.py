"""The command serve."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import ROOT, Device, Root
from moe_pipeline.errors import PipelineError
from moe_pipeline.workspace import Workspace

app = typer.Typer()


@app.command()
def serve(
    images: Annotated[Path | None, typer.Option(help="Folder of scans to annotate.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Dataset folder for accepted scans, such as Dataset900_Liver.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder of label maps that can be opened and corrected.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder; else the workspace's.")] = None,
    foundation: Annotated[str | None, typer.Option(help="Serve this foundation alone.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; any but this machine's own needs a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for any that is free.", min=0, max=65535)] = 1527,
    api_key: Annotated[str | None, typer.Option(help="What clients have to show.")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name the server is reached by; may be repeated.")
    ] = None,
    max_sessions: Annotated[int, typer.Option(help="Sessions at once.", min=1)] = 8,
    idle_minutes: Annotated[float, typer.Option(help="After which an unused session ends.", min=0.1)] = 10.0,
    max_upload_mb: Annotated[int, typer.Option(help="Most that a client may send at once.", min=1)] = 2048,
    max_crops: Annotated[int, typer.Option(help="Crops one object may take; 1: never leave the first.", min=1)] = 64,
    precision: Annotated[str, typer.Option(help="Of the encoder: fp32 or bf16.")] = "fp32",
    device: Device = "cpu",
    workspace: Root = ROOT,
) -> None:
    """Answer 3D Slicer, napari and the annotator page over HTTP."""
    import logging

    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise PipelineError(
            f"moe serve needs {' and '.join(missing)}, not installed. Install: pip install 'moe-pipeline[serve]'"
        )
    from moe_pipeline.inference.options import ModelOptions
    from moe_pipeline.server.options import ServeOptions
    from moe_pipeline.server.serve import serve as run

    place = Workspace(workspace)
    if images is not None and dataset is None:
        dataset = place.raw("Dataset900_Annotated")
    options = ServeOptions(
        images=images,
        dataset=dataset,
        labels=labels,
        host=host,
        port=port,
        api_key=api_key,
        hosts=tuple(allow_host or ()),
        max_sessions=max_sessions,
        idle_seconds=60 * idle_minutes,
        max_upload_mb=max_upload_mb,
    )
    chosen = ModelOptions(
        model=model, foundation=foundation, max_crops=max_crops, precision=precision, device=device
    ).within(place)
    logging.getLogger("moe_pipeline.server").setLevel(logging.INFO)
    try:
        run(chosen, options, lambda address: typer.echo(f"moe serves at {address} (Ctrl-C ends it)"))
    except KeyboardInterrupt:
        typer.echo("ended; the steps of all scans are kept")
