"""The commands as Python functions: predict, evaluate. What each needs is imported when it is called."""

import time
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from moe_pipeline.arguments import AnyPath, Names, as_flag, as_folder, as_path, as_text, options_of
from moe_pipeline.commands.learning import ROOT, workspace_of
from moe_pipeline.errors import PipelineError
from moe_pipeline.paths import remote_url
from moe_pipeline.progress import Progress, silent
from moe_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from moe_pipeline.cluster.engines import EngineName, EngineOptions
    from moe_pipeline.commands.predict import PredictReport
    from moe_pipeline.evaluation.challenge import ChallengeReport
    from moe_pipeline.evaluation.forgetting.compare import MatrixReport
    from moe_pipeline.inference.keywords import PredictKeywords


def predict(
    images: AnyPath,
    out: AnyPath,
    *,
    interactive_log: AnyPath | None = None,
    preset: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
    **options: "Unpack[PredictKeywords]",
) -> "PredictReport":
    """Segment a folder of images: label maps, cases.csv, and dice.csv where there are references: `moe predict`.

    A case that fails is a row with its reason. One image in memory is `load_model(...).predict`.

    Args:
        images: folder of images.
        out: folder for label maps and tables. Both, and the workspace, may be addresses such as s3://bucket/scans.
        interactive_log: journal of a session, or a folder of them, to do again what a person did.
        preset: of a challenge, whose container layout `images` and `out` have then.
        workspace: folder that holds everything moe writes.
        progress: told after each case.
        options: by the names of the command's options; see `inference.options.PredictOptions`.

    Raises:
        PipelineError: if options, model or folders do not fit; before anything is predicted.
    """
    from moe_pipeline.commands.container import predict_container
    from moe_pipeline.commands.predict import predict_and_score
    from moe_pipeline.inference.keywords import predict_options

    chosen = predict_options(images, out, **options)
    if remote_url(as_path("images", images)) is None:
        as_folder("images", images, "images to segment")
    if interactive_log is not None:
        from moe_pipeline.commands.replay import replay_journals

        return replay_journals(workspace_of(workspace), chosen, as_path("interactive_log", interactive_log), progress)
    if preset is not None:
        return predict_container(workspace_of(workspace), chosen, as_text("preset", preset), progress)
    return predict_and_score(Workspace(as_path("workspace", workspace)), chosen, progress)


@overload
def evaluate(
    predictions: AnyPath, references: AnyPath, out: AnyPath | None = None, *, progress: Progress = silent
) -> "pd.DataFrame": ...


@overload
def evaluate(
    predictions: AnyPath,
    references: AnyPath,
    out: AnyPath | None = None,
    *,
    preset: str,
    progress: Progress = silent,
) -> "ChallengeReport": ...


@overload
def evaluate(
    *,
    out: AnyPath | None = None,
    matrix: Literal[True],
    datasets: Names = (),
    unseen: "AnyPath | Iterable[AnyPath]" = (),
    clicks: "int | Iterable[int]" = (1,),
    seed: int = 0,
    model: AnyPath | None = None,
    device: str = "cpu",
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "MatrixReport": ...


def evaluate(
    predictions: AnyPath | None = None,
    references: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    matrix: bool = False,
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    preset: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
    **options: Any,
) -> "pd.DataFrame | ChallengeReport | MatrixReport":
    """Compare label maps with references, or with `matrix` models with each other: `moe evaluate`.

    Args:
        predictions: folder of predicted label maps.
        references: folder of label maps of the same names.
        out: folder for the tables; without one those of predictions are not written, those of `matrix` go into the
            workspace.
        matrix: compare foundation, experts and mixture on held-back cases instead.
        engine: for `matrix`: where cases are scored: local, slurm or ray.
        ray_address: of a Ray cluster; one is started if not given.
        preset: score by the rules of a challenge, sppin2023 or cvpr25.
        workspace: for `matrix`.
        progress: told after each case.
        options: for `matrix`: datasets, unseen, clicks, seed, model, device; see `MatrixOptions`.

    Returns:
        One row per case and class, as in dice.csv; or the tables of the challenge, or of the comparison.

    Raises:
        PipelineError: if an argument is not what it should be, or nothing can be compared.
    """
    from moe_pipeline.cluster.engines import EngineOptions, as_engine

    chosen = EngineOptions(engine=as_engine(engine), ray_address=ray_address)
    if as_flag("matrix", matrix):
        if predictions is not None or references is not None or preset is not None:
            raise PipelineError("matrix makes its own predictions; leave out predictions, references and preset")
        return _evaluate_models(workspace_of(workspace), out, progress, options, chosen)
    if options or not chosen.is_local:
        raise PipelineError(f"{', '.join(options) or 'engine'}: for matrix=True only")
    if predictions is None or references is None:
        raise PipelineError("give predictions and references, or matrix=True")
    from moe_pipeline.datasets.classes import classes_of, scored_classes_beside
    from moe_pipeline.evaluation.challenge import evaluate_challenge
    from moe_pipeline.evaluation.folder import evaluate_folder, record_evaluation

    found = as_folder("predictions", predictions, "predicted label maps")
    expected = as_folder("references", references, "reference label maps")
    classes, regions = scored_classes_beside(expected)
    named = classes or classes_of(expected)
    tables = None if out is None else as_path("out", out)
    if preset is not None:
        return evaluate_challenge(found, expected, named, as_text("preset", preset), tables, progress)
    began = time.monotonic()
    table = evaluate_folder(found, expected, named, tables, regions=regions, progress=progress)
    if tables is not None:
        record_evaluation(tables, found, expected, time.monotonic() - began)
    return table


def _evaluate_models(
    place: Workspace, out: AnyPath | None, progress: Progress, given: dict[str, Any], chosen: "EngineOptions"
) -> "MatrixReport":
    from moe_pipeline.cluster.comparing import forgetting_report_on
    from moe_pipeline.evaluation.forgetting.compare import MatrixOptions

    folder = place.root / "evaluation" if out is None else as_path("out", out)
    options = options_of(MatrixOptions, given, function="evaluate")
    return forgetting_report_on(chosen, place, folder, options, progress)
