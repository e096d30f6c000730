"""The whole job on made-up data: two datasets with an expert each, one that nobody finetunes."""

import tempfile
from pathlib import Path

from dataset_conversion.convert import convert
from moe_pipeline.evaluation.comparison import Comparison, HeldBack, compare
from moe_pipeline.evaluation.matrix import GENERAL, MOE
from moe_pipeline.imaging.files import list_images, read_label_map, read_volume
from moe_pipeline.phantoms import Painter, paint_capsule, paint_fruit, paint_pebbles, write_phantoms
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.progress import Progress, silent
from moe_pipeline.report.pictures import PictureRow, side_by_side
from moe_pipeline.report.tables import as_text
from moe_pipeline.training.finetune import FinetuneOptions, finetune
from moe_pipeline.training.mixture import GateOptions, train_gate
from moe_pipeline.workspace import Workspace

_DATASETS: dict[str, tuple[Painter, dict[int, str]]] = {
    "901_Capsule": (paint_capsule, {1: "front", 2: "back"}),
    "902_Fruit": (paint_fruit, {1: "skin", 2: "core"}),
    "903_Pebbles": (paint_pebbles, {1: "bright", 2: "dark"}),
}
_FINETUNED = ("901_Capsule", "902_Fruit")
_TRAINING_CASES, _HELD_BACK_CASES = 12, 4
_CROPS, _COPIES, _EPOCHS = 3, 2, 6


def run_demo(root: Path | None = None, minutes: float = 1.0, progress: Progress = silent) -> str:
    """Make the data, run the five steps, and compare.

    Args:
        root: workspace; a new temporary folder if None.
        minutes: training time of each expert.
        progress: told about every stage.

    Returns:
        The table and where the files are.
    """
    place = Workspace(root or Path(tempfile.mkdtemp(prefix="moe_demo_")))
    held_back = [_prepare(place, name, seed, progress) for seed, name in enumerate(_DATASETS)]
    for name in _FINETUNED:
        finetune(place, place.raw(f"Dataset{name}"), FinetuneOptions(max_minutes=minutes), progress)
    experts = [place.raw(f"Dataset{name}") for name in _FINETUNED]
    general = [place.raw(f"Dataset{name}") for name in _DATASETS if name not in _FINETUNED]
    no_background = GateOptions(synthetic=0)  # these datasets look like synthetic volumes, because they are
    train_gate(place, experts, general, no_background, progress)
    out = place.predictions("demo")
    compared = compare(place, held_back, out, progress=progress)
    draw(held_back, out, out / "demo.png")
    return describe(compared, place)


def describe(compared: Comparison, place: Workspace) -> str:
    """The comparison in words and tables."""
    lines = ["Mean Dice on held-back cases, one click per object:", as_text(compared.matrix), ""]
    lines += ["Who was asked:", as_text(compared.routing), ""]
    for name, (alone, same) in compared.identical.items():
        if alone:
            answered = f"{name}: {alone} label maps answered by the general expert"
            lines.append(f"{answered}, {same} of them byte for byte the foundation's own")
    picture = place.predictions("demo") / "demo.png"
    return "\n".join([*lines, f"Picture: {picture}", f"Everything else is in {place.root}"])


def draw(sets: list[HeldBack], out: Path, path: Path) -> None:
    """Write a picture of the first held-back case of each set: reference, general expert, mixture."""
    rows = []
    for held_back in sets:
        case, image = list_images(held_back.images)[0]
        panels = {"reference": read_label_map(held_back.references / image.name)}
        for column, caption in ((GENERAL, "foundation alone"), (MOE, "mixture")):
            panels[caption] = read_label_map(out / column / held_back.name / f"{case}.nii.gz")
        rows.append(PictureRow(held_back.name, read_volume(image), panels, plane="sagittal"))
    side_by_side(rows, path, height_px=180)


def _prepare(place: Workspace, name: str, seed: int, progress: Progress) -> HeldBack:
    painter, classes = _DATASETS[name]
    source, held = place.root / "source" / f"Task{name}", place.root / "held_back" / f"Task{name}"
    write_phantoms(source, painter, classes, _TRAINING_CASES, seed)
    write_phantoms(held, painter, classes, _HELD_BACK_CASES, 1000 + seed)
    raw = place.raw(f"Dataset{name}")
    convert(source, raw, progress=progress)
    planned = plan_dataset(raw, place.plans(raw.name), "nano", place.weights, progress=progress)
    small = {"crops_per_case": _CROPS, "copies_per_case": _COPIES, "epochs": _EPOCHS}  # an edited plan is a plan
    planned.plan.model_copy(update=small).save(place.plan(raw.name))
    return HeldBack(raw.name, held / "imagesTr", held / "labelsTr", classes)
