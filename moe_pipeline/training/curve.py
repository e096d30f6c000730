"""The learning curve of a run, drawn beside its log."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_pipeline.charts import Chart, Curve, save_charts

_AXES = ("step", "seconds", "loss")


def draw_learning_curve(rows: Sequence[Mapping[str, float]], best_step: int, path: Path) -> None:
    """Write a PNG with the loss and the validation columns over the steps; the best step is marked.

    Args:
        rows: of the log, all with the same columns; "score" is left out where it only sums others up.
        best_step: of the validation that is kept.
        path: where to write; an existing file is replaced.
    """
    scores = [name for name in rows[0] if name not in _AXES]
    details = [name for name in scores if name != "score"] or scores
    groups = {"Loss": ["loss"], "Validation": details}
    steps = [row["step"] for row in rows]
    charts = []
    for title, names in groups.items():
        curves = [Curve(name, steps, [row[name] for row in rows]) for name in names]
        if any(math.isfinite(value) for curve in curves for value in curve.y):
            charts.append(Chart(title, "step", curves, marked_x=best_step if title == "Validation" else None))
    if charts:
        save_charts(charts, path)
