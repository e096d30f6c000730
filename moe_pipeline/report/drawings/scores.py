"""How the scores of a class lie."""

import numpy as np
import pandas as pd

from moe_pipeline.report.page.svg import INK, MUTED, RULE, SERIES, Size, as_svg, drawing

_MOST_CLASSES = 24
_SHORT = 22


def draw_scores(scores: pd.DataFrame) -> str:
    """A line of dots per class, one for each case, from Dice 0 to 1; with median and middle half.

    Args:
        scores: as dice.csv, with at least one scored row.
    """
    scored = scores[(scores["status"] == "ok") & scores["dice"].notna()]
    groups = [
        (str(name), part["dice"].to_numpy(float)) for (_, name), part in scored.groupby(["class_id", "class_name"])
    ]
    groups = groups[:_MOST_CLASSES]
    random = np.random.default_rng(0)
    with drawing(Size(560, 62 + 34 * len(groups))) as (figure, (axes,)):
        for line, (_, values) in enumerate(groups):
            low, middle, high = np.percentile(values, (25, 50, 75))
            axes.plot([low, high], [line, line], color=SERIES[0], linewidth=9, alpha=0.22, solid_capstyle="round")
            axes.scatter(
                values, line + random.uniform(-0.22, 0.22, len(values)), s=11, color=SERIES[0], alpha=0.75, linewidths=0
            )
            axes.plot([middle, middle], [line - 0.34, line + 0.34], color=INK, linewidth=1.6)
        axes.set_yticks(range(len(groups)), [_short(name) for name, _ in groups])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlabel("Dice", color=MUTED)
        axes.grid(axis="x", color=RULE)
        axes.spines["left"].set_visible(False)
        told = ", ".join(f"{name} {np.median(values):.3f}" for name, values in groups)
        return as_svg(figure, f"Dice of each case by class; medians: {told}")


def _short(name: str) -> str:
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
