"""Annotate, finetune, annotate again: how many clicks does the next scan need?

    python benchmarks/circle.py --images DIR --labels DIR --folder WORK [--annotated 6] [--more 6] [--further 24]

A simulated user annotates the first scans through the server, with the foundation's help, and accepts them: what is
learnt from are these accepted masks, not the references. An expert is finetuned on them. With `--more N` the user
annotates N further scans with the expert's help, and `moe finetune --continue` takes them in. The last scans are only
measured: clicks until the Dice is 0.8, and the Dice after one, five and ten clicks, for the foundation and for each
expert. Clicks and masks go over HTTP, by the JSON API.

The user clicks where the largest wrong part is thickest, ten times at most; an object that is not good by then counts
as eleven clicks. A mask that is still bad after ten clicks is not accepted: its scan is left, and the next one taken.
References tell where to click and when to stop, as in every evaluation with a simulated user.
Experts answer everything here; a gate is not part of the question. The circle goes on where it was stopped.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from clicking import Client, running
from machine import describe, markdown_table
from numpy.typing import NDArray

import moe_pipeline
from moe_pipeline.files import write_text
from moe_pipeline.imaging.io.files import label_maps_in, list_images
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.session.accepted import journal_of
from moe_pipeline.mixture.model import Mixture, load_expert, load_foundation_alone, with_expert
from moe_pipeline.prompts.thickest import deepest_of_parts
from moe_pipeline.server.options import ServeOptions
from moe_pipeline.server.service import Service
from moe_pipeline.workspace import Workspace

NAME, CLASS = "Dataset900_Annotated", "object"
GOOD_DICE, FAIR_DICE, MOST_CLICKS = 0.8, 0.7, 10


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who knows the references.

    Attributes:
        images: folder of scans.
        labels: reference of each case.
    """

    images: Path
    labels: dict[str, Path]

    def annotate(self, port: int, case: str, *, accept: bool) -> list[float]:
        """The Dice after each click at a scan: until it is good, and accepted if fair; or of all, only measured."""
        read = read_native(self.labels[case])
        reference, client = read.array > 0, Client(port, case)
        client.post("/objects", class_name=CLASS)
        scores: list[float] = []
        while len(scores) < MOST_CLICKS and not (accept and scores and scores[-1] >= GOOD_DICE):
            mask = client.labels > 0
            wrong = [reference & ~mask, mask & ~reference]
            found = [_thickest(part, read.geometry.spacing_mm) for part in wrong]
            inside = found[0][0] >= found[1][0]
            client.click(found[0 if inside else 1][1], inside)
            scores.append(dice(client.labels > 0, reference))
        if accept and scores[-1] >= FAIR_DICE:
            client.post("/accept")
        client.close()
        return scores


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--images", "--labels", "--folder"):
        parser.add_argument(name, type=Path, required=True)
    for name, default in (("--annotated", 6), ("--more", 0), ("--further", 12)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--minutes", type=float, help="of each training at most; else as many steps as planned")
    options = parser.parse_args()
    print(describe(torch.device("cpu")), flush=True)
    user = User(options.images, dict(label_maps_in(options.labels).files))
    place, cases = Workspace(options.folder), [case for case, _ in list_images(options.images)]
    to_annotate, further = cases[: -options.further], cases[-options.further :]
    foundation = load_foundation_alone("nano")
    later = _accept(options.annotated, user, to_annotate, foundation, place)
    if not place.plan(NAME).is_file():
        moe_pipeline.plan(place.raw(NAME), workspace=place.root)
    if not place.expert_folds(NAME):
        moe_pipeline.finetune(NAME, max_minutes=options.minutes, click_proposer=False, workspace=place.root)
    rows = [_row("foundation", user, further, foundation, place)]
    rows.append(_row(f"expert of {options.annotated} scans", user, further, _expert(place, foundation), place))
    if options.more:
        _accept(options.more, user, later, _expert(place, foundation), place)
        moe_pipeline.finetune(
            NAME, max_minutes=options.minutes, click_proposer=False, continued=True, workspace=place.root
        )
        name = f"continued with {options.more} more"
        rows.append(_row(name, user, further, _expert(place, foundation), place))
    header = ["who answers", "scans", "clicks to 0.8", "not reached", *(f"Dice, {n} clicks" for n in (1, 2, 3, 5, 10))]
    print(markdown_table(header, rows))


def _thickest(part: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> tuple[int, list[int]]:
    """Voxels of what is wrong, and where its largest part is thickest."""
    if not part.any():
        return 0, [0, 0, 0]
    return int(part.sum()), deepest_of_parts(part, spacing_mm, 1)[0].tolist()


@contextmanager
def _served(model: Mixture, user: User, dataset: Path) -> Iterator[int]:
    options = ServeOptions(images=user.images, dataset=dataset, liveness_seconds=3600, idle_seconds=3600)
    with running(Service(model, SegmentOptions(), options)) as port:
        yield port


def _accept(n: int, user: User, cases: list[str], model: Mixture, place: Workspace) -> list[str]:
    """Annotate scans until so many are accepted; the cases that are left for later."""
    raw, later, accepted = place.raw(NAME), list(cases), 0
    with _served(model, user, raw) as port:
        while accepted < n and later:
            case = later.pop(0)
            if not (raw / "labelsTr" / f"{case}.nii.gz").is_file() and not journal_of(raw, case).is_file():
                scores = user.annotate(port, case, accept=True)
                print(f"{case}: {len(scores)} clicks, Dice {scores[-1]:.2f}", flush=True)
            accepted += (raw / "labelsTr" / f"{case}.nii.gz").is_file()
    return later


def _expert(place: Workspace, foundation: Mixture) -> Mixture:
    expert = load_expert(place.expert(NAME), foundation.foundation)
    return replace(with_expert(foundation, expert), identity="")


def _row(name: str, user: User, cases: list[str], model: Mixture, place: Workspace) -> list[str]:
    """Of one model; what was measured before is read."""
    kept, journals = place.root / "measured" / f"{name}.json", place.root / "measured" / NAME
    found: dict[str, list[float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    shutil.rmtree(journals, ignore_errors=True)
    with _served(model, user, journals) as port:
        for case in cases:
            if case not in found:
                found[case] = user.annotate(port, case, accept=False)
                write_text(kept, json.dumps(found))
    scores = np.array([found[case] for case in cases])  # (scans, clicks)
    good = scores >= GOOD_DICE
    clicks = np.where(good.any(axis=1), good.argmax(axis=1) + 1, MOST_CLICKS + 1)
    means = [f"{scores[:, n - 1].mean():.3f}" for n in (1, 2, 3, 5, 10)]
    row = [name, str(len(scores)), f"{clicks.mean():.1f}", str(int((clicks > MOST_CLICKS).sum())), *means]
    print(" | ".join(row), flush=True)
    return row


if __name__ == "__main__":
    main()
