"""nnU-Net and an expert on the same training cases for the same minutes, scored on the same held-back cases.

    python benchmarks/side_by_side.py --work WORK --nnunet VENV --minutes 5 [--minutes 10] [--threads 2]

WORK is what main_job.py left: its converted Dataset004_Hippocampus with plan and splits, and the cases held back. VENV
is a virtual environment with nnunetv2 (see planning.py). Both learn from the training cases of fold 0. nnU-Net's
3d_fullres gets the minutes for training, its learning rate falling to nothing within them; the expert gets them for
encoding and training together. Nobody clicks for nnU-Net; for the expert the table has no clicks (its click
proposer's), one and five. Runs one after the other; both are given the same number of threads.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from machine import describe, markdown_table

from moe_pipeline.workspace import Workspace

DATASET = "Dataset004_Hippocampus"


def mean_dice(out: Path, command: str, *arguments: str) -> float:
    """Mean over classes and cases in the dice.csv that a command of ours writes to a folder."""
    asked = [sys.executable, "-m", "moe_pipeline", command, *arguments, "-o", str(out)]
    subprocess.run(asked, check=True)
    return float(pd.read_csv(out / "dice.csv")["dice"].mean())


def run_nnunet(work: Path, venv: Path, minutes: float, threads: int) -> float:
    """Prepare once, train, predict, score."""
    root = work / "nnunet"
    environment = os.environ | {f"nnUNet_{part}": str(root / part) for part in ("raw", "preprocessed", "results")}
    environment |= {"nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": str(threads), "nnUNet_compile": "f"}
    preprocessed = root / "preprocessed" / DATASET
    if not (preprocessed / "splits_final.json").is_file():
        shutil.copytree(work / "workspace" / "raw" / DATASET, root / "raw" / DATASET, dirs_exist_ok=True)
        prepare = ["nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
        subprocess.run([str(venv / "bin" / prepare[0]), *prepare[1:]], env=environment, check=True)
        splits = json.loads((work / "workspace" / "plans" / DATASET / "splits.json").read_text())
        (preprocessed / "splits_final.json").write_text(json.dumps(nnunet_splits(splits)))
    out = work / "side_by_side" / f"nnunet_{minutes:g}"
    held_back = work / "held_back" / "Task004_Hippocampus"
    script = Path(__file__).with_name("nnunet_timed.py")
    command = [venv / "bin" / "python", script, DATASET, minutes, held_back / "imagesTr", out]
    subprocess.run([str(part) for part in command], env=environment, check=True)
    return mean_dice(out, "evaluate", "-i", str(out), "-r", str(held_back / "labelsTr"))


def nnunet_splits(splits: dict[str, object]) -> list[dict[str, list[str]]]:
    """Our folds as nnU-Net's."""
    folds = splits["folds"]
    assert isinstance(folds, list)
    return [{"train": list(fold["train"]), "val": list(fold["validation"])} for fold in folds]


def run_moe(work: Path, minutes: float) -> dict[str, float]:
    """Encode and train within the minutes, in a workspace of its own; Dice by the number of clicks."""
    place = Workspace(work / "side_by_side" / f"moe_{minutes:g}")
    shutil.rmtree(place.root, ignore_errors=True)
    for part in ("raw", "plans"):
        shutil.copytree(work / "workspace" / part / DATASET, place.root / part / DATASET)
    root = ("--workspace", str(place.root))
    moe = [sys.executable, "-m", "moe_pipeline"]
    began = time.monotonic()
    subprocess.run([*moe, "finetune", DATASET, "--max-minutes", "0.01", "--no-click-proposer", *root], check=True)
    left = minutes - (time.monotonic() - began) / 60
    more = ["--max-minutes", f"{left:.2f}", "--epochs", "100", "--overwrite"]
    subprocess.run([*moe, "finetune", DATASET, *more, *root], check=True)
    subprocess.run([*moe, "train-gate", DATASET, *root], check=True)
    held_back = work / "held_back" / "Task004_Hippocampus"
    scores = {}
    for name, clicks in {"no clicks": None, "1 click": 1, "5 clicks": 5}.items():
        prompts = ("--labels", str(held_back / "labelsTr"), "--clicks", str(clicks)) if clicks else ()
        out = place.root / "predicted" / name.replace(" ", "_")
        asked = ("-i", str(held_back / "imagesTr"), "-r", str(held_back / "labelsTr"), *prompts, *root)
        scores[name] = mean_dice(out, "predict", *asked)
    return scores


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nnunet", type=Path, required=True)
    parser.add_argument("--minutes", type=float, action="append", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    rows = []
    for minutes in options.minutes:
        theirs = run_nnunet(options.work, options.nnunet, minutes, options.threads)
        rows.append([f"{minutes:g}", f"{theirs:.3f}", *(f"{d:.3f}" for d in run_moe(options.work, minutes).values())])
    print(describe(torch.device("cpu")))
    print(markdown_table(["minutes", "nnU-Net", "expert, no clicks", "1 click", "5 clicks"], rows))


if __name__ == "__main__":
    main()
