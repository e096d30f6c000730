"""Which spacing shows the objects of a dataset best.

A class is *served* by a spacing if its large objects (95th percentile of the longest side of the largest part) fit into
80 % of the crop, and its typical object (median of the shortest side) is a few low-resolution voxels thick: a
low-resolution voxel is one voxel of the decoder's own mask, and what is thinner than some of them cannot get a
shape. Size is judged by the longest side and detail by the shortest, class by class: a vessel can be too long for a
crop and too thin for its low-resolution voxels. Where the edges of a crop differ, size is judged along each axis, and
detail by the longest edge of a low-resolution voxel, since nobody knows how a thin object will lie.

A step is the shortest edge of a voxel; the others keep their proportion to it. A foundation whose view is fitted to the
image has two steps: fitted, or the image's own voxels. Both are judged over a typical image of the dataset.

The foundation's own spacing stays if it serves every class. Otherwise each step is judged by how far it misses: the
sum, over the classes, of the logarithms of the factors that are missing. The step that misses least wins, of equals
the one nearest to the foundation's own. So one class decides alone where it can be served, and among many classes as
many end up too large (prediction slides over them) as too thin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.records.foundation import View, by_axis
from moe_pipeline.records.planning import ClassSummary, Fingerprint

_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """One class in one view."""

    name: str
    longest_mm: float
    """Longest side of its large objects; of a crop with unequal edges, the side that fits least."""
    shortest_mm: float
    """Shortest side of its typical object."""
    room_mm: float
    """What the longest side should fit into."""
    low_res_mm: float
    """Longest edge of a voxel of the decoder's own mask."""
    voxels_wanted: float
    """Thickness in low-resolution voxels that is enough."""

    @property
    def low_res_voxels(self) -> float:
        """Thickness of the typical object in low-resolution voxels."""
        return self.shortest_mm / self.low_res_mm

    @property
    def fits(self) -> bool:
        """Whether large objects fit into the crop."""
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


@dataclass(frozen=True, slots=True)
class ViewChoice:
    """A view that may be chosen, and the same over a typical image, where its edges have a length."""

    view: View
    typical: View


def typical_view(view: View, fingerprint: Fingerprint) -> View:
    """A view with the spacing that it has over an image of the dataset's median size and spacing."""
    n_x, n_y, n_z = (max(1, round(spread.median)) for spread in fingerprint.shape)
    x, y, z = (spread.median for spread in fingerprint.spacing_mm)
    return view.over((n_x, n_y, n_z), (x, y, z))


def fit_class(found: ClassSummary, view: View, preset: FoundationPreset) -> Fit | None:
    """How a view serves one class; None if no case has it.

    Args:
        found: the class.
        view: whose spacing no image decides any more; see `typical_view`.
        preset: of the foundation.
    """
    if found.longest_mm is None or found.shortest_mm is None:
        return None
    extent_mm = view.extent_mm
    rooms = [preset.rules.fit_fraction * edge for edge in extent_mm]
    longest_mm, room_mm = max(
        zip(_longest_along(found, extent_mm), rooms, strict=True), key=lambda both: both[0] / both[1]
    )
    return Fit(
        name=found.name,
        longest_mm=longest_mm,
        shortest_mm=found.shortest_mm.median,
        room_mm=room_mm,
        low_res_mm=max(edge / n for edge, n in zip(extent_mm, preset.geometry.low_resolution_size, strict=True)),
        voxels_wanted=preset.limits.min_object_low_res_voxels,
    )


def _longest_along(found: ClassSummary, extent_mm: Sequence[float]) -> list[float]:
    """Longest sides of large objects along each axis: within the class's box, and no longer than the longest."""
    assert found.longest_mm is not None
    longest = found.longest_mm.high
    if found.extent_mm is None or len(set(extent_mm)) == 1:  # in a cube it does not matter how an object lies
        return [longest] * 3
    return [min(longest, along.high) for along in found.extent_mm]


def choose_view(
    preset: FoundationPreset, classes: Sequence[ClassSummary], fingerprint: Fingerprint
) -> tuple[View, str]:
    """The foundation's own view, or the zoom step that serves the classes better.

    Args:
        preset: the foundation.
        classes: of the dataset; absent ones do not count.
        fingerprint: of the dataset, for its images.

    Returns:
        The view, and the reason in words.
    """
    own = ViewChoice(preset.view, typical_view(preset.view, fingerprint))
    if not _fits(classes, own, preset):
        return own.view, f"{own.view.spacing_in_words}, the foundation's own: no object was measured"
    chosen = min(
        _steps(own, preset.rules.zoom_steps_mm, fingerprint),
        key=lambda seen: (
            round(_shortfall(classes, seen, preset), 6),
            round(abs(log(_finest(seen) / _finest(own))), 6),
            _finest(seen),
        ),
    )
    return chosen.view, _reason(classes, chosen, own, preset)


def _steps(own: ViewChoice, steps_mm: Sequence[float], fingerprint: Fingerprint) -> list[ViewChoice]:
    """All views to choose from, the foundation's own among them."""
    if isinstance(own.view.spacing_mm, str):
        native = own.view.model_copy(update={"spacing_mm": "native"})
        return [own, ViewChoice(native, typical_view(native, fingerprint))]
    views = [own.view.with_finest(mm) for mm in {*steps_mm, _finest(own)}]
    return [ViewChoice(view, view) for view in views]


def _finest(seen: ViewChoice) -> float:
    return min(seen.typical.edges_mm)


def _fits(classes: Sequence[ClassSummary], seen: ViewChoice, preset: FoundationPreset) -> list[Fit]:
    fits = [fit_class(found, seen.typical, preset) for found in classes]
    return [fit for fit in fits if fit is not None]


def _shortfall(classes: Sequence[ClassSummary], seen: ViewChoice, preset: FoundationPreset) -> float:
    return sum(fit.shortfall for fit in _fits(classes, seen, preset))


def _reason(classes: Sequence[ClassSummary], chosen: ViewChoice, own: ViewChoice, preset: FoundationPreset) -> str:
    view, fits = chosen.view, _fits(classes, chosen, preset)
    served = not _faults(fits)
    if view == own.view:
        why = "the foundation's own, every class is served" if served else "the foundation's own, no step misses less"
    else:
        why = "nearest step that serves every class" if served else "the step that misses least"
        words = own.view.spacing_in_words
        there = f", {words}," if isinstance(own.view.spacing_mm, str) else f" at the foundation's own {words}"
        why += f", since{there} {_faults(_fits(classes, own, preset))}"
    longest, thinnest = max(fits, key=lambda fit: fit.longest_mm), min(fits, key=lambda fit: fit.low_res_voxels)
    sizes = (
        f"large objects reach {longest.longest_mm:.0f} mm ({longest.name}) of {longest.room_mm:.0f} mm; the thinnest "
        f"class is {thinnest.low_res_voxels:.1f} low-resolution voxels thick "
        f"({thinnest.name}, {thinnest.shortest_mm:.0f} mm), "
        f"wanted are {thinnest.voxels_wanted:g}"
    )
    missed = "" if served else f"; not served: {_faults(fits)}"
    extent = f"{by_axis(chosen.typical.extent_mm)} mm" + (" over a typical image" if view != chosen.typical else "")
    return f"{view.in_words}, {extent}: {why}; {sizes}{missed}"


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
