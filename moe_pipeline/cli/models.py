"""Commands on finished models: experts that join and leave, export, import."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import (
    ROOT,
    Confidence,
    Dataset,
    Device,
    Overwrite,
    Risk,
    Root,
    progress_bar,
    show_claims,
    show_routing,
)
from moe_pipeline.workspace import Workspace

app = typer.Typer()
experts = typer.Typer(help="Experts of a model: list, add, update, remove.", no_args_is_help=True)

Model = Annotated[Path | None, typer.Option(help="Model folder; else the workspace's.")]


@experts.command("list")
def experts_list(model: Model = None, workspace: Root = ROOT) -> None:
    """List the experts of a model."""
    import pandas as pd

    from moe_pipeline.report.tables import as_text
    from moe_pipeline.training.gate.add_expert import list_experts

    found = list_experts(model or Workspace(workspace).model)
    typer.echo(as_text(pd.DataFrame(found)) if found else "no experts: this model is its foundation alone")


@experts.command("add")
def experts_add(
    dataset: Dataset,
    model: Model = None,
    risk: Risk = 0.002,
    confidence: Confidence = 0.95,
    fold: Annotated[int | None, typer.Option(help="Of the expert; needed where there are several.", min=0)] = None,
    device: Device = "cpu",
    workspace: Root = ROOT,
) -> None:
    """Let a finetuned expert join a model, without the data of the others; their answers stay what they are."""
    from moe_pipeline.commands import learning

    with progress_bar() as progress:
        card = learning.add_expert(
            dataset,
            model=model,
            risk=risk,
            confidence=confidence,
            fold=fold,
            device=device,
            workspace=workspace,
            progress=progress,
        )
    folder = model or Workspace(workspace).model
    typer.echo(f"{folder}: {card.outputs[1]} joined; it speaks where its weight is above {card.tau:g}")
    show_routing(card)
    show_claims(card)


@experts.command("update")
def experts_update(
    dataset: Dataset,
    model: Model = None,
    risk: Risk = 0.002,
    confidence: Confidence = 0.95,
    fold: Annotated[int | None, typer.Option(help="Of the expert; needed where there are several.", min=0)] = None,
    device: Device = "cpu",
    workspace: Root = ROOT,
) -> None:
    """Renew an expert that was finetuned again, and its gate, without the data of the others."""
    from moe_pipeline.commands import learning

    with progress_bar() as progress:
        card = learning.update_expert(
            dataset,
            model=model,
            risk=risk,
            confidence=confidence,
            fold=fold,
            device=device,
            workspace=workspace,
            progress=progress,
        )
    folder = model or Workspace(workspace).model
    typer.echo(f"{folder}: {card.outputs[1]} is renewed; it speaks where its weight is above {card.tau:g}")
    show_routing(card)
    show_claims(card)


@experts.command("remove")
def experts_remove(
    dataset: Annotated[str, typer.Argument(help="Dataset of the expert, by its full name.")],
    model: Model = None,
    workspace: Root = ROOT,
) -> None:
    """Take an expert out of a model; the answers of the others stay what they are."""
    from moe_pipeline.training.gate.add_expert import remove_expert

    folder = model or Workspace(workspace).model
    left = [entry.dataset for entry in remove_expert(folder, dataset).experts]
    typer.echo(f"{folder}: {dataset} left; experts: {', '.join(left) or 'none, the foundation answers alone'}")


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="File ending in .zip, or folder, to write.")],
    model: Model = None,
    with_foundation: Annotated[bool, typer.Option("--with-foundation", help="Copy its weights too.")] = False,
    without_features: Annotated[
        bool, typer.Option("--without-features", help="Leave out the gate features; no expert can join then.")
    ] = False,
    overwrite: Overwrite = False,
    workspace: Root = ROOT,
) -> None:
    """Write a model as one file or folder to give away: experts, gate, and the foundation or its card."""
    from moe_pipeline.mixture.share import export_model

    place = Workspace(workspace)
    manifest = export_model(
        model or place.model,
        out,
        place.weights,
        with_foundation=with_foundation,
        with_features=not without_features,
        overwrite=overwrite,
    )
    size_mb = sum(file.n_bytes for file in manifest.files.values()) / 1e6
    foundation = "with" if with_foundation else "without the weights of"
    typer.echo(
        f"{out}: {len(manifest.files)} files, {size_mb:.1f} MB, {foundation} the foundation {manifest.foundation}"
    )


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="What `moe export` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Model folder to make; else the workspace's.")] = None,
    overwrite: Overwrite = False,
    workspace: Root = ROOT,
) -> None:
    """Check an exported model file by file and take it into the workspace."""
    from moe_pipeline.mixture.share import foundation_is_there, import_model

    place = Workspace(workspace)
    target = out or place.model
    manifest = import_model(source, target, overwrite=overwrite)
    typer.echo(f"{target}: {len(manifest.files)} files, all as their manifest says")
    if not foundation_is_there(target, place.weights):
        typer.echo(
            f"It needs the foundation {manifest.foundation} with sha256 {manifest.foundation_sha256}: "
            f"bring it with `moe weights import` or `moe weights fetch {manifest.foundation}`"
        )
