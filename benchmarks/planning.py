"""Convert, check, fingerprint and plan one Decathlon task, against nnU-Net's commands for the same, in one run.

    python benchmarks/planning.py --data FOLDER/Task04_Hippocampus --work FOLDER [--nnunet VENV] [--repeats 3] [--giant]
    python benchmarks/planning.py --data FOLDER/Task04_Hippocampus --work FOLDER --finetune 2

VENV is a virtual environment with nnunetv2, made for this alone:

    python3 -m venv VENV && VENV/bin/pip install nnunetv2

Each command runs in a process of its own, as users start it, and writes to an empty folder. Of several repeats the
fastest total counts, for both sides. Then spacing and foreground intensities of both fingerprints are compared.
--giant also plans a made case of 512 x 512 x 1200 voxels (int16, half of them foreground) for its peak memory.
--finetune EPOCHS trains the planned expert for so many epochs and holds the plan's estimates against what it took.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch
from machine import describe, markdown_table

from moe_pipeline.planning.plan_files import load_fingerprint, load_plan
from moe_pipeline.records.planning import Fingerprint
from moe_pipeline.workspace import Workspace

_INTENSITIES = ("mean", "median", "std", "percentile_00_5", "percentile_99_5")
_TOLERANCE = 0.01

_LAUNCHER = """
import resource, subprocess, sys, time
began = time.monotonic()
status = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("", time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(status)
"""  # small: what a process held before it became the command counts as the command's peak


class Cost(NamedTuple):
    """What a command and its children took."""

    seconds: float
    processor_seconds: float
    peak_mb: float


Times = dict[str, Cost]
"""By command."""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a Decathlon task such as Task04_Hippocampus")
    parser.add_argument("--work", type=Path, required=True, help="for everything that is written; emptied first")
    parser.add_argument("--nnunet", type=Path, help="virtual environment that has nnunetv2")
    parser.add_argument("--processes", type=int, default=2, help="of nnU-Net; ours takes the cores there are")
    parser.add_argument("--finetune", type=int, metavar="EPOCHS", help="hold estimates against a training so long")
    parser.add_argument("--giant", action="store_true", help="also plan a case of 512 x 512 x 1200 voxels")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    dataset = arguments.data.name.replace("Task", "Dataset0")
    print(describe(torch.device("cpu")) + "\n")
    ours = fastest([run_ours(arguments.data, arguments.work / "moe", dataset) for _ in range(arguments.repeats)])
    print(table("moe", ours))
    if arguments.giant:
        print(table("moe, 512 x 512 x 1200", run_giant(arguments.work / "giant")))
    if arguments.finetune:
        print(estimated_and_taken(Workspace(arguments.work / "moe"), dataset, arguments.finetune))
    if arguments.nnunet is None:
        return
    work = arguments.work / "nnunet"
    runs = [run_nnunet(arguments.nnunet, arguments.data, work, arguments.processes) for _ in range(arguments.repeats)]
    theirs = fastest(runs)
    print(table(f"nnU-Net, {arguments.processes} processes", theirs))
    print(f"\n{total(theirs) / total(ours):.1f} times as fast as nnU-Net.\n")
    fingerprint = load_fingerprint(Workspace(arguments.work / "moe").plans(dataset))
    print(compared(fingerprint, json.loads((work / "preprocessed" / dataset / "dataset_fingerprint.json").read_text())))


def run_ours(source: Path, root: Path, dataset: str) -> Times:
    """Both commands, from nothing."""
    shutil.rmtree(root, ignore_errors=True)
    moe, place = [sys.executable, "-m", "moe_pipeline"], ["--workspace", str(root)]
    return {
        "moe convert": timed([*moe, "convert", str(source), "--out", dataset, *place]),
        "moe plan": timed([*moe, "plan", dataset, *place]),
    }


def run_giant(work: Path) -> Times:
    """The plan of one very large case, made here."""
    shutil.rmtree(work, ignore_errors=True)
    folder = work / "raw" / "Dataset900_Giant"
    make_giant(folder)
    return {"moe plan": timed([sys.executable, "-m", "moe_pipeline", "plan", str(folder), "--workspace", str(work)])}


def make_giant(folder: Path) -> None:
    """A noisy cylinder in air as image; itself, a block and a dot in it as classes."""
    shape = (1200, 512, 512)  # z, y, x
    y, x = np.ogrid[:512, :512]
    body = ((x - 256) / 200) ** 2 + ((y - 256) / 150) ** 2 < 1
    random = np.random.default_rng(0)
    image, label = np.empty(shape, np.int16), np.zeros(shape, np.uint8)
    for slab in image:
        slab[...] = np.where(body, 40, -1000) + random.integers(-20, 20, body.shape)
    label[20:1180] = body
    label[300:500, 150:350, 150:350] = 2
    label[600:603, 250:253, 250:253] = 3
    for array, path in ((image, folder / "imagesTr" / "c0_0000.nii.gz"), (label, folder / "labelsTr" / "c0.nii.gz")):
        path.parent.mkdir(parents=True)
        written = sitk.GetImageFromArray(array)
        written.SetSpacing((0.8, 0.8, 1.0))
        sitk.WriteImage(written, str(path), useCompression=True, compressionLevel=1)
    labels = {"background": 0, "body": 1, "block": 2, "dot": 3}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))


def estimated_and_taken(place: Workspace, dataset: str, epochs: int) -> str:
    """Estimates of the plan with so many epochs, and what `moe finetune` really takes."""
    path = place.plans(dataset) / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": epochs}))
    moe, at = [sys.executable, "-m", "moe_pipeline"], [dataset, "--workspace", str(place.root)]
    subprocess.run([*moe, "plan", *at], stdout=subprocess.DEVNULL, check=True)  # estimates of the edited plan
    expected = load_plan(path.parent).estimates
    cost = timed([*moe, "finetune", *at])
    folders = (place.embeddings(dataset), place.expert(dataset))
    disk_mb = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file()) / 1e6
    pairs = {
        "disk MB": (expected.disk_mb, disk_mb),
        "memory MB": (expected.memory_mb, cost.peak_mb),
        "minutes": (expected.minutes, cost.seconds / 60),
        "minutes of one processor": (expected.minutes, cost.processor_seconds / 60),
    }
    rows = [[name, f"{a:.1f}", f"{b:.1f}", f"{b / a:.2f}"] for name, (a, b) in pairs.items()]
    note = "The last line is what one thread would take on a quiet machine; compare it only under OMP_NUM_THREADS=1."
    return "\n" + markdown_table([f"finetune, {epochs} epochs", "estimated", "taken", "ratio"], rows) + f"\n\n{note}"


def run_nnunet(venv: Path, source: Path, work: Path, processes: int) -> Times:
    """nnU-Net's three commands, from nothing."""
    shutil.rmtree(work, ignore_errors=True)
    task = stage_task(source, work / "source" / source.name)
    environment = {f"nnUNet_{part}": str(work / part) for part in ("raw", "preprocessed", "results")}
    for folder in environment.values():
        Path(folder).mkdir()
    number, count = str(int(source.name[4:6])), str(processes)
    commands = [
        ["nnUNetv2_convert_MSD_dataset", "-i", str(task), "-np", count],
        ["nnUNetv2_extract_fingerprint", "-d", number, "-np", count, "--verify_dataset_integrity"],
        ["nnUNetv2_plan_experiment", "-d", number],
    ]
    bin_folder = venv.absolute() / "bin"
    return {name: timed([str(bin_folder / name), *options], environment) for name, *options in commands}


def stage_task(source: Path, task: Path) -> Path:
    """The task with an imagesTs folder and a list `test`, which nnU-Net's converter wants even where none is used."""
    task.mkdir(parents=True)
    for part in ("imagesTr", "labelsTr"):
        (task / part).symlink_to((source / part).absolute())
    (task / "imagesTs").mkdir()
    description = json.loads((source / "dataset.json").read_text())
    (task / "dataset.json").write_text(json.dumps({"test": [], **description}))
    return task


def timed(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Run a command; ends the program if it fails."""
    launcher = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launcher, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout.decode(errors='replace')[-2000:]}")
    seconds, processor_seconds, kilobytes = map(float, done.stdout.split()[-3:])
    return Cost(seconds, processor_seconds, kilobytes / 1000)


def fastest(runs: list[Times]) -> Times:
    """The run that took least in all."""
    return min(runs, key=total)


def total(run: Times) -> float:
    """Seconds of all commands."""
    return sum(cost.seconds for cost in run.values())


def table(who: str, run: Times) -> str:
    """One line per command, and the sum."""
    rows = [[name, f"{cost.seconds:.2f}", f"{cost.peak_mb:.0f}"] for name, cost in run.items()]
    return "\n" + markdown_table([who, "seconds", "peak MB"], [*rows, ["together", f"{total(run):.2f}", ""]])


def compared(ours: Fingerprint, theirs: dict[str, object]) -> str:
    """Median spacing and foreground intensities of both; ends the program where they differ by more than 1 %."""
    spacings: list[list[float]] = theirs["spacings"]  # type: ignore[assignment]
    channels: dict[str, dict[str, float]] = theirs["foreground_intensity_properties_per_channel"]  # type: ignore[assignment]
    pairs = {
        f"spacing {axis}": (ours.spacing_mm[number].median, float(np.median([row[2 - number] for row in spacings])))
        for number, axis in enumerate("xyz")  # nnU-Net's order is z, y, x
    }
    for number, found in enumerate(ours.foreground):
        if found is not None:
            pairs |= {
                f"channel {number} {name}": (getattr(found, name), channels[str(number)][name]) for name in _INTENSITIES
            }
    rows, far = [], []
    for name, (one, other) in pairs.items():
        difference = abs(one - other) / abs(other) if other else abs(one)
        rows.append([name, f"{one:.6g}", f"{other:.6g}", f"{100 * difference:.3f} %"])
        far += [name] if difference > _TOLERANCE else []
    text = markdown_table(["fingerprint", "moe", "nnU-Net", "difference"], rows)
    if far:
        raise SystemExit(f"{text}\n\nMore than 1 % apart: {', '.join(far)}")
    return text + "\n\nAll within 1 %."


if __name__ == "__main__":
    main()
