"""Which spacing shows the objects of a dataset best.

A class is *served* by a spacing if its large objects (95th percentile of the longest side of the largest part) fit into
80 % of the cube, and its typical object (median of the shortest side) is a few low-resolution voxels thick: a
low-resolution voxel is one voxel of the decoder's own mask, and what is thinner than some of them cannot get a
shape. Size is judged by the longest side and detail by the shortest, class by class: a vessel can be too long for a
cube and too thin for its low-resolution voxels.

The foundation's own spacing stays if it serves every class. Otherwise each step is judged by how far it misses: the
sum, over the classes, of the logarithms of the factors that are missing. The step that misses least wins, of equals
the one nearest to the foundation's own. So one class decides alone where it can be served, and among many classes as
many end up too large (prediction slides over them) as too thin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.records.foundation import View
from moe_pipeline.records.planning import ClassSummary

_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """One class in one view."""

    name: str
    longest_mm: float
    """Longest side of its large objects."""
    shortest_mm: float
    """Shortest side of its typical object."""
    room_mm: float
    """What the longest side should fit into."""
    low_res_mm: float
    """A voxel of the decoder's own mask."""
    voxels_wanted: float
    """Thickness in low-resolution voxels that is enough."""

    @property
    def low_res_voxels(self) -> float:
        """Thickness of the typical object in low-resolution voxels."""
        return self.shortest_mm / self.low_res_mm

    @property
    def fits(self) -> bool:
        """Whether large objects fit into the cube."""
        return self.longest_mm <= self.room_mm

    @property
    def is_fine(self) -> bool:
        """Whether the typical object has enough low-resolution voxels; to a tenth, as they are told."""
        return round(self.low_res_voxels, 1) >= self.voxels_wanted

    @property
    def shortfall(self) -> float:
        """Logarithm of the factors by which it misses; 0 if it is served."""
        too_large = 0.0 if self.fits else log(self.longest_mm / self.room_mm)
        return too_large + (0.0 if self.is_fine else log(self.voxels_wanted / self.low_res_voxels))


def fit_class(found: ClassSummary, view: View, preset: FoundationPreset) -> Fit | None:
    """How a view serves one class; None if no case has it."""
    if found.longest_mm is None or found.shortest_mm is None:
        return None
    return Fit(
        name=found.name,
        longest_mm=found.longest_mm.high,
        shortest_mm=found.shortest_mm.median,
        room_mm=preset.rules.fit_fraction * view.extent_mm,
        low_res_mm=view.extent_mm / preset.low_res_voxels,
        voxels_wanted=preset.limits.min_object_low_res_voxels,
    )


def choose_view(preset: FoundationPreset, classes: Sequence[ClassSummary]) -> tuple[View, str]:
    """The foundation's own view, or the zoom step that serves the classes better.

    Args:
        preset: the foundation.
        classes: of the dataset; absent ones do not count.

    Returns:
        The view, and the reason in words.
    """
    own = preset.view
    if not _fits(classes, own, preset):
        return own, f"{own.spacing_mm:g} mm, the foundation's own: no object was measured"
    steps = {*preset.rules.zoom_steps_mm, own.spacing_mm}
    views = [own.model_copy(update={"spacing_mm": spacing_mm}) for spacing_mm in steps]
    view = min(
        views,
        key=lambda view: (
            round(_shortfall(classes, view, preset), 6),
            round(abs(log(view.spacing_mm / own.spacing_mm)), 6),
            view.spacing_mm,
        ),
    )
    return view, _reason(classes, view, preset)


def _fits(classes: Sequence[ClassSummary], view: View, preset: FoundationPreset) -> list[Fit]:
    fits = [fit_class(found, view, preset) for found in classes]
    return [fit for fit in fits if fit is not None]


def _shortfall(classes: Sequence[ClassSummary], view: View, preset: FoundationPreset) -> float:
    return sum(fit.shortfall for fit in _fits(classes, view, preset))


def _reason(classes: Sequence[ClassSummary], view: View, preset: FoundationPreset) -> str:
    own, fits = preset.view, _fits(classes, view, preset)
    served = not _faults(fits)
    if view == own:
        why = "the foundation's own, every class is served" if served else "the foundation's own, no step misses less"
    else:
        why = "nearest step that serves every class" if served else "the step that misses least"
        why += f", since at the foundation's own {own.spacing_mm:g} mm {_faults(_fits(classes, own, preset))}"
    longest, thinnest = max(fits, key=lambda fit: fit.longest_mm), min(fits, key=lambda fit: fit.low_res_voxels)
    sizes = (
        f"large objects reach {longest.longest_mm:.0f} mm ({longest.name}) of {longest.room_mm:.0f} mm; the thinnest "
        f"class is {thinnest.low_res_voxels:.1f} low-resolution voxels thick "
        f"({thinnest.name}, {thinnest.shortest_mm:.0f} mm), "
        f"wanted are {thinnest.voxels_wanted:g}"
    )
    missed = "" if served else f"; not served: {_faults(fits)}"
    return f"{view.spacing_mm:g} mm, {view.size_voxels} voxels, {view.extent_mm:g} mm: {why}; {sizes}{missed}"


def _faults(fits: Sequence[Fit]) -> str:
    """What is wrong with a view in words; empty if it serves every class."""
    large = [f"{fit.name} ({fit.longest_mm:.0f} mm)" for fit in fits if not fit.fits]
    thin = [f"{fit.name} ({fit.low_res_voxels:.1f} low-resolution voxels)" for fit in fits if not fit.is_fine]
    told = [f"{_some(large)} would not fit, so prediction slides"] if large else []
    told += [f"{_some(thin)} would be thin"] if thin else []
    return " and ".join(told)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
