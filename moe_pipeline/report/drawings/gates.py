"""What a gate is worth, in charts."""

from collections.abc import Sequence

from moe_pipeline.records.moe import ReliabilityBin, ThresholdRow
from moe_pipeline.report.drawings.lines import Axis, DrawnLine, draw_lines
from moe_pipeline.report.page.svg import INK, MUTED, RULE, SERIES, Size, as_svg, drawing

_FEW = 20
"""Prompts in a bin that say little."""


def draw_reliability(bins: Sequence[ReliabilityBin]) -> str:
    """How often the favoured output is right, against how sure the gate is; and below, how many prompts say so.

    A bin of few prompts is an open ring, and every one has its number.
    """
    from matplotlib.ticker import MaxNLocator

    most = max(one.n for one in bins)
    with drawing(Size(440, 380)) as (figure, (axes,)):
        axes.remove()
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for one in bins:
            face = SERIES[0] if one.n >= _FEW else "none"
            upper.plot(one.confidence, one.accuracy, "o", markersize=8, markerfacecolor=face, markeredgecolor=SERIES[0])
            lower.bar((one.low + one.high) / 2, one.n, width=(one.high - one.low) * 0.86, color=SERIES[0], alpha=0.55)
            lower.annotate(
                str(one.n), ((one.low + one.high) / 2, one.n), ha="center", va="bottom", color=INK, fontsize=9
            )
        upper.set(ylabel="right", xlim=(0, 1.03), ylim=(-0.03, 1.06))
        lower.set(xlabel="weight of the favoured output", ylabel="prompts", ylim=(0, 1.3 * most))
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        upper.grid(axis="both", color=RULE)
        told = "; ".join(f"at {one.confidence:.2f} right {one.accuracy:.0%} of {one.n} prompts" for one in bins)
        return as_svg(figure, f"Reliability of the gate: {told}")


def draw_sweep(sweep: Sequence[ThresholdRow], tau: float) -> str:
    """What other thresholds would do."""
    taus = [row.tau for row in sweep]
    curves = {
        "general prompts kept": [row.general_kept for row in sweep],
        "answered by the own expert": [row.own_expert for row in sweep],
        "answered by a wrong expert": [row.wrong_expert for row in sweep],
        "answered by any expert": [row.coverage for row in sweep],
    }
    lines = [
        DrawnLine(name, taus, [float("nan") if value is None else value for value in values], style, markers=False)
        for style, (name, values) in enumerate(curves.items())
        if any(value is not None for value in values)
    ]
    lines.append(DrawnLine(f"threshold in use, {tau:g}", [tau, tau], [0.0, 1.0], 4, markers=False))
    return draw_lines(
        lines,
        Axis("threshold tau", (-0.02, 1.02)),
        Axis("share of validation prompts", (-0.03, 1.05)),
        f"Shares of validation prompts over the threshold; in use is {tau:g}",
        Size(520, 380),
    )
