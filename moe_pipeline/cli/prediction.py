"""Commands that segment and compare: predict, evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from moe_pipeline.cli.common import (
    ROOT,
    Device,
    Engine,
    Overwrite,
    RayAddress,
    Root,
    RootOrStore,
    WithReport,
    local_root,
    progress_bar,
    show_report,
)
from moe_pipeline.errors import PipelineError
from moe_pipeline.paths import remote_url
from moe_pipeline.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from moe_pipeline.cluster.engines import EngineOptions
    from moe_pipeline.evaluation.forgetting.compare import MatrixOptions

app = typer.Typer()

BARE_TOLERANCE = 0.002
"""Dice that may be lost where --fail-on-regression stands without a number."""


class BareTolerance(TyperCommand):
    """A command whose option `--fail-on-regression` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the value that was left out."""
        told: list[str] = []
        for word, following in zip(args, [*args[1:], "-"], strict=True):
            bare = word == "--fail-on-regression" and following.startswith("-")
            told += [word, str(BARE_TOLERANCE)] if bare else [word]
        return super().parse_args(ctx, told)


@app.command()
def predict(
    images: Annotated[Path, typer.Option("-i", "--input", help="Folder of images.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for label maps and tables.")],
    prompts: Annotated[Path | None, typer.Option(help="File of clicks, or a folder with one for each image.")] = None,
    labels: Annotated[Path | None, typer.Option(help="References to simulate clicks from: an evaluation.")] = None,
    interactive_log: Annotated[
        Path | None, typer.Option(help="Journal of a session, or a folder of them: do again what a person did.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="Segment what is named so, e.g. liver; needs SegVol.")] = None,
    references: Annotated[Path | None, typer.Option("-r", "--references", help="References for dice.csv.")] = None,
    clicks: Annotated[int, typer.Option(help="Simulated clicks per class.", min=1, max=50)] = 1,
    model: Annotated[Path | None, typer.Option(help="Model folder; else the workspace's.")] = None,
    foundation: Annotated[str | None, typer.Option(help="Predict with this foundation alone.")] = None,
    selector: Annotated[str | None, typer.Option(help="weighted, specific or general; else the model's.")] = None,
    tau: Annotated[
        float | None, typer.Option(help="Threshold of the selector; else the model's.", min=0, max=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of simulated clicks.")] = 0,
    classes: Annotated[list[str] | None, typer.Option(help="Without prompts: look for this name or id only.")] = None,
    experts: Annotated[list[str] | None, typer.Option(help="Without prompts: only this expert looks.")] = None,
    zoom: Annotated[str, typer.Option(help="Look again at other spacings: auto, in, out or off.")] = "off",
    max_crops: Annotated[int, typer.Option(help="Crops one object may take; 1: never leave the first.", min=1)] = 64,
    tta: Annotated[bool, typer.Option("--tta", help="Also look at mirror images: four times the work.")] = False,
    own_crops: Annotated[
        bool, typer.Option("--own-crops", help="Share no crops between objects, as a session does.")
    ] = False,
    save_probabilities: Annotated[bool, typer.Option("--save-probabilities", help="Write a map per class.")] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Write where to look twice.")] = False,
    precision: Annotated[str, typer.Option(help="Of the encoder: fp32 or bf16.")] = "fp32",
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="Also write <case>.dcm where the image is a DICOM series.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Cases at once, on the processor.", min=1)] = 1,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    preset: Annotated[
        str | None, typer.Option(help="Read and write the container layout of a challenge: sppin2023.")
    ] = None,
    overwrite: Overwrite = False,
    report: WithReport = True,
    device: Device = "cpu",
    workspace: RootOrStore = ROOT,
) -> None:
    """Segment a folder of images: one label map each, cases.csv, and dice.csv where there are references.

    Without --prompts, --labels and --text, the experts look for their classes by themselves. Repeated, the command
    goes on where it stopped: a case whose image, prompts, model and settings are the same is not done again.
    """
    from moe_pipeline.commands.container import predict_container
    from moe_pipeline.commands.predict import predict_and_score
    from moe_pipeline.commands.replay import replay_journals
    from moe_pipeline.inference.options import ModelOptions, OutputOptions, PredictOptions, PromptOptions, RunOptions

    options = PredictOptions(
        model=ModelOptions(
            model=model,
            foundation=foundation,
            selector=selector,
            tau=tau,
            device=device,
            precision=precision,
            zoom=zoom,
            max_crops=max_crops,
            tta=tta,
            own_crops=own_crops,
        ),
        prompts=PromptOptions(
            prompts=prompts,
            labels=labels,
            text=tuple(text or ()),
            clicks=clicks,
            seed=seed,
            classes=tuple(classes or ()),
            experts=tuple(experts or ()),
        ),
        outputs=OutputOptions(
            out=out,
            references=references,
            save_probabilities=save_probabilities,
            uncertainty=uncertainty,
            dicom_seg=dicom_seg,
        ),
        run=RunOptions(images=images, jobs=jobs, overwrite=overwrite, engine=engine, ray_address=ray_address),
    )
    if interactive_log is not None and preset is not None:
        raise typer.BadParameter("--interactive-log and --preset contradict each other")
    with progress_bar() as progress:
        if interactive_log is not None:
            done = replay_journals(Workspace(local_root(workspace)), options, interactive_log, progress)
        elif preset is not None:
            done = predict_container(Workspace(local_root(workspace)), options, preset, progress)
        else:
            done = predict_and_score(Workspace(workspace), options, progress)
    typer.echo(done.text)
    if interactive_log is None:
        show_report(out, report and remote_url(out) is None)
    if done.failed:
        raise typer.Exit(1)


@app.command(cls=BareTolerance)
def evaluate(
    predictions: Annotated[Path | None, typer.Option("-i", "--input", help="Folder of predicted label maps.")] = None,
    references: Annotated[
        Path | None, typer.Option("-r", "--references", help="Folder of reference label maps.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the tables; else they are only shown.")
    ] = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Compare foundation, experts and mixture on held-back cases instead.")
    ] = False,
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", help="With --matrix: raw dataset; else all that the model knows.")
    ] = None,
    unseen: Annotated[
        list[Path] | None, typer.Option(help="With --matrix: folder with images/ and labels/ that nothing learned.")
    ] = None,
    clicks: Annotated[
        list[int] | None, typer.Option(help="With --matrix: clicks per object; repeat for more tables.", min=1, max=50)
    ] = None,
    fail_on_regression: Annotated[
        float | None,
        typer.Option(
            help=f"With --matrix: exit code 1 if the mixture loses more Dice than this on any class "
            f"({BARE_TOLERANCE:g} if no number follows).",
            min=0,
            show_default=False,
        ),
    ] = None,
    own_experts: Annotated[
        bool, typer.Option("--own-experts", help="With --matrix: each expert on its own set only; faster with many.")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="With --matrix: model folder; else the workspace's.")] = None,
    seed: Annotated[int, typer.Option(help="With --matrix: of the clicks.")] = 0,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    preset: Annotated[str | None, typer.Option(help="Score as a challenge does: sppin2023 or cvpr25.")] = None,
    report: WithReport = True,
    device: Device = "cpu",
    workspace: Root = ROOT,
) -> None:
    """Compare label maps with references, or with --matrix models with each other: what was learnt, what forgotten."""
    place = Workspace(workspace)
    if matrix:
        if predictions or references or preset:
            raise typer.BadParameter("--matrix makes its own predictions; leave out -i, -r and --preset")
        from moe_pipeline.cluster.engines import EngineOptions
        from moe_pipeline.evaluation.forgetting.compare import MatrixOptions

        options = MatrixOptions(
            datasets=tuple(datasets or ()),
            unseen=tuple(unseen or ()),
            clicks=tuple(clicks or (1,)),
            seed=seed,
            model=model,
            device=device,
            own_experts=own_experts,
        )
        chosen = EngineOptions(engine=engine, ray_address=ray_address)
        _forgetting(place, out or place.root / "evaluation", options, fail_on_regression, chosen, report=report)
        return
    if predictions is None or references is None:
        raise typer.BadParameter("give -i and -r, or --matrix")
    of_matrix = (datasets, unseen, clicks, model, own_experts, fail_on_regression is not None, engine != "local")
    if any(of_matrix):
        raise typer.BadParameter(
            "--dataset, --unseen, --clicks, --own-experts, --model, --fail-on-regression and --engine go with --matrix"
        )
    if preset:
        _challenge(predictions, references, out, preset)
    else:
        _folder(predictions, references, out, report=report)


def _forgetting(
    place: Workspace,
    out: Path,
    options: "MatrixOptions",
    limit: float | None,
    chosen: "EngineOptions",
    *,
    report: bool,
) -> None:
    from moe_pipeline.cluster.comparing import forgetting_report_on
    from moe_pipeline.report.forgetting import matrix_as_text

    with progress_bar() as progress:
        compared = forgetting_report_on(chosen, place, out, options, progress)
    typer.echo(f"{matrix_as_text(compared)}\n\nTables: {out}")
    show_report(out, report)
    worse = [] if limit is None else [line for one in compared.comparisons for line in one.regressions(limit)]
    for line in worse:
        typer.echo(f"  worse: {line}", err=True)
    if worse or compared.failures:
        raise typer.Exit(1)


def _folder(predictions: Path, references: Path, out: Path | None, *, report: bool) -> None:
    from moe_pipeline.commands.using import evaluate as evaluate_folders
    from moe_pipeline.evaluation.summary import summarise
    from moe_pipeline.report.tables import as_text

    with progress_bar() as progress:
        table = evaluate_folders(predictions, references, out, progress=progress)
    typer.echo(as_text(summarise(table)))
    if out is not None:
        show_report(out, report)
    _tell_what_failed(table, references)


def _challenge(predictions: Path, references: Path, out: Path | None, preset: str) -> None:
    from moe_pipeline.commands.using import evaluate as evaluate_folders
    from moe_pipeline.presets import load_challenge
    from moe_pipeline.report.tables import as_text

    title = load_challenge(preset).title
    with progress_bar() as progress:
        report = evaluate_folders(predictions, references, out, preset=preset, progress=progress)
    typer.echo(f"{title}\n\n{as_text(report.summary)}")
    _tell_what_failed(report.table, references)


def _tell_what_failed(table: "pd.DataFrame", references: Path) -> None:
    """Every row that is no score, and the exit code that goes with it."""
    from moe_pipeline.evaluation.table import n_failed

    for _, row in table[~table["status"].isin(("ok", "absent"))].iterrows():
        typer.echo(f"  {row['case']}: {row['message']}", err=True)
    if not (table["status"] == "ok").any():
        raise PipelineError(f"nothing was scored: no class of {references} is in a case that could be compared")
    if n_failed(table):
        raise typer.Exit(1)
