"""The page of a plan: every choice with its reason, held against what the dataset has."""

from pathlib import Path

from moe_pipeline.paths import PlanFolder
from moe_pipeline.planning.explain import CLASS_HEADER, choice_rows, class_rows, dataset_rows
from moe_pipeline.planning.plan_files import load_fingerprint
from moe_pipeline.planning.preset import FoundationPreset, load_planning_preset
from moe_pipeline.planning.views import typical_view
from moe_pipeline.records.foundation import by_axis
from moe_pipeline.records.planning import Fingerprint, Intensity, Plan, Splits, Spread
from moe_pipeline.report.drawings.ranges import Range, draw_ranges
from moe_pipeline.report.page.blocks import (
    Beside,
    Block,
    Cell,
    Column,
    Drawing,
    Figures,
    Folded,
    Page,
    PageSection,
    Prose,
    Table,
)
from moe_pipeline.report.page.names import Names
from moe_pipeline.workspace import Workspace

_AXES = ("right-left", "back-front", "low-high")
_NUMERIC = ("cases", "ml", "largest", "thickness", "voxels", "parts", "weight")


def plan_page(folder: Path, *, anonymous: bool = False) -> Page:
    """The page of a folder with plan.json, fingerprint.json and splits.json."""
    files = PlanFolder(folder)
    plan, fingerprint, splits = Plan.load(files.plan), load_fingerprint(folder), Splits.load(files.splits)
    preset = load_planning_preset(plan.foundation, Workspace(folder.resolve().parents[1]).weights)
    names = Names.of((case.case_id for case in fingerprint.cases), anonymous=anonymous)
    view = typical_view(plan.view, fingerprint)
    over = " over a typical image" if view != plan.view else ""
    sections = [
        PageSection("The choices", (_figures(plan, fingerprint), _choices(plan))),
        PageSection("What the network will see", tuple(_view(plan, fingerprint, preset))),
        PageSection("The dataset", tuple(_dataset(plan, fingerprint))),
        PageSection("Who is held back", (_folds(splits, names),), f"Patients are told apart by: {splits.grouped_by}."),
    ]
    if fingerprint.faults:
        sections.insert(1, _faults(fingerprint, names))
    return Page(
        title=f"Plan for {plan.dataset}",
        kind="plan",
        lead=f"{plan.foundation} will see crops of {by_axis(view.extent_mm)} mm, voxels of {by_axis(view.edges_mm)} mm"
        f"{over}. Encoding and training take about {plan.estimates.minutes:.0f} minutes on the machine that planned.",
        sections=tuple(sections),
        facts=(("sha256 of the plan", plan.sha256()[:16]), ("sha256 of the dataset", plan.dataset_sha256[:16])),
    )


def _figures(plan: Plan, fingerprint: Fingerprint) -> Figures:
    costs, view = plan.estimates, typical_view(plan.view, fingerprint)
    return Figures(
        (
            (str(len(fingerprint.cases)), "usable cases", f"{len(plan.classes)} classes"),
            (f"{by_axis(view.edges_mm)} mm", "voxels of the view", f"crop of {by_axis(view.extent_mm)} mm"),
            (f"{plan.steps}", "training steps", f"{plan.batch_size} prompts each"),
            (
                f"{costs.minutes:.0f} min",
                "to encode and train",
                f"{costs.disk_mb:.0f} MB disk, {costs.memory_mb:.0f} MB memory",
            ),
        )
    )


def _choices(plan: Plan) -> Table:
    rows = tuple(tuple(Cell(cell) for cell in row) for row in choice_rows(plan, plan))
    return Table((Column("Choice"), Column("Value"), Column("Reason")), rows, sortable=False)


def _faults(fingerprint: Fingerprint, names: Names) -> PageSection:
    rows = tuple(
        (
            Cell(names.case(fault.case_id)),
            Cell(fault.severity, tone="bad" if fault.severity == "error" else "warn"),
            Cell(names.text(fault.message)),
        )
        for fault in fingerprint.faults
    )
    return PageSection("Faults and warnings", (Table((Column("Case"), Column("Severity"), Column("What")), rows),))


