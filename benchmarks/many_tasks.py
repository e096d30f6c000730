"""One foundation, many tasks: an expert per labelled set, one gate over all of them, and who does how well where.

    python benchmarks/many_tasks.py --data FOLDER --work FOLDER [--sets STS_PET ACDC_cine] [--minutes 4] [--alone SET]
        [--leave-one-out] [--sft SET] [--clicks 1 --clicks 5]

FOLDER is laid out like the project's test volumes. Each set becomes an nnU-Net raw dataset whose held-back patients are
in imagesTs and labelsTs; what has no expert stays never finetuned. Everything goes through the command line, so each
stage is what a user would get, and a killed run goes on where it was. --leave-one-out trains a gate over all other
experts for each set in turn, to which its held-back prompts are strangers. --alone trains a gate over one expert with
no other data. Tables are written to WORK/tables.md.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from labelled_sets import LabelledCase, labelled_cases

from moe_pipeline.imaging.io.files import read_label_map, write_label_map
from moe_pipeline.imaging.io.native import read_channels, read_geometry
from moe_pipeline.imaging.volume import Volume, to_canonical

_MOST_CLASSES = 16
"""Of a never finetuned image."""


@dataclass(frozen=True, slots=True)
class TaskSet:
    """One dataset to finetune on.

    Attributes:
        source: folder with images/ and labels/, or imagesTr/ and labelsTr/.
        dataset: name of the raw dataset that it becomes.
        channel: name of its only channel.
        patient: regular expression for the patient in a case id, as for `moe plan --patients`.
        held_back: whether a case is held back, from its id and its patient's place among all.
        classes: names by label; of labels.json where None.
    """

    source: str
    dataset: str
    channel: str
    patient: str
    held_back: Callable[[str, int], bool]
    classes: dict[int, str] | None = None


def _number(name: str) -> int:
    return int(re.findall(r"\d+", name)[0])


def _every(step: int, rest: int) -> Callable[[str, int], bool]:
    return lambda _case, place: place % step == rest


def _fifth(case: str, _place: int) -> bool:
    """By the number, so that a patient with two modalities is held back in both."""
    return _number(case) % 5 == 4


TASK_SETS = (
    # The source holds out patients whose number is a multiple of four; these are the ones after them.
    TaskSet(
        "STS_PET",
        "Dataset101_SarcomaPET",
        "PET",
        r"(STS_\d+)",
        lambda case, _: _number(case) % 4 == 1,
        {1: "tumour"},
    ),
    TaskSet("LIDC_nodules", "Dataset102_LungNodules", "CT", r"(LIDC-IDRI-\d+)", _every(5, 4), {1: "nodule"}),
    TaskSet("OpenKBP_HeadNeckCT", "Dataset103_HeadNeck", "CT", r"(pt_\d+)", _every(4, 3)),
    TaskSet("ACDC_cine", "Dataset104_HeartCine", "MRI", r"(patient\d+)", _every(4, 3)),
    TaskSet("ProstateMR_DeepReg", "Dataset105_ProstateMR", "MRI", r"(case\d+)", _fifth, {1: "prostate"}),
    TaskSet("ProstateTRUS_DeepReg", "Dataset106_ProstateTRUS", "US", r"(case\d+)", _fifth, {1: "prostate"}),
    TaskSet(
        "Task04_Hippocampus",
        "Dataset004_Hippocampus",
        "MRI",
        r"hippocampus_(\d\d)",
        lambda case, _: _number(case) // 10 % 5 == 4,
        {1: "anterior", 2: "posterior"},
    ),
)


def lay_out(data: Path, raw: Path, task: TaskSet) -> Path:
    """Make a raw dataset of a set, unless it is there; patients who are held back go to imagesTs and labelsTs."""
    out, source = raw / task.dataset, data / task.source
    if (out / "dataset.json").is_file():
        return out
    parts = ("imagesTr", "labelsTr") if (source / "imagesTr").is_dir() else ("images", "labels")
    images, labels = (source / part for part in parts)
    paths = sorted(images.glob("*.nii.gz"), key=lambda path: (_number(path.name), path.name))
    patients = list(dict.fromkeys(_patient(task, path) for path in paths))
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (out / part).mkdir(parents=True, exist_ok=True)
    held = {path: task.held_back(path.name, patients.index(_patient(task, path))) for path in paths}
    for path in paths:
        case, end = path.name.removesuffix(".nii.gz"), "Ts" if held[path] else "Tr"
        shutil.copy(path, out / f"images{end}" / f"{case}_0000.nii.gz")
        _copy_labels(labels / path.name, out / f"labels{end}" / f"{case}.nii.gz")
    classes = task.classes or {v: name for name, v in json.loads((source / "labels.json").read_text()).items()}
    described = {
        "channel_names": {"0": task.channel},
        "labels": {"background": 0, **{name: value for value, name in sorted(classes.items())}},
        "numTraining": sum(not out_of for out_of in held.values()),
        "file_ending": ".nii.gz",
    }
    (out / "dataset.json").write_text(json.dumps(described, indent=1))  # last: now it is complete
    return out


def _patient(task: TaskSet, path: Path) -> str:
    found = re.match(task.patient, path.name)
    if found is None:
        raise SystemExit(f"{path}: no patient by {task.patient}")
    return found.group(1)


def _copy_labels(source: Path, target: Path, most: int | None = None) -> None:
    """Whole numbers in 3D: of a 4D label the first component (prostate: the gland); of many classes some, evenly."""
    first = read_channels(source)[0]
    upright = to_canonical(first)
    array = np.floor(upright.array.astype(np.float64) + 0.5).astype(np.uint16)
    values = np.unique(array[array > 0])
    if most is not None and len(values) > most:
        kept = values[np.linspace(0, len(values) - 1, most).round().astype(int)]
        array[~np.isin(array, kept)] = 0
    write_label_map(Volume(array, upright.geometry), target, first.geometry)


def never_finetuned(data: Path, folder: Path) -> list[Path]:
    """A folder with images/ and labels/ for every labelled set without an expert, but for the whole head's regions."""
    found = [c for c in labelled_cases(data) if not c.set_name.startswith(("Hippocampus", "Liver CT", "Whole head"))]
    for name in ("STS_MR_T1", "LungMR_proton"):
        pairs = [(path, data / name / "labels" / path.name) for path in sorted((data / name / "images").iterdir())]
        found += [LabelledCase(name, image.name.removesuffix(".nii.gz"), image, label) for image, label in pairs]
    places = []
    for case in found:
        place = folder / case.set_name.replace(" ", "_")
        places.append(place)
        ending = ".nrrd" if case.image.suffix == ".nrrd" else ".nii.gz"
        image, label = (place / part / f"{case.case}{ending}" for part in ("images", "labels"))
        if label.is_file():
            continue
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(exist_ok=True)
        shutil.copy(case.image, image)
        if case.merged:
            labels = read_label_map(case.label)
            merged = Volume((labels.array > 0).astype(np.uint8), labels.geometry)
            write_label_map(merged, label, read_geometry(case.label))
        else:
            _copy_labels(case.label, label, _MOST_CLASSES)
    return list(dict.fromkeys(places))


