"""A plan for people: each choice with its value and reason, the classes, and what the data are like."""

import textwrap
from collections.abc import Sequence

from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.planning.views import fit_class, typical_view
from moe_pipeline.records.planning import ClassSummary, Fingerprint, Plan, Spread

_UNEXPLAINED = {"schema_version", "dataset", "dataset_sha256", "fingerprint_sha256", "reasons"}
_MAX_NAMES = 12
_NONE = "-"

Row = Sequence[str]


def explain(plan: Plan, fingerprint: Fingerprint, preset: FoundationPreset, proposed: Plan, width: int = 120) -> str:
    """Three tables: the dataset, its classes in the plan's view, and the choices.

    Args:
        plan: perhaps edited.
        fingerprint: that it was made from.
        preset: of its foundation.
        proposed: the plan as it would be made now; a choice that differs is marked as edited.
        width: columns of the terminal.
    """
    parts = [
        text_table(("dataset", "", ""), dataset_rows(fingerprint), width),
        text_table(CLASS_HEADER, class_rows(plan, fingerprint, preset), width),
        text_table(("choice", "value", "reason"), choice_rows(plan, proposed), width),
    ]
    return "\n\n".join(parts)


def choice_rows(plan: Plan, proposed: Plan) -> list[Row]:
    """Name, value and reason of every choice."""
    rows: list[Row] = []
    for field in Plan.model_fields:
        if field in _UNEXPLAINED:
            continue
        reason = plan.reasons.get(field, "no reason was noted")
        if field != "estimates" and getattr(plan, field) != getattr(proposed, field):
            reason = f"EDITED; planned was {_value(proposed, field)}: {proposed.reasons[field]}"
        rows.append((field, _value(plan, field), reason))
    return rows


CLASS_HEADER = (
    "class",
    "name",
    "cases",
    "ml",
    "largest",
    "fits",
    "thickness",
    "voxels",
    "parts",
    "weight",
    "together",
)


def class_rows(plan: Plan, fingerprint: Fingerprint, preset: FoundationPreset) -> list[Row]:
    """One row per class of the dataset.

    Columns: label value, name, cases that have it, median volume in ml, long side of large objects and whether it
    fits into the crop, short side of the typical object and its thickness in low-resolution voxels, median number of
    parts, weight in choosing crops (none: not in the plan), classes that a crop around it shows as well.
    """
    return [_class_row(value, found, plan, fingerprint, preset) for value, found in fingerprint.classes.items()]


def dataset_rows(fingerprint: Fingerprint) -> list[Row]:
    """What the cases have in common; value and explanation."""
    rows: list[Row] = [
        ("cases", str(len(fingerprint.cases)), f"{len(fingerprint.faults)} faults and warnings"),
        ("spacing", _axes(fingerprint.spacing_mm, "mm"), f"median along R, A, S; {_ranges(fingerprint.spacing_mm)}"),
        ("size", _axes(fingerprint.shape, "voxels"), f"median along R, A, S; {_ranges(fingerprint.shape)}"),
        ("axes", ", ".join(fingerprint.orientations), "where the files' x, y, z run"),
    ]
    for number, found in enumerate(fingerprint.foreground):
        name = f"channel {number}"
        modality = fingerprint.channel_names[str(number)]
        if found is None:
            rows.append((name, modality, "no foreground"))
            continue
        rows.append(
            (
                name,
                modality,
                f"foreground {found.mean:.4g} ± {found.std:.4g}, median {found.median:.4g}, 0.5 to 99.5 % "
                f"{found.percentile_00_5:.4g} to {found.percentile_99_5:.4g}",
            )
        )
    return rows


def text_table(header: Row, rows: Sequence[Row], width: int) -> str:
    """Columns of text, a rule below the header; the last two columns wrap."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    if excess > 0:
        widths[-2] = min(widths[-2], max(width // 3, 12))
        widths[-1] = max(width - sum(widths[:-1]) - 2 * (len(widths) - 1), 24)
    told = [_wrapped(line, widths) for line in lines]
    return "\n".join([told[0], "  ".join("-" * columns for columns in widths), *told[1:]])


def _wrapped(line: Row, widths: Sequence[int]) -> str:
    cells = [textwrap.wrap(cell, columns) or [""] for cell, columns in zip(line, widths, strict=True)]
    height = max(map(len, cells))
    padded = [[*cell, *[""] * (height - len(cell))] for cell in cells]
    return "\n".join(
        "  ".join(part.ljust(columns) for part, columns in zip(parts, widths, strict=True)).rstrip()
        for parts in zip(*padded, strict=True)
    )


def _class_row(value: int, found: ClassSummary, plan: Plan, fingerprint: Fingerprint, preset: FoundationPreset) -> Row:
    weight = f"{plan.class_weights[value]:.2f}" if value in plan.classes else _NONE
    fit = fit_class(found, typical_view(plan.view, fingerprint), preset)
    if fit is None or found.volume_ml is None or found.components is None:
        return (str(value), found.name, str(found.cases), *[_NONE] * 6, weight, _NONE)
    return (
        str(value),
        found.name,
        str(found.cases),
        f"{found.volume_ml.median:.3g}",
        f"{fit.longest_mm:.0f} mm",
        "yes" if fit.fits else "no",
        f"{fit.shortest_mm:.0f} mm",
        f"{fit.low_res_voxels:.1f}" + ("" if fit.is_fine else " (thin)"),
        f"{found.components.median:.0f}",
        weight,
        _names(_companions(value, fingerprint, fit.room_mm)),
    )


def _companions(value: int, fingerprint: Fingerprint, room_mm: float) -> list[str]:
    """Names of the classes that most crops around one class show whole as well."""
    names = []
    for pair, found in fingerprint.pairs.items():
        both = [int(one) for one in pair.split()]
        if value not in both or found.extent_mm.median > room_mm:
            continue
        if 2 * found.cases >= fingerprint.classes[value].cases:
            names.append(fingerprint.classes[both[1] if both[0] == value else both[0]].name)
    return names


def _value(plan: Plan, field: str) -> str:
    """A choice in few words."""
    if field == "view":
        view = plan.view
        return f"{view.in_words}, {view.normalisation}"
    if field == "classes":
        return _names([f"{value} {name}" for value, name in plan.classes.items()])
    if field == "class_weights":
        return _names([f"{value}: {weight:.2f}" for value, weight in plan.class_weights.items()])
    if field == "mirror_axes":
        return ", ".join("RAS"[axis] for axis in plan.mirror_axes) or "none"
    if field == "estimates":
        costs = plan.estimates
        return f"{costs.minutes:g} min, {costs.disk_mb:.0f} MB disk, {costs.memory_mb:.0f} MB memory"
    return str(getattr(plan, field))


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return (", ".join(names[:_MAX_NAMES]) + more) or _NONE


def _axes(spreads: Sequence[Spread], unit: str) -> str:
    return " x ".join(f"{spread.median:.3g}" for spread in spreads) + f" {unit}"


def _ranges(spreads: Sequence[Spread]) -> str:
    return "5 to 95 %: " + ", ".join(f"{spread.low:.3g} to {spread.high:.3g}" for spread in spreads)
