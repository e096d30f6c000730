"""The five steps on real data, as a user runs them: wall time and peak memory of each, then who does how well.

    python benchmarks/main_job.py --data FOLDER --work FOLDER [--minutes 4] [--sft 5] [--everything]

FOLDER is laid out like the project's test volumes (Task04_Hippocampus, BraTS2013_DeepMedic, TotalSegmentator_ref).
Hippocampus is split by blocks of ten case numbers: every fifth block is held back; its expert trains for as long as
was planned, the others for some minutes. Of the three BraTS cases one is held back; its four labels are one class here,
since FLAIR shows the whole tumour and not its parts. The CT belongs to no expert, and no general data are given: the
OOD detectors alone must recognise it. With --everything there is a third expert, for CT painted on the KiTS19 label
maps, and every other labelled set is evaluated too; nothing was trained on those. With --sft the hippocampus also
finetunes the whole network, as one would without experts. With --alone the tables are made for a second model too,
of the hippocampus expert by itself and without general data.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import painted_ct
from labelled_sets import labelled_cases

from moe_pipeline.evaluation.forgetting.compare import MatrixOptions, compare
from moe_pipeline.evaluation.forgetting.datasets import EvaluationSet, paired_set
from moe_pipeline.imaging.io.files import case_id_of, read_geometry, read_label_map, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.report.forgetting import matrix_as_text
from moe_pipeline.report.tables import as_markdown
from moe_pipeline.workspace import Workspace

HIPPOCAMPUS = {1: "anterior", 2: "posterior"}
TUMOUR = {1: "whole tumour"}
CT = {1: "spleen", 2: "right kidney", 3: "left kidney", 5: "liver", 6: "stomach", 52: "aorta"}
MR = {1: "spleen", 2: "right kidney", 3: "left kidney", 5: "liver", 6: "stomach"}


def decathlon(folder: Path, pairs: list[tuple[Path, Path]], modality: str, classes: dict[int, str]) -> Path:
    """Lay image-label pairs out as a Decathlon task; with one class, all labels become it."""
    shutil.rmtree(folder, ignore_errors=True)
    entries = []
    for image, label in pairs:
        name = f"{image.parent.name}.nii.gz" if image.name.startswith("Flair") else image.name
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / "imagesTr" / name)
        labels = read_label_map(label)
        merged = labels.array if len(classes) > 1 else (labels.array > 0).astype(np.uint8)
        write_label_map(Volume(merged, labels.geometry), folder / "labelsTr" / name, read_geometry(label))
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    names = {"0": "background", **{str(value): name for value, name in classes.items()}}
    description = {"name": folder.name, "modality": {"0": modality}, "labels": names, "training": entries}
    (folder / "dataset.json").write_text(json.dumps({**description, "numTraining": len(entries), "test": []}))
    return folder


def is_held_back(case: Path) -> bool:
    """Every fifth block of ten case numbers."""
    return int(case.name.split("_")[1].split(".")[0]) // 10 % 5 == 4


def prepare(data: Path, work: Path, *, everything: bool) -> tuple[list[Path], list[EvaluationSet]]:
    """Sources to convert, and what is held back."""
    images = sorted((data / "Task04_Hippocampus" / "imagesTr").iterdir())
    hippocampus = [(image, data / "Task04_Hippocampus" / "labelsTr" / image.name) for image in images]
    tumours = [
        (case / "Flair_subtrMeanDivStd.nii.gz", case / "OTMultiClass.nii.gz")
        for case in sorted((data / "BraTS2013_DeepMedic").glob("brats*"))
    ]
    split = {
        "Task004_Hippocampus": (hippocampus, [is_held_back(image) for image, _ in hippocampus], "MRI", HIPPOCAMPUS),
        "Task013_BraTS": (tumours, [False, False, True], "FLAIR", TUMOUR),
    }
    if everything:
        kidneys = painted_ct.paint_dataset(data / "KiTS19_labels", work / "painted")
        held = [number % 5 == 4 for number in range(len(kidneys))]
        split["Task020_PaintedKidneys"] = (kidneys, held, "CT", painted_ct.CLASSES)
    sources, sets = [], []
    for name, (pairs, held, modality, classes) in split.items():
        trained = [pair for pair, out in zip(pairs, held, strict=True) if not out]
        kept = [pair for pair, out in zip(pairs, held, strict=True) if out]
        sources.append(decathlon(work / "source" / name, trained, modality, classes))
        folder = decathlon(work / "held_back" / name, kept, modality, classes)
        dataset = name.replace("Task", "Dataset")
        sets.append(paired_set(dataset, folder / "imagesTr", folder / "labelsTr", classes))
    ct = work / "held_back" / "CT"
    for part, source in (("images", "example_ct_sm"), ("labels", "example_seg")):
        (ct / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "TotalSegmentator_ref" / f"{source}.nii.gz", ct / part / "ct.nii.gz")
    sets.append(paired_set("CT", ct / "images", ct / "labels", CT))
    return sources, [*sets, *never_finetuned(data, work / "never_finetuned")] if everything else sets


def never_finetuned(data: Path, folder: Path) -> list[EvaluationSet]:
    """Every labelled set besides those that have an expert, and the CT; of many organs a few, of many regions none."""
    by_set: dict[str, Path] = {}
    for case in labelled_cases(data):
        if case.set_name.startswith(("Hippocampus", "BraTS2013", "TotalSegmentator CT", "Whole head", "Liver CT")):
            continue
        place = by_set.setdefault(case.set_name, folder / case.set_name.replace(" ", "_"))
        for part, source in (("images", case.image), ("labels", case.label)):
            (place / part).mkdir(parents=True, exist_ok=True)
            ending = ".nrrd" if source.suffix == ".nrrd" else ".nii.gz"
            shutil.copy(source, place / part / f"{case.case}{ending}")
    return [
        paired_set(name, place / "images", place / "labels", MR if name == "TotalSegmentator MR" else None)
        for name, place in by_set.items()
    ]


def timed(name: str, *arguments: str) -> tuple[str, float, float]:
    """Run `moe`, and return its name, wall seconds and peak memory in GB."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "moe_pipeline", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} ended with status {status}: moe {' '.join(arguments)}")
    return name, time.monotonic() - began, usage.ru_maxrss / 1e6