def _view(plan: Plan, fingerprint: Fingerprint, preset: FoundationPreset) -> list[Block]:
    view, classes = plan.view, [one for one in fingerprint.classes.values() if one.longest_mm and one.shortest_mm]
    longest = [Range(one.name, one.longest_mm) for one in classes if one.longest_mm]
    shortest = [Range(one.name, one.shortest_mm) for one in classes if one.shortest_mm]
    sides_mm = typical_view(view, fingerprint).extent_mm
    low_res_mm = max(edge / n for edge, n in zip(sides_mm, preset.geometry.low_resolution_size, strict=True))
    room = {"the crop": min(sides_mm), "objects should fit into": preset.rules.fit_fraction * min(sides_mm)}
    fine = {"wanted at least": low_res_mm * preset.limits.min_object_low_res_voxels}
    sides = (
        Drawing(
            draw_ranges(longest, "mm", room, "Longest side of each class's objects, against the crop"),
            "Longest side of the objects",
            "From the 5th to the 95th percentile of the cases; the dot is the median.",
        ),
        Drawing(
            draw_ranges(shortest, "mm", fine, "Shortest side of each class's objects, against what a mask can show"),
            "Shortest side of the objects",
            f"A voxel of the decoder's own mask is {low_res_mm:.3g} mm.",
        ),
    )
    columns = tuple(Column(name.capitalize(), name in _NUMERIC) for name in CLASS_HEADER)
    rows = tuple(tuple(Cell(cell) for cell in row) for row in class_rows(plan, fingerprint, preset))
    return [*([Beside(sides)] if classes else []), Table(columns, rows, "Classes in this view")]


def _dataset(plan: Plan, fingerprint: Fingerprint) -> list[Block]:
    view = typical_view(plan.view, fingerprint)
    spacing = [Range(name, one) for name, one in zip(_AXES, fingerprint.spacing_mm, strict=True)]
    extents = [
        Range(name, _times(shape, mm))
        for name, shape, mm in zip(_AXES, fingerprint.shape, fingerprint.spacing_mm, strict=True)
    ]
    drawings = [
        Drawing(
            draw_ranges(spacing, "mm", {"the view": min(view.edges_mm)}, "Spacing of the images by axis"),
            "Spacing of the images",
        ),
        Drawing(
            draw_ranges(extents, "mm", {"the crop": min(view.extent_mm)}, "Extent of the images by axis"),
            "Extent of the images",
        ),
        *_intensities(plan, fingerprint),
    ]
    rows = tuple(tuple(Cell(cell) for cell in row) for row in dataset_rows(fingerprint))
    sums = tuple(Prose(line.strip()) for one in fingerprint.accounting for line in one.lines())
    table = Table((Column("What"), Column("Value"), Column("Remark")), rows, sortable=False)
    return [Beside(tuple(drawings)), table, Folded("Cases and files", sums)]


def _intensities(plan: Plan, fingerprint: Fingerprint) -> list[Drawing]:
    """Of the channel that is looked at: by class, against all classes together."""
    all_of_them = fingerprint.foreground[plan.channel]
    if all_of_them is None:
        return []
    ranges = [Range("all classes", _spread(all_of_them))]
    ranges += [
        Range(one.name, _spread(one.intensity[plan.channel])) for one in fingerprint.classes.values() if one.intensity
    ]
    unit = f"intensity, {fingerprint.channel_names[str(plan.channel)]}"
    return [
        Drawing(
            draw_ranges(ranges, unit, {}, "Intensities of the classes"),
            "Intensities of the classes",
            f"The view's rule is {plan.view.normalisation}.",
        )
    ]


def _spread(found: Intensity) -> Spread:
    return Spread(low=found.percentile_05, median=found.median, high=found.percentile_95)


def _times(shape: Spread, mm: Spread) -> Spread:
    return Spread(low=shape.low * mm.median, median=shape.median * mm.median, high=shape.high * mm.median)


def _folds(splits: Splits, names: Names) -> Table:
    rows = tuple(
        (
            Cell(str(number), float(number)),
            Cell.whole(len(fold.train)),
            Cell.whole(len(fold.validation)),
            Cell(", ".join(names.case(case) for case in fold.validation)),
        )
        for number, fold in enumerate(splits.folds)
    )
    columns = (Column("Fold"), Column("Trained on", True), Column("Held back", True), Column("Cases held back"))
    return Table(columns, rows, sortable=False)
