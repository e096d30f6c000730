"""General, each expert and the mixture on the same prompts: what was learnt, and that nothing was forgotten."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.evaluation.matrix import GENERAL, MOE, forgetting_matrix, routing_accuracy
from moe_pipeline.evaluation.table import write_table
from moe_pipeline.inference.folder import PromptSource, predict_folder
from moe_pipeline.inference.model import Mixture, load_foundation_alone, load_model, with_expert
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Images with references that nothing was trained on."""

    name: str
    """Row of the table; an expert's dataset name for its own held-back cases."""
    images: Path
    """Folder of images."""
    references: Path
    """Folder of label maps of the same names."""
    classes: dict[int, str]
    """What to prompt."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Who does how well where."""

    matrix: pd.DataFrame
    """As `forgetting_matrix` makes it."""
    routing: pd.DataFrame
    """As `routing_accuracy` makes it."""
    identical: dict[str, tuple[int, int]]
    """By held-back set: label maps of cases answered by the general expert alone, and how many of them are byte for
    byte what the foundation alone writes."""


def compare(
    place: Workspace,
    sets: list[HeldBack],
    out: Path,
    n_clicks: int = 1,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> Comparison:
    """Predict every set with the foundation alone, with each expert alone, and with the mixture; evaluate all.

    The first click of a class is the same for all; later ones answer each model's own errors.

    Args:
        place: workspace with a trained model.
        sets: held-back data.
        out: folder for `<model>/<set>/` and the tables matrix.csv, routing.csv.
        n_clicks: simulated clicks per class.
        seed: of the clicks.
        device: where to compute.
        progress: told after each case.

    Raises:
        PipelineError: if the model folder is incomplete, or a set has no images.
    """
    model = load_model(place.model, device=device, weights_root=place.weights)
    foundation = ModelCard.load(place.model / "moe.json").foundation
    general = load_foundation_alone(foundation, device=device, weights_root=place.weights)
    models: dict[str, Mixture] = {
        GENERAL: general,
        **{expert.name: with_expert(general, expert) for expert in model.experts},
        MOE: model,
    }
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    for column, mixture in models.items():
        for held_back in sets:
            folder = out / column / held_back.name
            source = PromptSource(labels=held_back.references, classes=held_back.classes, n_clicks=n_clicks, seed=seed)
            predict_folder(mixture, held_back.images, folder, source, progress)
            table = evaluate_folder(folder, held_back.references, held_back.classes, folder)
            tables.setdefault(column, {})[held_back.name] = table
    routes = {s.name: pd.read_csv(out / MOE / s.name / "cases.csv", keep_default_na=False) for s in sets}
    routing = routing_accuracy(
        {name: table.assign(weight=pd.to_numeric(table["weight"])) for name, table in routes.items()},
        [expert.name for expert in model.experts],
    )
    matrix = forgetting_matrix(tables)
    write_table(out / "matrix.csv", matrix)
    write_table(out / "routing.csv", routing)
    return Comparison(matrix, routing, {s.name: _identical(out, s.name, routes[s.name]) for s in sets})


def _identical(out: Path, name: str, routes: pd.DataFrame) -> tuple[int, int]:
    answered = routes[routes["expert"] != ""]
    experts = answered.groupby("case")["expert"].agg(set)
    alone = [str(case) for case, who in experts.items() if who == {GENERAL}]
    files = [f"{case}.nii.gz" for case in alone]
    same = [
        file for file in files if (out / MOE / name / file).read_bytes() == (out / GENERAL / name / file).read_bytes()
    ]
    return len(files), len(same)
