"""Commands on foundations: list, import, verify, fetch."""

from pathlib import Path
from typing import Annotated

import typer

from moe_pipeline.cli.common import ROOT, Overwrite, Root
from moe_pipeline.errors import PipelineError
from moe_pipeline.workspace import Workspace

app = typer.Typer(help="Foundations: list, import, verify, fetch.", no_args_is_help=True)


@app.command("list")
def weights_list(workspace: Root = ROOT) -> None:
    """List the foundations that can be used."""
    from moe_pipeline.weights.store import files_without_card, list_foundations

    place = Workspace(workspace)
    for stored in list_foundations(place.weights):
        card, kind = stored.card, "built in" if stored.builtin else "imported"
        typer.echo(
            f"{card.name}: {card.view.in_words}, {kind}, licence {card.licence}, sha256 {card.weights_sha256[:12]}"
        )
    for path in files_without_card(place.weights):
        typer.echo(f"{path}: without a card, so it cannot be used; bring it again with `moe weights import`", err=True)


@app.command("import")
def weights_import(
    file: Annotated[
        Path, typer.Argument(help="Official file of SAM-Med3D or SegVol (.pth, .bin), or its tensors as .safetensors.")
    ],
    name: Annotated[str | None, typer.Option(help="Name to use it by; else the file's.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON with sizes, if not the published ones.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    origin: Annotated[str | None, typer.Option(help="Where the file comes from.")] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="For text prompts: CLIP's tokenizer.json, or folder with vocab.json, merges.txt."),
    ] = None,
    overwrite: Overwrite = False,
    workspace: Root = ROOT,
) -> None:
    """Import an official checkpoint: checked, then kept as safetensors with a card."""
    from moe_pipeline.weights.load import import_checkpoint, read_config

    if not file.is_file():
        raise PipelineError(
            f"{file}: no such file; expected an official checkpoint such as sam_med3d_turbo.pth or SegVol_v1.pth"
        )
    sizes = read_config(config) if config else None
    place = Workspace(workspace).weights
    card = import_checkpoint(
        file, place, name=name, config=sizes, licence=licence, origin=origin, tokenizer=tokenizer, overwrite=overwrite
    )
    typer.echo(f"{place / card.name}.safetensors: imported; use it as `moe plan D --foundation {card.name}`")
    typer.echo(f"licence of the weights: {card.licence}")


@app.command("verify")
def weights_verify(name: Annotated[str, typer.Argument(help="Foundation to check.")], workspace: Root = ROOT) -> None:
    """Check hash, names, shapes and values of stored weights."""
    from moe_pipeline.weights.load import verify_foundation

    card = verify_foundation(name, Workspace(workspace).weights)
    typer.echo(f"{card.name}: as its card says, sha256 {card.weights_sha256}")


@app.command("fetch")
def weights_fetch(
    name: Annotated[str, typer.Argument(help="Published weights, e.g. sam_med3d_turbo.")], workspace: Root = ROOT
) -> None:
    """Download published weights and import them."""
    from moe_pipeline.weights.fetch import fetch_foundation

    card = fetch_foundation(name, Workspace(workspace).weights)
    typer.echo(f"{card.name}: fetched from {card.source}")
