"""Prediction without prompts on real data: as good as one click where experts are at home, silent where they are not.

    python benchmarks/automatic.py --data FOLDER --work FOLDER [--minutes 3] [--unguarded]

FOLDERs are those of main_job.py, whose model is used, or made here where there is none yet. On the held-back cases of
each expert's dataset: Dice of the automatic prediction against that of one simulated click of the same mixture, share
of clicks inside their object, mean distance (0 inside). On every other labelled volume: what was proposed and written,
which should be nothing. --unguarded lets every expert speak everywhere: what the click proposers alone would invent.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from labelled_sets import labelled_cases
from main_job import prepare, timed

from moe_pipeline.evaluation.forgetting.datasets import EvaluationSet
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest, SimulatedRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.options import SearchOptions
from moe_pipeline.inference.search.search import Findings, search_case
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture, load_mixture, with_expert
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Score:
    """One class of one case; no distance where nothing was proposed."""

    class_id: int
    automatic: float
    clicked: float
    distance_mm: float | None


def scores(model: Mixture, held_back: EvaluationSet) -> Iterator[Score]:
    """Automatic against one click, for every class in the references."""
    for case in held_back.cases:
        image, reference = read_volume(case.image), read_label_map(case.reference)
        present = {c: name for c, name in held_back.classes.items() if (reference.array == c).any()}
        found = look(model, image)
        alone = segment_case(model, PromptRequest(case.case, image, found.prompts)).labels.array
        asked = SimulatedRequest(case.case, image, reference, present)
        clicked = segment_case(model, asked).labels.array
        for class_id in present:
            wanted = reference.array == class_id
            clicks = [prompt.clicks_mm[0] for prompt in found.prompts if prompt.class_id == class_id]
            gaps = [distance_mm(click, wanted, reference) for click in clicks]
            yield Score(
                class_id,
                dice(alone == class_id, wanted),
                dice(clicked == class_id, wanted),
                max(gaps) if gaps else None,
            )


def distance_mm(click_mm: np.ndarray, mask: np.ndarray, grid: Volume) -> float:
    """From a click to the nearest voxel of a mask, 0 inside one."""
    voxel = grid.geometry.world_to_voxel(click_mm)
    beyond = (np.abs(np.argwhere(mask) - voxel) - 0.5).clip(min=0) * grid.geometry.spacing_mm
    return float(np.linalg.norm(beyond, axis=1).min())


def look(model: Mixture, image: Volume) -> Findings:
    """The search alone."""
    return search_case(model, CropBank(image, model.foundation, model.device), SearchOptions())


def at_initial_window(name: str, found: list[Score]) -> str:
    """A row of the first table."""
    automatic, clicked = (np.mean([getattr(s, field) for s in found]) for field in ("automatic", "clicked"))
    gaps = [s.distance_mm for s in found if s.distance_mm is not None]
    hits = np.mean([s.distance_mm == 0 for s in found])
    far = f"{np.mean(gaps):.2f}" if gaps else "-"
    columns = (name, len(found), f"{clicked:.3f}", f"{automatic:.3f}", f"{automatic - clicked:+.3f}", len(gaps))
    return f"| {' | '.join(map(str, columns))} | {hits:.3f} | {far} |"


def abroad(model: Mixture, name: str, image: Volume) -> str:
    """A row of the second table."""
    began = time.monotonic()
    found = look(model, image)
    seconds = time.monotonic() - began
    labels = segment_case(model, PromptRequest(name, image, found.prompts)).labels
    invented_ml = np.count_nonzero(labels.array) * labels.geometry.voxel_ml
    reasons = {gap.message.split(":")[0] for gap in found.missing}
    columns = (name, len(found.prompts), f"{invented_ml:.2f}", f"{seconds:.1f}", "; ".join(sorted(reasons)))
    return f"| {' | '.join(map(str, columns))} |"


def make_model(place: Workspace, sources: list[Path], minutes: float) -> None:
    """The five steps up to the gate, as main_job.py runs them."""
    root = ("--workspace", str(place.root))
    names = [source.name.replace("Task", "Dataset") for source in sources]
    for source, name in zip(sources, names, strict=True):
        patients = ("--patients", r"hippocampus_(\d\d)") if "Hippo" in name else ()
        timed("convert", "convert", str(source), "--out", name, *root)
        timed("plan", "plan", name, *patients, *root)
        timed("finetune", "finetune", name, "--max-minutes", str(minutes), *root)
    timed("train-gate", "train-gate", *names, *root)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0, help="training time of each expert")
    parser.add_argument("--without-ood", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    load = os.getloadavg()[0]
    place = Workspace(options.work / "workspace")
    painted = place.expert("Dataset020_PaintedKidneys").is_dir()  # by `main_job.py`, if it was asked for everything
    sources, sets = prepare(options.data, options.work, everything=painted)
    if not (place.model / "moe.json").is_file():
        make_model(place, sources, options.minutes)
    model = load_mixture(place.model, weights_root=place.weights)
    print(f"\n{os.cpu_count()} cores, {torch.get_num_threads()} threads, load {load:.1f} at the start\n")
    for expert in model.experts:
        card = ExpertCard.load(place.expert(expert.name) / "expert.json")
        print(
            f"{expert.name}: step {card.best_step}, {card.validation}; "
            f"{card.click_proposer and card.click_proposer.validation}"
        )
    print("\n| dataset, class | n | Dice of one click | automatic | difference | found | hit | mean mm |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for held_back in (one for one in sets if one.name in {expert.name for expert in model.experts}):
        found = list(scores(model, held_back))
        for class_id, name in held_back.classes.items():
            print(
                at_initial_window(f"{held_back.name}, {name}", [score for score in found if score.class_id == class_id])
            )
        print(at_initial_window(f"{held_back.name}, mean", found))
    searched = [with_expert(model, expert) for expert in model.experts] if options.without_ood else [model]
    print("\n| image of another kind | prompts | invented ml | search s | why nothing |\n|---|--:|--:|--:|---|")
    for case in labelled_cases(options.data):
        if not case.set_name.startswith(("Hippocampus", "BraTS")):
            image, _ = case.read()
            for one in searched:
                who = f", {one.experts[0].name}" if options.without_ood else ""
                print(abroad(one, f"{case.set_name}, {case.case}{who}", image), flush=True)


if __name__ == "__main__":
    main()