def moe(*arguments: str) -> None:
    """Run the command line, and end with it if it fails."""
    status = subprocess.run([sys.executable, "-m", "moe_pipeline", *arguments], check=False).returncode
    if status:
        raise SystemExit(f"moe {' '.join(arguments)} ended with status {status}")


def linked(workspace: Path, name: str) -> Path:
    """A workspace beside, with the same experts and embeddings (hard links) and no model."""
    other = workspace.with_name(name)
    if not other.is_dir():
        ignored = shutil.ignore_patterns("model", "sft", "gate_training")
        shutil.copytree(workspace, other, copy_function=os.link, symlinks=True, ignore=ignored)
    return other


def compare(workspace: Path, out: Path, unseen: Sequence[Path], clicks: Sequence[int], datasets: Sequence[str]) -> None:
    """`moe evaluate --matrix`, each expert on its own set; repeated, it goes on with what is missing."""
    named = [word for name in datasets for word in ("--dataset", name)]
    strange = [word for folder in unseen for word in ("--unseen", str(folder))]
    asked = [word for n in clicks for word in ("--clicks", str(n))]
    moe(
        "evaluate", "--matrix", "--own-experts", *named, *strange, *asked, "-o", str(out), "--workspace", str(workspace)
    )


def table(out: Path, clicks: Sequence[int]) -> str:
    """Per set: general, its own expert, mixture, best possible; to whom its prompts went."""
    lines = []
    for n in clicks:
        prompts = pd.read_csv(out / f"prompts_{f'{n}_clicks' if n > 1 else '1_click'}.csv")
        lines += [f"\n{n} clicks" if n > 1 else "\n1 click", ""]
        lines += ["| set | prompts | general | its expert | mixture | to its expert | to another | unchanged |"]
        lines += ["|---|--:|--:|--:|--:|--:|--:|--:|"]
        for name, part in prompts.groupby("dataset", sort=False):
            lines.append(_row(str(name), part))
        lines += ["", *_never_finetuned(prompts)]
    return "\n".join(lines)


def _never_finetuned(prompts: pd.DataFrame) -> list[str]:
    """What is lost on sets that no compared model was trained on, mean over their prompts."""
    key = ["dataset", "case", "class_id"]
    strange = prompts[~prompts["dataset"].isin(prompts["model"].unique())]
    strange = strange[~strange["dataset"].str.match(r"Dataset\d{3}_")]
    if strange.empty:
        return []
    dice = strange.pivot_table(index=key, columns="model", values="dice")
    moved = strange[(strange["model"] == "moe") & (strange["expert"] != "general")]
    sets = dice.index.get_level_values("dataset").nunique()
    lines = [f"Never finetuned, {len(dice)} prompts of {sets} sets; {len(moved)} answered by an expert. Mean loss:"]
    for model in dice.columns.drop("general"):
        lines.append(f"- {model}: {(dice['general'] - dice[model]).mean():+.4f}")
    return lines


