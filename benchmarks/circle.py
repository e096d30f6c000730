"""Annotate, finetune, annotate again: how many clicks does the next scan need?

    python benchmarks/circle.py --images DIR --labels DIR --folder WORK [--annotated 6] [--further 12] [--minutes 3]

A simulated user annotates the first scans with the foundation's help, in a session, and accepts them: what is learnt
from are these accepted masks, not the references. An expert is finetuned on them. With `--more N` the user annotates N
further scans with the expert's help, and `moe finetune --continue` takes them in. The last scans are only measured:
clicks until the Dice is 0.8, and the Dice after one and five clicks, for the foundation and for each expert.

The user clicks where the largest wrong part is thickest, ten times at most; an object that is not good by then counts
as eleven clicks. References tell where to click and when to stop, as in every evaluation with a simulated user.
Experts answer everything here; a gate is not part of the question. The circle goes on where it was stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import describe, markdown_table
from numpy.typing import NDArray

import moe_pipeline
from moe_pipeline.imaging.io.files import label_maps_in, list_images, load_image
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.session.session import Session
from moe_pipeline.mixture.model import Mixture, load_expert, load_foundation_alone, with_expert
from moe_pipeline.prompts.thickest import deepest_of_parts
from moe_pipeline.workspace import Workspace

NAME, CLASS = "Dataset900_Annotated", "object"
GOOD_DICE, MOST_CLICKS = 0.8, 10


class Scan:
    """An image with its reference."""

    def __init__(self, case: str, image: Path, label: Path) -> None:
        self.case, self.path = case, image
        self.image, reference = load_image(image), read_native(label)
        self.reference = reference.array > 0

    def annotate(self, model: Mixture) -> tuple[Session, list[float]]:
        """A session of the simulated user, and the Dice after each click."""
        session = Session(model, self.image, self.case, SegmentOptions(own_crops=True))
        session.new_object(1, CLASS)
        scores: list[float] = []
        while len(scores) < MOST_CLICKS and (not scores or scores[-1] < GOOD_DICE):
            mask = session.mask().array > 0
            wrong = [self.reference & ~mask, mask & ~self.reference]
            inside, place = max(((i, self._thickest(part)) for i, part in enumerate(wrong)), key=lambda one: one[1][0])
            session.add_click(place[1], inside == 0)
            scores.append(dice(session.mask().array > 0, self.reference))
        return session, scores

    def measure(self, model: Mixture) -> tuple[int, float, float]:
        """Clicks until the Dice is good, and the Dice after one and five clicks."""
        _, scores = self.annotate(model)
        clicks = len(scores) if scores[-1] >= GOOD_DICE else MOST_CLICKS + 1
        return clicks, scores[0], scores[min(4, len(scores) - 1)]

    def _thickest(self, part: NDArray[np.bool_]) -> tuple[int, tuple[int, int, int]]:
        """Voxels of the largest part of what is wrong, and where it is thickest."""
        if not part.any():
            return 0, (0, 0, 0)
        x, y, z = deepest_of_parts(part, self.image.native.spacing_mm, 1)[0].tolist()
        return int(part.sum()), (x, y, z)


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--images", "--labels", "--folder"):
        parser.add_argument(name, type=Path, required=True)
    for name, default in (("--annotated", 6), ("--more", 0), ("--further", 12)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each training")
    options = parser.parse_args()
    print(describe(torch.device("cpu")), flush=True)
    labels = dict(label_maps_in(options.labels).files)
    scans = [Scan(case, image, labels[case]) for case, image in list_images(options.images)]
    place = Workspace(options.folder)
    first, more = scans[: options.annotated], scans[options.annotated : options.annotated + options.more]
    further = scans[len(scans) - options.further :]
    foundation = load_foundation_alone("nano")
    rows = [_row("foundation", further, foundation)]
    _accept_all(first, foundation, place)
    if not place.plan(NAME).is_file():
        moe_pipeline.plan(place.raw(NAME), workspace=place.root)
    if not place.expert_folds(NAME):
        moe_pipeline.finetune(NAME, max_minutes=options.minutes, click_proposer=False, workspace=place.root)
    rows.append(_row(f"expert of {len(first)} scans", further, _expert(place, foundation)))
    if more:
        _accept_all(more, _expert(place, foundation), place)
        card = moe_pipeline.finetune(
            NAME, max_minutes=options.minutes, click_proposer=False, continued=True, workspace=place.root
        )
        print(card.validation)  # type: ignore[union-attr]
        rows.append(_row(f"continued with {len(more)} more", further, _expert(place, foundation)))
    header = ["who answers", "scans", "clicks to 0.8", "not reached", "Dice, 1 click", "Dice, 5 clicks"]
    print(markdown_table(header, rows))


def _accept_all(scans: list[Scan], model: Mixture, place: Workspace) -> None:
    for scan in scans:
        if (place.raw(NAME) / "labelsTr" / f"{scan.case}.nii.gz").is_file():
            continue
        session, scores = scan.annotate(model)
        session.accept(place.raw(NAME), image=scan.path)
        print(f"accepted {scan.case}: {len(scores)} clicks, Dice {scores[-1]:.2f}", flush=True)


def _expert(place: Workspace, foundation: Mixture) -> Mixture:
    expert = load_expert(place.expert(NAME), foundation.foundation)
    return replace(with_expert(foundation, expert), identity="")


def _row(name: str, scans: list[Scan], model: Mixture) -> list[str]:
    clicks, first, fifth = (np.array(column) for column in zip(*(scan.measure(model) for scan in scans), strict=True))
    missed = int((clicks > MOST_CLICKS).sum())
    row = [name, str(len(scans)), f"{clicks.mean():.1f}", str(missed), f"{first.mean():.3f}", f"{fifth.mean():.3f}"]
    print(" | ".join(row), flush=True)
    return row


if __name__ == "__main__":
    main()
