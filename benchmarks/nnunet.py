"""nnU-Net and an expert on the same training cases for the same minutes, scored on the same held-back cases.

    python benchmarks/nnunet.py --data DATA --work WORK --nnunet VENV [--set hippocampus] [--minutes 10] [--threads 2]

DATA is laid out like the project's test volumes. VENV is a virtual environment with nnunetv2, made for this alone:

    python3 -m venv VENV && VENV/bin/pip install nnunetv2

Without --set there are three sets, without --minutes 10, 20 and 40 minutes each: seven hours in all. What is done is
kept in WORK and not done again; the table is printed after each result.

Both learn from the training cases of fold 0, one after the other, with the same number of threads. nnU-Net's 3d_fullres
gets the minutes for training alone, its learning rate falling to nothing within them; the expert gets them for
encoding, training and its click proposer together. Its gate comes on top and has its own column, as nnU-Net's
preprocessing has. Nobody clicks for nnU-Net; for the expert the table has no clicks, one and five. Run it on a quiet
machine: the minutes are those of the clock, and those of the processor stand beside them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from machine import describe, markdown_table
from main_job import HIPPOCAMPUS, decathlon, is_held_back

from moe_pipeline.files import write_text
from moe_pipeline.workspace import Workspace

_CLICKS = {"no_clicks": 0, "1_click": 1, "5_clicks": 5}
_SHORT_MINUTES = 0.01


@dataclass(frozen=True, slots=True)
class Trial:
    """A set of DATA, and how its cases are told apart."""

    dataset: str
    folder: str
    images: str
    labels: str
    modality: str
    classes: dict[int, str]
    patients: str
    """Regular expression that finds the patient in a case id."""
    held_back: Callable[[int, Path], bool]
    """Of the number of a case in its folder, and its file."""
    published: str
    """What is published of nnU-Net on these data, and where."""

    @property
    def task(self) -> str:
        """Name of the source folder."""
        return self.dataset.replace("Dataset", "Task")


TRIALS = {
    "hippocampus": Trial(
        "Dataset004_Hippocampus",
        "Task04_Hippocampus",
        "imagesTr",
        "labelsTr",
        "MRI",
        HIPPOCAMPUS,
        r"hippocampus_(\d\d)",
        lambda _, path: is_held_back(path),
        "0.90 anterior, 0.89 posterior (test set; arXiv 1809.10486)",
    ),
    "heart": Trial(
        "Dataset027_ACDC",
        "ACDC_cine",
        "images",
        "labels",
        "MRI",
        {1: "right ventricle", 2: "myocardium", 3: "left ventricle"},
        r"patient(\d+)",
        lambda number, _: number % 3 == 2,
        "0.915 (mean of three classes, five-fold cross-validation of 200 scans; arXiv 2404.09556)",
    ),
    "sarcoma": Trial(
        "Dataset030_SarcomaPET",
        "STS_PET",
        "images",
        "labels",
        "PET",
        {1: "tumour"},
        r"STS_(\d+)",
        lambda number, _: number % 5 == 4,
        "none found",
    ),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything of one trial lies."""

    root: Path
    trial: Trial

    @property
    def held_back(self) -> Path:
        """Decathlon task of the held-back cases."""
        return self.root / "held_back" / self.trial.task

    @property
    def workspace(self) -> Workspace:
        """The converted and planned dataset, which nothing is trained in."""
        return Workspace(self.root / "workspace")

    def result(self, side: str, minutes: float) -> Path:
        """What came out of a training."""
        return self.root / "results" / f"{side}_{minutes:g}.json"


def run(command: Sequence[object], environment: dict[str, str] | None = None) -> dict[str, float]:
    """Wall and processor minutes of a command and its children."""
    began = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"status {status}: {' '.join(map(str, command))}")
    return {"minutes": (time.monotonic() - began) / 60, "processor": (usage.ru_utime + usage.ru_stime) / 60}


def moe(*arguments: object) -> dict[str, float]:
    """The same of one of our commands."""
    return run([sys.executable, "-m", "moe_pipeline", *arguments])


def mean_dice(out: Path) -> float:
    """Mean over classes and cases of a dice.csv."""
    return float(pd.read_csv(out / "dice.csv")["dice"].mean())


def prepare(data: Path, place: Place) -> None:
    """Split the cases, convert and plan."""
    trial = place.trial
    if not (place.held_back / "dataset.json").is_file():
        images = sorted((data / trial.folder / trial.images).glob("*.nii.gz"))
        kept: dict[bool, list[tuple[Path, Path]]] = {False: [], True: []}
        for number, image in enumerate(images):
            label = data / trial.folder / trial.labels / image.name
            kept[trial.held_back(number, image)].append((image, label))
        decathlon(place.root / "source" / trial.task, kept[False], trial.modality, trial.classes)
        decathlon(place.held_back, kept[True], trial.modality, trial.classes)
    root = ("--workspace", place.workspace.root)
    moe("convert", place.root / "source" / trial.task, "--out", trial.dataset, *root)
    moe("plan", trial.dataset, "--patients", trial.patients, *root)


def nnunet_environment(place: Place, threads: int) -> dict[str, str]:
    """Variables that nnU-Net wants."""
    folders = {f"nnUNet_{part}": str(place.root / "nnunet" / part) for part in ("raw", "preprocessed", "results")}
    return {**os.environ, **folders, "nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": str(threads), "nnUNet_compile": "f"}