def guarantee(workspace: Path) -> str:
    """What gate.json promises, and when its experts answer."""
    claims = json.loads((workspace / "model" / "gate.json").read_text())["claims"]
    of = claims["guarantee"]
    lines = [
        f"\nLoss up to {of['bound']:.4f} at {of['confidence']:.0%}, measured {of['mean_loss']:.4f} ("
        f"{of['first_loss']:.4f} with one click, {of['corrected_loss']:.4f} with five) on {of['prompts']}",
        "",
        "| expert | threshold | answers of its own validation prompts | wins | could win | background clicks |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, e in claims["experts"].items():
        background = "-" if e["background"] is None else f"{e['background']:.0%}"
        shares = f"{e['answered']:.0%} of {e['prompts']} | {e['wins']:+.3f} | {e['could_win']:+.3f} | {background}"
        lines.append(f"| {name} | {e['threshold']:.2f} | {shares} |")
    return "\n".join(lines)


def _row(name: str, prompts: pd.DataFrame) -> str:
    """One line of the table, from prompts_*.csv."""
    by_model = {str(model): part.set_index(["case", "class_id"]) for model, part in prompts.groupby("model")}
    general, mixture = by_model["general"], by_model["moe"].loc[by_model["general"].index]
    own = f"{by_model[name]['dice'].mean():.3f}" if name in by_model else "-"
    went, same = mixture["expert"], (mixture["mask_sha256"] == general["mask_sha256"]).mean()
    to_own, to_other = (went == name).mean(), ((went != name) & (went != "general")).mean()
    shares = f"{to_own:.0%} | {to_other:.0%} | {same:.0%}"
    return (
        f"| {name} | {len(general)} | {general['dice'].mean():.3f} | {own} | {mixture['dice'].mean():.3f} | {shares} |"
    )


def main() -> None:
    """Run all stages, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=[t.source for t in TASK_SETS], help="all if not given")
    parser.add_argument("--minutes", type=float, help="training time of each expert, at most; as planned if not given")
    parser.add_argument("--sft", choices=[t.source for t in TASK_SETS], help="also finetune the whole network on this")
    parser.add_argument("--alone", choices=[t.source for t in TASK_SETS], help="also a gate over this expert alone")
    parser.add_argument("--leave-one-out", action="store_true", help="also gates without each set in turn")
    parser.add_argument("--clicks", type=int, action="append", help="per object; repeat for more tables (default 1, 5)")
    options = parser.parse_args()
    clicks, workspace = options.clicks or [1, 5], options.work / "workspace"
    tasks = [t for t in TASK_SETS if options.sets is None or t.source in options.sets]
    root, minutes = ("--workspace", str(workspace)), ("--max-minutes", str(options.minutes)) if options.minutes else ()
    for task in tasks:
        lay_out(options.data, workspace / "raw", task)
        if not (workspace / "plans" / task.dataset / "plan.json").is_file():
            moe("plan", task.dataset, "--patients", task.patient, *root)
        moe("finetune", task.dataset, *minutes, *root)
        if task.source == options.sft:
            moe("finetune", task.dataset, "--trainable", "all", *minutes, *root)
    names = [task.dataset for task in tasks]
    unseen = never_finetuned(options.data, options.work / "never_finetuned")
    if not (workspace / "model" / "moe.json").is_file():
        moe("train-gate", *names, *root)
    compare(workspace, options.work / "compared", unseen, clicks, names)
    parts = [guarantee(workspace), table(options.work / "compared", clicks)]
    if options.alone:
        only = next(task.dataset for task in tasks if task.source == options.alone)
        place, out = linked(workspace, "alone"), options.work / "compared_alone"
        if not (place / "model" / "moe.json").is_file():
            moe("train-gate", only, "--workspace", str(place))
        compare(place, out, unseen, clicks, names)
        parts.append(f"\nA gate over {only} alone:\n{guarantee(place)}\n{table(out, clicks)}")
    for left_out in names if options.leave_one_out and len(names) > 1 else ():
        place, out = linked(workspace, f"without_{left_out}"), options.work / f"compared_without_{left_out}"
        if not (place / "model" / "moe.json").is_file():
            moe("train-gate", *(name for name in names if name != left_out), "--workspace", str(place))
        compare(place, out, [], clicks[:1], [left_out])
        parts.append(f"\n{left_out} left out of the gate:\n{table(out, clicks[:1])}")
    (options.work / "tables.md").write_text("\n".join(parts) + "\n")
    print("\n".join(parts))


if __name__ == "__main__":
    main()
