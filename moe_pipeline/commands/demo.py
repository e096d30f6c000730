"""The whole job on made-up data: two datasets with an expert each, one that nobody finetunes."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataset_conversion.convert import convert
from moe_pipeline.commands.phantoms import Painter, paint_capsule, paint_fruit, paint_pebbles, write_phantoms
from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.commands.report import report_line
from moe_pipeline.evaluation.forgetting.compare import MatrixOptions, MatrixReport, compare
from moe_pipeline.evaluation.forgetting.datasets import EvaluationSet, paired_set
from moe_pipeline.imaging.io.files import load_image, read_label_map, read_volume, write_image, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import SimulatedRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.options import OutputOptions, PredictOptions, PromptOptions, RunOptions
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.paths import RawFolder
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.progress import Progress, silent
from moe_pipeline.report.forgetting import matrix_as_text
from moe_pipeline.report.pictures import PictureRow, side_by_side
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace

_DATASETS: dict[str, tuple[Painter, dict[int, str]]] = {
    "901_Capsule": (paint_capsule, {1: "front", 2: "back"}),
    "902_Fruit": (paint_fruit, {1: "skin", 2: "core"}),
    "903_Pebbles": (paint_pebbles, {1: "bright", 2: "dark"}),
}
_FINETUNED = ("901_Capsule", "902_Fruit")
_TRAINING_CASES, _HELD_BACK_CASES = 12, 4
_CROPS, _COPIES, _EPOCHS, _STEPS_PER_EPOCH = 3, 2, 2, 80


def run_demo(
    root: Path | None = None, minutes: float | None = None, progress: Progress = silent, *, show: bool = False
) -> str:
    """Make the data, run the five steps, and compare.

    Args:
        root: workspace; a new temporary folder if None.
        minutes: training time of each expert at most; as many steps as the demo has, and so the same result, if None.
        progress: told about every stage.
        show: open the report in the browser, if there is a display.

    Returns:
        The table and where the files are.
    """
    place = Workspace(root or Path(tempfile.mkdtemp(prefix="moe_demo_")))
    held_back = [_prepare(place, name, seed, progress) for seed, name in enumerate(_DATASETS)]
    # these datasets look like synthetic volumes, because they are: experts rehearse none of those, no claim is learnt
    # from them, and the risk is measured on some fifty instead of 3,300, for a demo's patience
    training = FinetuneOptions(max_minutes=minutes, rehearsal=0.0, click_proposer=None)
    for name in _FINETUNED:
        finetune(place, place.raw(f"Dataset{name}"), training, progress)
    experts = [place.raw(f"Dataset{name}") for name in _FINETUNED]
    general = [place.raw(f"Dataset{name}") for name in _DATASETS if name not in _FINETUNED]
    few = ClaimSettings(risk=0.05, confidence=0.9, synthetic=0, named=0)
    options = GateOptions(synthetic=0, claims=few)
    train_gate(place, experts, general, options, progress)
    out = place.predictions("demo")
    report = compare(place, held_back, out, MatrixOptions(), progress)
    draw(place, held_back, out / "demo.png")
    predictions = predict_held_back(place, held_back, progress)
    page = report_line([out, predictions], progress=progress, show=show)
    return f"{demo_as_text(report, place)}\n{page}"


def demo_as_text(report: MatrixReport, place: Workspace) -> str:
    """The comparison in words and tables."""
    picture = place.predictions("demo") / "demo.png"
    return f"{matrix_as_text(report)}\n\nPicture: {picture}\nEverything else is in {place.root}"


def predict_held_back(place: Workspace, sets: list[EvaluationSet], progress: Progress) -> Path:
    """Let the mixture segment the held-back cases of all sets, with one click per object; folder of the predictions.

    The classes of all sets get numbers of their own, so that one table tells them apart.
    """
    scans, labels = place.root / "held_back" / "imagesTr", place.root / "held_back" / "labelsTr"
    classes: dict[int, str] = {}
    for held_back in sets:
        numbers = {value: len(classes) + number for number, value in enumerate(held_back.classes, start=1)}
        classes |= {numbers[value]: name for value, name in held_back.classes.items()}
        for case in held_back.cases:
            name = f"{held_back.name.partition('_')[2].lower()}_{case.case}.nii.gz"
            image, reference = load_image(case.image), read_label_map(case.reference)
            renumbered = np.zeros_like(reference.array)
            for value, number in numbers.items():
                renumbered[reference.array == value] = number
            write_image(image.volume, scans / name, image.native)
            write_label_map(Volume(renumbered, reference.geometry), labels / name, image.native)
    described = {"labels": {"0": "background", **{str(value): name for value, name in classes.items()}}}
    RawFolder(labels.parent).description.write_text(json.dumps(described), encoding="utf-8")
    out = place.predictions("held_back")
    outputs, run = OutputOptions(out=out), RunOptions(images=scans)
    predict_and_score(place, PredictOptions(prompts=PromptOptions(labels=labels), outputs=outputs, run=run), progress)
    return out


def draw(place: Workspace, sets: list[EvaluationSet], path: Path) -> None:
    """Write a picture of the first held-back case of each set: reference, general expert, mixture."""
    mixture = load_mixture(place.model, weights_root=place.weights)
    models = {"foundation alone": replace(mixture, selector="general"), "mixture": mixture}
    rows = []
    for held_back in sets:
        case = held_back.cases[0]
        image, reference = read_volume(case.image), read_label_map(case.reference)
        request = SimulatedRequest(case.case, image, reference, held_back.classes)
        answers = {caption: segment_case(model, request).labels for caption, model in models.items()}
        rows.append(PictureRow(held_back.name, image, {"reference": reference, **answers}, plane="sagittal"))
    side_by_side(rows, path, height_px=180)


def _prepare(place: Workspace, name: str, seed: int, progress: Progress) -> EvaluationSet:
    painter, classes = _DATASETS[name]
    source, held = place.root / "source" / f"Task{name}", place.root / "held_back" / f"Task{name}"
    write_phantoms(source, painter, classes, _TRAINING_CASES, seed)
    write_phantoms(held, painter, classes, _HELD_BACK_CASES, 1000 + seed)
    raw = place.raw(f"Dataset{name}")
    convert(source, raw, progress=progress)
    planned = plan_dataset(raw, place.plans(raw.name), "nano", place.weights, progress=progress)
    small = {  # an edited plan is a plan
        "crops_per_case": _CROPS,
        "copies_per_case": _COPIES,
        "epochs": _EPOCHS,
        "steps_per_epoch": _STEPS_PER_EPOCH,
    }
    planned.plan.model_copy(update=small).save(place.plan(raw.name))
    return paired_set(raw.name, held / "imagesTr", held / "labelsTr", classes)
