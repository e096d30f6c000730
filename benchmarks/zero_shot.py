"""How well a foundation segments real scans it has never seen, click by click, against two ways without a network.

    python benchmarks/zero_shot.py --data DATA --out OUT [--only FOLDER] [--csv FILE] [--foundation nano] [--zoom off]

DATA is laid out like the project's test volumes; `--only` takes any nnU-Net raw folder (imagesTr, labelsTr) instead.
For each class a simulated user clicks at a random voxel of the object, then where the answer is wrong. After 1, 3, 5
and 10 clicks the answer is scored on the whole scan, for three seeds. Given the same clicks, the first baseline
answers with a ball of the object's true volume, the second with the best of a sweep of region growing
(ConfidenceConnected); both know more than the network does. Of scans with dozens of classes twelve are taken. The
table has a row per set: mean over its classes, cases and seeds. Rows of the CSV are finished work: a repeated run
continues.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from click_baselines import ball, best_growth_dice, surroundings
from labelled_sets import LabelledCase, class_ids, labelled_cases
from machine import describe

from moe_pipeline.charts import Chart, Curve, save_charts
from moe_pipeline.files import write_text
from moe_pipeline.imaging.cropping import crop_volume
from moe_pipeline.imaging.io.files import list_images, list_label_maps
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.interact import interact
from moe_pipeline.inference.interactive.objects import CaseObject, SimulatedUser
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.windows.decode import Clicks, route_of
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.inference.windows.placement import plan_windows
from moe_pipeline.inference.windows.to_image import ProbabilityMap
from moe_pipeline.mixture.model import Mixture, load_foundation_alone
from moe_pipeline.report.tables import as_markdown

CLICKS = (1, 3, 5, 10)
METHODS = {"dice": "foundation", "ball": "ball", "growing": "region growing"}
KEY = ["set", "case", "class_id", "seed"]


def only(folder: Path) -> Iterator[LabelledCase]:
    """The training cases of one nnU-Net raw folder."""
    labels = dict(list_label_maps(folder / "labelsTr"))
    for name, image in list_images(folder / "imagesTr"):
        case = name.removesuffix("_0000")
        if case in labels:
            yield LabelledCase(folder.name, case, image, labels[case])


@dataclass(slots=True)
class Listener:
    """A simulated user user that keeps score: the answer after each turn, against the truth and the baselines."""

    image: Volume
    truth: Volume
    user: SimulatedUser
    scores: dict[int, dict[str, float]]

    def next(self, present: Callable[[], ProbabilityMap], clicks: Clicks) -> Clicks:
        """Score, then click."""
        n_clicks = len(clicks[1])
        if n_clicks in CLICKS:
            self.score(n_clicks, present(), clicks)
        return self.user.next(present, clicks)

    def score(self, n_clicks: int, answer: ProbabilityMap, clicks: Clicks) -> None:
        """Dice over the whole scan of the answer and of both baselines."""
        box = surroundings(self.truth)
        image, truth = (crop_volume(volume, box, outside=0) for volume in (self.image, self.truth))
        whole = np.zeros(self.truth.array.shape, dtype=bool)
        whole[tuple(slice(*side) for side in answer.box)] = answer.values > 0.5
        self.scores[n_clicks] = {
            "dice": dice(whole, self.truth.array),
            "ball": dice(ball(truth, *clicks), truth.array),
            "growing": best_growth_dice(image, truth, *clicks),
        }


def score_class(
    model: Mixture, look: SegmentOptions, bank: CropBank, case: LabelledCase, user: SimulatedUser
) -> list[dict[str, object]]:
    """One click sequence: a row for each number of clicks; an object that is right earlier keeps its score."""
    truth = Volume(user.reference.array == user.class_id, user.reference.geometry)
    listener = Listener(bank.image, truth, user, {})
    first = user.first(case.case)
    assert first is not None, "class_ids names only classes that are there"
    wanted = CaseObject(user.class_id, "", "labels", first, CLICKS[-1], listener.next)
    (initial_window,) = plan_windows(bank.crop_grid(model.view), [first[0]])
    route = route_of(model, bank, initial_window, first)
    reply = interact(model, bank, wanted, route, (initial_window, None), look)
    listener.score(CLICKS[-1], reply.answer.whole(), reply.clicks)
    rows, latest = [], listener.scores[CLICKS[-1]]
    for n_clicks in CLICKS:
        scores = listener.scores.get(n_clicks, latest)
        where = {"set": case.set_name, "case": case.case, "class_id": user.class_id, "clicks": n_clicks}
        rows.append({**where, "seed": user.seed, **scores})
    return rows


def some(classes: list[int], limit: int) -> list[int]:
    """At most so many, evenly spread over the list."""
    return classes if len(classes) <= limit else [classes[i * len(classes) // limit] for i in range(limit)]


def measure(
    model: Mixture, look: SegmentOptions, cases: list[LabelledCase], seeds: int, most_classes: int, path: Path
) -> pd.DataFrame:
    """All click sequences that the CSV does not have yet."""
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=[*KEY, "clicks", *METHODS])
    done = set(table[KEY].itertuples(index=False, name=None))
    for number, case in enumerate(cases, start=1):
        image, labels = case.read()
        bank = CropBank(image, model.foundation, model.device)
        rows = []
        for class_id in some(class_ids(labels), most_classes):
            for seed in range(seeds):
                if (case.set_name, case.case, class_id, seed) not in done:
                    rows += score_class(model, look, bank, case, SimulatedUser(labels, class_id, seed))
        if rows:
            table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if len(table) else pd.DataFrame(rows)
            columns = ["set", "case", "class_id", "clicks", "seed", *METHODS]
            write_text(path, table[columns].to_csv(index=False, float_format="%.5f"))
        print(f"{number}/{len(cases)} {case.set_name} {case.case}", flush=True)
    return table


def by_set(table: pd.DataFrame) -> pd.DataFrame:
    """A row per set: mean Dice of the foundation after each number of clicks, and of the baselines after one."""
    per_class = table.groupby(["set", "class_id", "clicks"], sort=False)[list(METHODS)].mean()
    means = per_class.groupby(["set", "clicks"], sort=False).mean().unstack("clicks")
    result = pd.DataFrame({f"{n} clicks": means["dice", n] for n in CLICKS})
    result["ball, 1"], result["growing, 1"] = means["ball", 1], means["growing", 1]
    result["ball, 5"], result["growing, 5"] = means["ball", 5], means["growing", 5]
    result.loc["mean over sets"] = result.mean()
    result.insert(0, "classes", table.groupby("set", sort=False)["class_id"].nunique())
    return result


def draw(table: pd.DataFrame, path: Path) -> None:
    """Mean over sets by number of clicks, for the foundation and both baselines."""
    means = table.groupby(["set", "class_id", "clicks"])[list(METHODS)].mean().groupby(["set", "clicks"]).mean()
    over_sets = means.groupby("clicks").mean()
    curves = [Curve(name, over_sets.index.tolist(), over_sets[column].tolist()) for column, name in METHODS.items()]
    save_charts([Chart("Dice on real scans, mean over sets", "clicks", curves, y_range=(0.0, 1.0))], path)


def main() -> None:
    """Measure, print the table, write CSV and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the project's test volumes")
    parser.add_argument("--only", type=Path, help="an nnU-Net raw folder instead")
    parser.add_argument("--out", type=Path, default=Path("zero_shot"), help="folder for zero_shot.csv and .png")
    parser.add_argument("--csv", type=Path, help="CSV instead of OUT/zero_shot.csv")
    parser.add_argument("--foundation", default="nano")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most-classes", type=int, default=12, help="of a case with dozens, evenly spread")
    parser.add_argument("--zoom", choices=("auto", "in", "out", "off"), default="off")
    options = parser.parse_args()
    if (options.data is None) == (options.only is None):
        parser.error("give exactly one of --data and --only")
    options.out.mkdir(parents=True, exist_ok=True)
    cases = list(labelled_cases(options.data) if options.data else only(options.only))
    model, look = load_foundation_alone(options.foundation), SegmentOptions(zoom=options.zoom)
    path = options.csv or options.out / "zero_shot.csv"
    table = measure(model, look, cases, options.seeds, options.most_classes, path)
    draw(table, options.out / "zero_shot.png")
    sets = by_set(table)
    print(describe(model.device))
    print(as_markdown(sets.reset_index()))
    every = sets.drop(index="mean over sets")
    beaten = ((every["1 clicks"] > every["ball, 1"]) & (every["1 clicks"] > every["growing, 1"])).sum()
    rising = (every["5 clicks"] > every["1 clicks"]).sum()
    print(f"one click better than both baselines on {beaten} of {len(every)} sets; five better than one on {rising}")


if __name__ == "__main__":
    main()