def prepare_nnunet(place: Place, venv: Path, threads: int) -> float:
    """Fingerprint, plan, preprocess, once; its minutes."""
    dataset, root, done = place.trial.dataset, place.root / "nnunet", place.result("nnunet_prepared", 0)
    if not done.is_file():
        shutil.copytree(place.workspace.raw(dataset), root / "raw" / dataset, dirs_exist_ok=True)
        number = str(int(dataset[7:10]))
        command = [venv / "bin" / "nnUNetv2_plan_and_preprocess", "-d", number, "-c", "3d_fullres"]
        took = run([*command, "-np", "1", "-npfp", "1"], nnunet_environment(place, threads))
        splits = json.loads(place.workspace.splits(dataset).read_text())
        folds = [{"train": list(fold["train"]), "val": list(fold["validation"])} for fold in splits["folds"]]
        (root / "preprocessed" / dataset / "splits_final.json").write_text(json.dumps(folds))
        write_text(done, json.dumps(took))
    return float(json.loads(done.read_text())["minutes"])


def run_nnunet(place: Place, venv: Path, minutes: float, threads: int) -> dict[str, float]:
    """Train, predict, score."""
    prepared = prepare_nnunet(place, venv, threads)
    out = place.root / "nnunet" / f"predicted_{minutes:g}"
    timed = Path(__file__).with_name("nnunet_timed.py")
    command = [venv / "bin" / "python", timed, place.trial.dataset, minutes, place.held_back / "imagesTr", out]
    took = run(command, nnunet_environment(place, threads))
    moe("evaluate", "-i", out, "-r", place.held_back / "labelsTr", "-o", out)
    return {"dice": mean_dice(out), **took, "prepared": prepared}


def beside_training(place: Place) -> float:
    """Minutes that an expert takes beside its training, for its start, encoding and click proposer; measured once."""
    done = place.result("moe_beside", 0)
    if not done.is_file():
        root = fresh_workspace(place, "beside")
        took = moe("finetune", place.trial.dataset, "--max-minutes", _SHORT_MINUTES, "--workspace", root)
        write_text(done, json.dumps(took))
    return float(json.loads(done.read_text())["minutes"])


def fresh_workspace(place: Place, name: str) -> Path:
    """A workspace with the dataset and its plan, and nothing else."""
    workspace, dataset = Workspace(place.root / f"moe_{name}"), place.trial.dataset
    shutil.rmtree(workspace.root, ignore_errors=True)
    for folder in ("raw", "plans"):
        shutil.copytree(place.workspace.root / folder / dataset, workspace.root / folder / dataset)
    return workspace.root


def run_moe(place: Place, minutes: float) -> dict[str, float]:
    """Encode and train within the minutes, from nothing; train the gate; predict and score."""
    left = minutes - beside_training(place)
    if left <= 0:
        raise SystemExit(f"{place.trial.dataset}: {minutes:g} minutes are fewer than it takes to encode the crops")
    root = fresh_workspace(place, f"{minutes:g}")
    limits = ("--max-minutes", f"{left:.2f}", "--epochs", "100")
    took = moe("finetune", place.trial.dataset, *limits, "--workspace", root)
    gate = moe("train-gate", place.trial.dataset, "--workspace", root)
    scores = {}
    images, labels = place.held_back / "imagesTr", place.held_back / "labelsTr"
    for name, clicks in _CLICKS.items():
        out = root / "predicted" / name
        prompts = ("--labels", labels, "--clicks", clicks) if clicks else ()
        moe("predict", "-i", images, "-r", labels, "-o", out, *prompts, "--workspace", root)
        scores[name] = mean_dice(out)
    return {**scores, **took, "gate": gate["minutes"]}


def table(places: Sequence[Place], budgets: Sequence[float]) -> str:
    """Everything that is done so far."""
    header = ["set", "minutes", "nnU-Net", "no clicks", "1 click", "5 clicks"]
    header += ["nnU-Net: prepared", "took", "processor", "expert: took", "processor", "gate"]
    rows = []
    for place in places:
        for minutes in budgets:
            theirs, ours = (place.result(side, minutes) for side in ("nnunet", "moe"))
            if not (theirs.is_file() and ours.is_file()):
                continue
            nnunet, own = json.loads(theirs.read_text()), json.loads(ours.read_text())
            scores = [nnunet["dice"], *(own[name] for name in _CLICKS)]
            times = [nnunet["prepared"], nnunet["minutes"], nnunet["processor"]]
            times += [own["minutes"], own["processor"], own["gate"]]
            rows.append(
                [place.trial.dataset, f"{minutes:g}", *(f"{s:.3f}" for s in scores), *(f"{t:.1f}" for t in times)]
            )
    published = "\n".join(f"{place.trial.dataset}: {place.trial.published}" for place in places)
    return f"{markdown_table(header, rows)}\n\nPublished of nnU-Net, mean Dice:\n{published}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nnunet", type=Path, required=True)
    parser.add_argument("--set", choices=TRIALS, action="append", dest="sets", help="repeat for more")
    parser.add_argument("--minutes", type=float, action="append", help="repeat for more")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    names, budgets = options.sets or list(TRIALS), options.minutes or [10.0, 20.0, 40.0]
    places = [Place(options.work.resolve() / TRIALS[name].dataset, TRIALS[name]) for name in names]
    print(describe(torch.device("cpu")), flush=True)
    for place in places:
        prepare(options.data, place)
        for minutes in budgets:
            if not (done := place.result("nnunet", minutes)).is_file():
                write_text(done, json.dumps(run_nnunet(place, options.nnunet, minutes, options.threads)))
            if not (done := place.result("moe", minutes)).is_file():
                write_text(done, json.dumps(run_moe(place, minutes)))
            print(f"\n{table(places, budgets)}", flush=True)


if __name__ == "__main__":
    main()