def grids_agree(sets: list[EvaluationSet], out: Path) -> bool:
    """Whether every label map has the size, spacing, origin and direction of its image."""
    return all(
        not read_geometry(out / held_back.name / f"{case_id_of(image)}.nii.gz").differences(
            read_geometry(image), tolerance_mm=1e-5
        )
        for held_back in sets
        for image in (case.image for case in held_back.cases)
    )


def compare_alone(place: Workspace, dataset: str, sets: list[EvaluationSet], work: Path) -> str:
    """The tables of a model of one expert that was given no general data of any kind: its OOD detector alone is left.

    Args:
        place: workspace with the finetuned expert; not changed.
        dataset: of the expert.
        sets: held back.
        work: gets a workspace "alone", whose files are links, and the tables.
    """
    alone = Workspace(work / "alone")
    shutil.rmtree(alone.root, ignore_errors=True)
    shutil.copytree(place.root, alone.root, copy_function=os.link, ignore=shutil.ignore_patterns("model", "sft"))
    bare = ("--synthetic", "0", "--no-background-clicks", "--workspace", str(alone.root))
    timed("train-gate of one expert", "train-gate", dataset, *bare)
    return matrix_as_text(compare(alone, sets, work / "compared_alone", MatrixOptions(clicks=(1,))), as_markdown)


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4.0, help="training time of every other expert, at most")
    parser.add_argument("--sft", type=float, help="minutes of finetuning the whole network on the hippocampus")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of all finetuning")
    parser.add_argument("--alone", action="store_true", help="also a model of the hippocampus expert by itself")
    parser.add_argument("--everything", action="store_true", help="a third expert, and all labelled sets")
    parser.add_argument("--clicks", type=int, action="append", help="per object; repeat for more tables (default 1)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    sources, sets = prepare(options.data, options.work, everything=options.everything)
    n_clicks = tuple(options.clicks or [1])
    place = Workspace(options.work / "workspace")
    root, precision = ("--workspace", str(place.root)), ("--precision", options.precision)
    rows = []
    for source in sources:
        dataset = source.name.replace("Task", "Dataset")
        patients = ("--patients", r"hippocampus_(\d\d)") if "Hippo" in dataset else ()
        minutes = () if "Hippo" in dataset else ("--max-minutes", str(options.minutes))
        rows.append(timed(f"convert {dataset}", "convert", str(source), "--out", dataset, *root))
        rows.append(timed(f"plan {dataset}", "plan", dataset, *patients, *root))
        rows.append(timed(f"finetune {dataset}", "finetune", dataset, *minutes, *precision, *root))
    names = [source.name.replace("Task", "Dataset") for source in sources]
    if options.sft:
        whole = ("--trainable", "all", "--max-minutes", str(options.sft), *precision)
        rows.append(timed(f"finetune all of {names[0]}", "finetune", names[0], *whole, *root))
    rows.append(timed("train-gate", "train-gate", *names, *root))
    for held_back in sets:
        out = options.work / "predicted" / held_back.name
        folders = held_back.cases[0].image.parent, held_back.cases[0].reference.parent
        asked = ("-i", str(folders[0]), "-o", str(out), "--labels", str(folders[1]))
        rows.append(timed(f"predict {held_back.name}", "predict", *asked, "--clicks", str(n_clicks[0]), *root))
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start\n")
    print("| step | wall s | peak GB |\n|---|---|---|")
    print("\n".join(f"| {name} | {seconds:.1f} | {memory:.2f} |" for name, seconds, memory in rows))
    clicks = MatrixOptions(clicks=n_clicks)
    print(f"\n{matrix_as_text(compare(place, sets, options.work / 'compared', clicks), as_markdown)}\n")
    if options.alone:
        print(f"\nOne expert, no general data:\n\n{compare_alone(place, names[0], sets, options.work)}\n")
    print(f"label maps on their images' grids: {grids_agree(sets, options.work / 'predicted')}")


if __name__ == "__main__":
    main()
