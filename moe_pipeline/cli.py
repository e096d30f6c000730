"""The command line: parses, calls one function, prints. Everything heavy is imported inside the commands."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_pipeline import __version__
from moe_pipeline.errors import PipelineError
from moe_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from moe_pipeline.progress import Progress

app = typer.Typer(
    help="SAM-Med3D-MoE: finetune experts on a frozen 3D foundation model, and forget nothing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
weights_app = typer.Typer(help="Foundations: list, import, verify, fetch.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

Root = Annotated[Path, typer.Option("--workspace", help="Folder that holds everything moe writes.")]
Dataset = Annotated[str, typer.Argument(help="Dataset number, name, or the path of an nnU-Net raw folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left.")]

_ROOT = Path("moe_workspace")


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 a named error or any failed case, 2 wrong usage."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app(args=arguments)
    except PipelineError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"error: {what}; check the path, its permissions and the space on the disk", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    del version


@app.command()
def demo(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", help="Where to work; else a temporary folder.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Training time of each expert.")] = 1.0,
) -> None:
    """Run the whole job on small synthetic datasets: general against expert against mixture."""
    from moe_pipeline.demo import run_demo

    with _progress() as progress:
        report = run_demo(workspace, minutes, progress)
    typer.echo(report)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of the raw dataset.")],
    out: Annotated[str, typer.Option(help="Dataset name such as Dataset004_Hippocampus, or a folder path.")] = "",
    source_format: Annotated[str | None, typer.Option("--as", help="Source format; recognised if not given.")] = None,
    workspace: Root = _ROOT,
) -> None:
    """Convert a raw dataset to nnU-Net v2's layout."""
    from dataset_conversion.convert import convert as convert_dataset
    from dataset_conversion.naming import suggest_name

    name = out or suggest_name(source)
    target = Path(name) if "/" in name else Workspace(workspace).raw(name)
    with _progress() as progress:
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
    workspace: Root = _ROOT,
) -> None:
    """Check a dataset, take its fingerprint, plan views, crops and training, split it into folds."""
    from moe_pipeline.planning.plan_dataset import plan_dataset

    place = Workspace(workspace)
    folder = place.raw_folder(dataset)
    with _progress() as progress:
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


@app.command()
def finetune(
    dataset: Dataset,
    fold: Annotated[int, typer.Option(help="Fold held out for validation.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Instead of the plan's.", min=1)] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop training after this time.", min=0)] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without progress.", min=1)] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak of the schedule.", min=0)] = 5e-4,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    workspace: Root = _ROOT,
) -> None:
    """Train one expert mask decoder on the cached embeddings of one dataset."""
    from moe_pipeline.training.finetune import FinetuneOptions
    from moe_pipeline.training.finetune import finetune as train

    place = Workspace(workspace)
    folder = place.raw_folder(dataset)
    options = FinetuneOptions(fold, epochs, max_minutes, patience, learning_rate, device, overwrite=overwrite)
    with _progress() as progress:
        card = train(place, folder, options, progress)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in card.validation.items())
    typer.echo(f"{place.expert(folder.name)}: best at step {card.best_step}; validation {scores}")


