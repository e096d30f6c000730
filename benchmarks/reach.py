"""What zoom, growth and flips are worth: Dice of simulated clicks on the labelled test volumes, and the time.

    python benchmarks/reach.py --data FOLDER [--foundation nano] [--clicks 1 5] [--settings ...] [--sets ...]

The foundation answers alone. The simulated user clicks where one crop is wrong; every setting then gets these same
clicks. Dice is the mean over classes of a case, then over cases and seeds; each case of a set counts the same.
Seconds are of this process's processors, per prompt.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from labelled_sets import LabelledCase, class_ids, labelled_cases
from machine import describe, markdown_table

from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive import segment_case as case_module
from moe_pipeline.inference.interactive.interact import Reply, interact
from moe_pipeline.inference.interactive.request import PromptRequest, SimulatedRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.mixture.model import Mixture, load_foundation_alone
from moe_pipeline.prompts.prompt import Prompt

SETTINGS = {
    "one crop": SegmentOptions(zoom="off", max_crops=1),
    "extension": SegmentOptions(zoom="off"),
    "zoom in": SegmentOptions(zoom="in", max_crops=1),
    "zoom in, growth": SegmentOptions(zoom="in"),
    "zoom out, growth": SegmentOptions(zoom="out"),
    "auto": SegmentOptions(zoom="auto"),
    "one crop, flips": SegmentOptions(zoom="off", max_crops=1, tta=True),
    "auto, flips": SegmentOptions(zoom="auto", tta=True),
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--foundation", default="nano")
    parser.add_argument("--weights", type=Path, default=None, help="folder of imported weights")
    parser.add_argument("--clicks", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--sets", nargs="+", default=None, help="beginnings of set names")
    parser.add_argument("--cases", type=int, default=4, help="of each set at most")
    parser.add_argument("--seeds", type=int, default=1, help="of the simulated user")
    parser.add_argument("--classes", type=int, default=20, help="of each case at most, spread over its labels")
    arguments = parser.parse_args()
    print(describe(torch.device("cpu")) + "\n")
    model = load_foundation_alone(arguments.foundation, weights_root=arguments.weights)
    kept = chosen(arguments.data, arguments.sets, arguments.cases)
    for clicks in arguments.clicks:
        header = [f"{clicks} click(s)", "cases", "prompts", *(f"{name} (s)" for name in arguments.settings)]
        print(markdown_table(header, []), flush=True)
        rows = []
        for name, cases in kept.items():
            rows.append(measured(model, name, cases, clicks, arguments))
            print(as_line(rows[-1]), flush=True)
        print(as_line(mean_row(rows)) + "\n", flush=True)


def as_line(row: list[str]) -> str:
    """A row of the table, as soon as it is known."""
    return markdown_table(row, []).splitlines()[0]


def chosen(data: Path, sets: list[str] | None, most: int) -> dict[str, list[LabelledCase]]:
    """Cases by set."""
    found: dict[str, list[LabelledCase]] = defaultdict(list)
    for case in labelled_cases(data):
        if sets is None or any(case.set_name.startswith(start) for start in sets):
            found[case.set_name].append(case)
    return {name: cases[:: -(-len(cases) // most)] for name, cases in found.items()}


def measured(
    model: Mixture, name: str, cases: list[LabelledCase], clicks: int, options: argparse.Namespace
) -> list[str]:
    """One row: Dice, and seconds per prompt, of every setting."""
    scores: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    prompts = 0
    for case in cases:
        image, labels = case.read()
        ids = class_ids(labels)
        ids = ids[:: -(-len(ids) // options.classes)]
        for seed in range(options.seeds):
            given = clicked(model, f"{name}/{case.case}", image, labels, ids, clicks, seed)
            prompts += len(given)
            for setting in options.settings:
                began = time.process_time()
                request = PromptRequest(case.case, image, given)
                result = segment_case(model, request, replace(SETTINGS[setting], keep_answers=True))
                seconds[setting] += time.process_time() - began
                scores[setting].append(mean_dice(result, labels))
    voxels = [f"{np.mean(scores[key]):.3f} ({seconds[key] / prompts:.2f})" for key in options.settings]
    return [name, str(len(cases)), str(prompts), *voxels]


def clicked(
    model: Mixture, case: str, image: Volume, labels: Volume, ids: list[int], clicks: int, seed: int
) -> tuple[Prompt, ...]:
    """What the simulated user clicks at when one crop answers."""
    replies: list[Reply] = []

    def kept(*arguments: object) -> Reply:
        replies.append(interact(*arguments))  # type: ignore[arg-type]
        return replies[-1]

    classes = {value: str(value) for value in ids}
    request = SimulatedRequest(case, image, labels, classes, clicks, seed)
    with mock.patch.object(case_module, "interact", kept):
        segment_case(model, request, SETTINGS["one crop"])
    return tuple(Prompt(value, str(value), *reply.clicks, "labels") for value, reply in zip(ids, replies, strict=True))


def mean_dice(result: CaseResult, labels: Volume) -> float:
    """Mean over classes; of each class by itself, whatever others lie over it."""
    return float(
        np.mean([dice(result.probability(value).array > 127, labels.array == value) for value in result.answers])
    )


def mean_row(rows: list[list[str]]) -> list[str]:
    """Mean over sets."""
    columns = list(zip(*rows, strict=True))[3:]
    return ["**mean of sets**", "", "", *(f"{np.mean([float(voxel.split()[0]) for voxel in c]):.3f}" for c in columns)]


if __name__ == "__main__":
    main()
