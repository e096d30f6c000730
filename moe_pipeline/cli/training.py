"""Commands that train: finetune, train-gate, pretrain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moe_pipeline.cli.common import (
    ROOT,
    Confidence,
    Device,
    Engine,
    Overwrite,
    RayAddress,
    Risk,
    Root,
    WithReport,
    positive,
    progress_bar,
    show_claims,
    show_report,
    show_routing,
)
from moe_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from moe_pipeline.cluster.engines import EngineOptions
    from moe_pipeline.training.expert.finetune import FinetuneOptions

app = typer.Typer()

Rule = Literal["moe", "paper"]
Targets = Literal["dataset", "dice"]
Trainable = Literal["decoder", "all"]
Precision = Literal["auto", "fp32", "bf16"]
Logger = Literal["tensorboard"]


@app.command()
def finetune(
    datasets: Annotated[list[str], typer.Argument(help="Number, name, or path of each nnU-Net raw folder.")],
    fold: Annotated[str, typer.Option(help="Fold held out for validation; all: each in turn.")] = "0",
    epochs: Annotated[int | None, typer.Option(help="Instead of the plan's.", min=1)] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop training after this time.", callback=positive)] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without progress.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the schedule.", callback=positive)] = None,
    rehearsal: Annotated[
        float, typer.Option(help="Prompts on synthetic scans beside each of its own; see docs/finetune.md.")
    ] = 0.2,
    trainable: Annotated[Trainable, typer.Option(help="decoder: an expert. all: the whole network.")] = "decoder",
    click_proposer: Annotated[bool, typer.Option(help="Also train what predicts without prompts.")] = True,
    device: Device = "cpu",
    devices: Annotated[int, typer.Option(help="Processes that share each batch, each with its device.", min=1)] = 1,
    precision: Annotated[
        Precision, typer.Option(help="Of the forward pass; auto: bf16 where the device is faster with it.")
    ] = "auto",
    logger: Annotated[Logger | None, typer.Option(help="Who is told of each validation, too.")] = None,
    continued: Annotated[
        bool, typer.Option("--continue", help="Take in cases that were added since, from the expert's weights.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Folds at once, where there are several.", min=1)] = 1,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    overwrite: Overwrite = False,
    report: WithReport = True,
    workspace: Root = ROOT,
) -> None:
    """Train one expert mask decoder on the cached embeddings of each dataset; or, to compare, the whole network."""
    from moe_pipeline.cluster.engines import EngineOptions
    from moe_pipeline.cluster.finetuning import folds_of
    from moe_pipeline.commands.learning import finetune_options
    from moe_pipeline.training.engine.loggers import named_loggers
    from moe_pipeline.training.engine.processes import is_first
    from moe_pipeline.training.expert.finetune import finetune as train
    from moe_pipeline.training.expert.full_finetune import finetune_whole

    place, chosen = Workspace(workspace), EngineOptions(engine=engine, ray_address=ray_address, jobs=jobs)
    folders = list(dict.fromkeys(place.raw_folder(dataset) for dataset in datasets))
    folds = [(folder.name, number) for folder in folders for number in folds_of(place, folder.name, fold)]
    options = finetune_options(
        fold=folds[0][1],
        epochs=epochs,
        max_minutes=max_minutes,
        patience=patience,
        learning_rate=learning_rate,
        rehearsal=rehearsal,
        click_proposer=click_proposer,
        device=device,
        devices=devices,
        precision=precision,
        continued=continued,
        overwrite=overwrite,
    )
    if len(folds) > 1 or not chosen.is_local:
        _folds(place, folds, options, chosen, whole=trainable == "all", logger=logger)
        return
    (folder,), fold_number = folders, folds[0][1]
    out = place.sft(folder.name, fold_number) if trainable == "all" else place.expert(folder.name, fold_number)
    loggers = named_loggers([logger] if logger else [], out, anew=overwrite)
    if trainable == "all":
        with progress_bar() as progress:
            whole = finetune_whole(place, folder, options, progress, loggers)
        scores = ", ".join(f"{name} {value:.3f}" for name, value in whole.training["validation"].items())
        typer.echo(f"{out}: best at step {whole.training['best_step']}; validation {scores}")
        show_report(out, report and is_first())
        return
    with progress_bar() as progress:
        card = train(place, folder, options, progress, loggers)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in card.validation.items())
    typer.echo(f"{out}: best at step {card.best_step}; validation {scores}")
    if card.click_proposer:
        found = ", ".join(f"{name} {value:.3f}" for name, value in card.click_proposer.validation.items())
        typer.echo(f"  its click proposer: {found}")
    show_report(out, report and is_first())


def _folds(
    place: Workspace,
    folds: list[tuple[str, int]],
    options: "FinetuneOptions",
    chosen: "EngineOptions",
    *,
    whole: bool,
    logger: str | None,
) -> None:
    """Train several folds, each a unit."""
    from moe_pipeline.cluster.finetuning import finetune_folds_on

    if logger is not None:
        raise typer.BadParameter("--logger is for one dataset and one fold")
    with progress_bar() as progress:
        found = finetune_folds_on(chosen, place, folds, options, progress, whole=whole)
    for one in found:
        typer.echo(f"{one.folder}: {one.text}", err=one.failed)
    if any(one.failed for one in found):
        raise typer.Exit(1)


@app.command("train-gate")
def train_gate(
    datasets: Annotated[list[str], typer.Argument(help="Datasets whose experts join.")],
    general: Annotated[list[str] | None, typer.Option(help="Planned datasets that stay with the foundation.")] = None,
    fold: Annotated[int, typer.Option(help="The fold the experts were trained on.")] = 0,
    synthetic: Annotated[int, typer.Option(help="Synthetic volumes as further general data.", min=0)] = 160,
    background_clicks: Annotated[
        bool, typer.Option(help="Clicks on unlabelled places of the same images stay with the foundation.")
    ] = True,
    targets: Annotated[
        Targets, typer.Option(help="Who should answer: the dataset's expert, or who segments the object better.")
    ] = "dataset",
    margin: Annotated[float, typer.Option(help="Dice by which an expert must be better, for dice.", min=0)] = 0.02,
    rule: Annotated[
        Rule, typer.Option(help="paper: the published rule, without OOD detectors and background.")
    ] = "moe",
    risk: Risk = 0.002,
    confidence: Confidence = 0.95,
    device: Device = "cpu",
    report: WithReport = True,
    workspace: Root = ROOT,
) -> None:
    """Train the gate on the mixed embeddings of all datasets and write the model folder."""
    from moe_pipeline.commands import learning

    place = Workspace(workspace)
    with progress_bar() as progress:
        card = learning.train_gate(
            datasets,
            general=general or [],
            fold=fold,
            synthetic=synthetic,
            background_clicks=background_clicks,
            targets=targets,
            margin=margin,
            rule=rule,
            risk=risk,
            confidence=confidence,
            device=device,
            workspace=workspace,
            progress=progress,
        )
    typer.echo(f"{place.model}: tau {card.tau:g}, calibration error {card.calibration_error:.3f}")
    show_routing(card)
    show_claims(card)
    show_report(place.model, report)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and weights.")] = Path("pretraining"),
    preset: Annotated[str, typer.Option(help="Sizes and view: one of plans/foundations, or a JSON file.")] = "nano",
    name: Annotated[str | None, typer.Option(help="Name of the weights; else the preset's.")] = None,
    max_minutes: Annotated[float, typer.Option(help="Time limit, resumed parts together.", callback=positive)] = 60.0,
    steps: Annotated[int, typer.Option(help="Steps at most.", min=1)] = 20_000,
    learning_rate: Annotated[float, typer.Option(help="Peak of the schedule.", callback=positive)] = 8e-4,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "bf16",
    seed: Annotated[int, typer.Option(help="Of weights, volumes and clicks.")] = 0,
    start: Annotated[str | None, typer.Option(help="Foundation to go on from; else random weights.")] = None,
    frozen_encoder: Annotated[bool, typer.Option("--frozen-encoder", help="Train all but the image encoder.")] = False,
    label_maps: Annotated[Path | None, typer.Option(help="Folder with label maps to paint most volumes on.")] = None,
    volumes: Annotated[int | None, typer.Option(help="Volumes per step; else 3.", min=1)] = None,
    painters: Annotated[int, typer.Option(help="Processes that paint; 0: paint on the device.", min=0)] = 1,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Pretrain a foundation on synthetic volumes."""
    from moe_pipeline.presets import load_preset
    from moe_pipeline.training.pretrain import PretrainOptions, pretrain_foundation
    from moe_pipeline.weights.device import open_device
    from moe_pipeline.weights.training_state import remove_training_state

    name = name or Path(preset).stem
    options = PretrainOptions(
        preset=preset,
        name=name,
        max_minutes=max_minutes,
        steps=steps,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
        device=device,
        start=start,
        frozen_encoder=frozen_encoder,
        label_maps=label_maps,
        volumes=volumes,
        painters=painters,
    )
    if overwrite and load_preset(preset) and open_device(device):  # a slip must not cost the earlier run
        remove_training_state(out / "checkpoint.safetensors")
    with progress_bar() as progress:
        card = pretrain_foundation(out, options, progress)
    typer.echo(f"{out / card.name}.safetensors: validation Dice {card.training['best_score']:.3f}")


@app.command()
def gallery(
    out: Annotated[Path, typer.Option("-o", "--output", help="PNG to write.")] = Path("synthetic.png"),
    count: Annotated[int, typer.Option(help="Volumes to show, four in a row.", min=1, max=400)] = 16,
    seed: Annotated[int, typer.Option(help="Which synthetic set.")] = 0,
    size: Annotated[int, typer.Option(help="Voxels per edge.", min=32, max=256)] = 64,
) -> None:
    """Draw synthetic volumes, the object to segment outlined: what pretraining sees."""
    from moe_pipeline.synthetic.gallery import write_gallery

    write_gallery(out, seed, count, size)
    typer.echo(f"{out}: {count} synthetic volumes")