@app.command("train-gate")
def train_gate(
    datasets: Annotated[list[str], typer.Argument(help="Datasets whose experts join.")],
    general: Annotated[list[str] | None, typer.Option(help="Planned datasets that stay with the foundation.")] = None,
    fold: Annotated[int, typer.Option(help="The fold the experts were trained on.")] = 0,
    synthetic: Annotated[int, typer.Option(help="Synthetic volumes as further general data.", min=0)] = 160,
    device: Device = "cpu",
    workspace: Root = _ROOT,
) -> None:
    """Train the gate on the mixed embeddings of all datasets and write the model folder."""
    from moe_pipeline.training.mixture import GateOptions
    from moe_pipeline.training.mixture import train_gate as train

    place = Workspace(workspace)
    experts, others = ([place.raw_folder(name) for name in names] for names in (datasets, general or []))
    with _progress() as progress:
        card = train(place, experts, others, GateOptions(fold, device, synthetic), progress)
    typer.echo(f"{place.model}: tau {card.tau:g}, calibration error {card.calibration_error:.3f}; answered by")
    for name, shares in card.confusion.items():
        typer.echo(f"  {name}: " + ", ".join(f"{output} {share:.1%}" for output, share in shares.items()))


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
    workspace: Root = _ROOT,
) -> None:
    """Segment a folder of images: one label map each, cases.csv, and dice.csv where there are references."""
    from moe_pipeline.evaluation.predict_and_score import PredictOptions, predict_and_score

    options = PredictOptions(
        images, out, prompts, labels, references, clicks, model, foundation, selector, tau, seed, device
    )
    with _progress() as progress:
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

    with _progress() as progress:
        classes = classes_beside(references) or classes_of(references)
        table = evaluate_folder(predictions, references, classes, out or predictions, progress=progress)
    typer.echo(as_text(summarise(table)))
    for _, row in table[~table["status"].isin(("ok", "absent"))].iterrows():
        typer.echo(f"  {row['case']}: {row['message']}", err=True)
    if not (table["status"] == "ok").any():
        raise PipelineError(f"nothing was scored: no class of {references} is in a case that could be compared")
    if n_failed(table):
        raise typer.Exit(1)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and weights.")] = Path("pretraining"),
    preset: Annotated[str, typer.Option(help="Sizes and view, one of plans/foundations.")] = "nano",
    name: Annotated[str | None, typer.Option(help="Name of the weights; else the preset's.")] = None,
    max_minutes: Annotated[float, typer.Option(help="Time limit, resumed parts together.", min=0)] = 60.0,
    steps: Annotated[int, typer.Option(help="Steps at most.", min=1)] = 20_000,
    learning_rate: Annotated[float, typer.Option(min=0)] = 8e-4,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "bf16",
    seed: Annotated[int, typer.Option(help="Of weights, volumes and clicks.")] = 0,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Pretrain a foundation on synthetic volumes."""
    from moe_pipeline.training.pretrain import PretrainOptions, pretrain_foundation
    from moe_pipeline.weights.device import open_device
    from moe_pipeline.weights.presets import load_preset

    options = PretrainOptions(preset, name or preset, max_minutes, steps, learning_rate, precision, seed, device)
    if overwrite and load_preset(preset) and open_device(device):  # a slip must not cost the earlier run
        (out / "checkpoint.safetensors").unlink(missing_ok=True)
    with _progress() as progress:
        card = pretrain_foundation(out, options, progress)
    typer.echo(f"{out / card.name}.safetensors: validation Dice {card.training['best_score']:.3f}")


@app.command()
def doctor(workspace: Root = _ROOT) -> None:
    """Show versions, devices, memory, disk, weights, and what the workspace holds."""
    from moe_pipeline.doctor import examine

    for topic, finding in examine(Workspace(workspace)):
        typer.echo(f"{topic:24s} {finding}")


@weights_app.command("list")
def weights_list(workspace: Root = _ROOT) -> None:
    """List the foundations that can be used."""
    from moe_pipeline.weights.store import list_foundations

    for stored in list_foundations(Workspace(workspace).weights):
        card, kind = stored.card, "built in" if stored.builtin else "imported"
        typer.echo(
            f"{card.name}: {card.view.size_voxels} voxels at {card.view.spacing_mm:g} mm, {kind}, "
            f"licence {card.licence}, sha256 {card.weights_sha256[:12]}"
        )


@weights_app.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(help="Official checkpoint (.pth).")],
    name: Annotated[str | None, typer.Option(help="Name to use it by; else the file's.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON with sizes, if not the published SAM-Med3D's.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    origin: Annotated[str | None, typer.Option(help="Where the file comes from.")] = None,
    overwrite: Overwrite = False,
    workspace: Root = _ROOT,
) -> None:
    """Import an official checkpoint: checked, then kept as safetensors with a card."""
    from moe_pipeline.weights.load import import_checkpoint, read_config

    if not file.is_file():
        raise PipelineError(f"{file}: no such file; expected an official checkpoint such as sam_med3d_turbo.pth")
    sizes = read_config(config) if config else None
    place = Workspace(workspace).weights
    card = import_checkpoint(file, place, name=name, config=sizes, licence=licence, origin=origin, overwrite=overwrite)
    typer.echo(f"{place / card.name}.safetensors: imported; use it as `moe plan D --foundation {card.name}`")


@weights_app.command("verify")
def weights_verify(name: Annotated[str, typer.Argument(help="Foundation to check.")], workspace: Root = _ROOT) -> None:
    """Check hash, names, shapes and values of stored weights."""
    from moe_pipeline.weights.load import verify_foundation

    card = verify_foundation(name, Workspace(workspace).weights)
    typer.echo(f"{card.name}: as its card says, sha256 {card.weights_sha256}")


@weights_app.command("fetch")
def weights_fetch(
    name: Annotated[str, typer.Argument(help="Published weights, e.g. sam_med3d_turbo.")], workspace: Root = _ROOT
) -> None:
    """Download published weights and import them."""
    from moe_pipeline.weights.fetch import fetch_foundation

    card = fetch_foundation(name, Workspace(workspace).weights)
    typer.echo(f"{card.name}: fetched from {card.source}")


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A bar with the time left on a terminal; silence elsewhere."""
    from moe_pipeline.progress import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: float, total: float) -> None:
            if stage not in tasks or done == 0:
                tasks[stage] = bars.add_task(stage, total=int(total))
            bars.update(tasks[stage], completed=int(done), total=int(total))  # type: ignore[arg-type]

        yield show
