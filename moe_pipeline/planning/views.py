"""Which spacing shows the objects of a dataset best."""

from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.records.planning import Spread
from moe_pipeline.records.view import View


def choose_view(preset: FoundationPreset, object_mm: Spread | None) -> tuple[View, str]:
    """The foundation's own view, unless its cube is too small for the large objects or its cells are too coarse.

    Args:
        preset: the foundation.
        object_mm: longest sides of the objects; None if there are none.

    Returns:
        The view, and the reason in words.
    """
    own = preset.view
    if object_mm is None:
        return own, "the foundation's own; no object was measured"
    steps = sorted({*preset.rules.zoom_steps_mm, own.spacing_mm})
    if not _fits(own, preset, object_mm):
        coarser = [_zoomed(own, mm) for mm in steps if mm > own.spacing_mm]
        fitting = next((view for view in coarser if _fits(view, preset, object_mm)), (coarser or [own])[-1])
        return fitting, _describe(
            fitting, preset, object_mm, "the foundation's own cube is too small for large objects"
        )
    view = own
    for spacing_mm in sorted((mm for mm in steps if mm < own.spacing_mm), reverse=True):
        finer = _zoomed(own, spacing_mm)
        if _is_fine_enough(view, preset, object_mm) or not _fits(finer, preset, object_mm):
            break
        view = finer
    why = "the foundation's own" if view == own else "zoomed in, since the foundation's own cells are coarse for these"
    return view, _describe(view, preset, object_mm, why)


def _fits(view: View, preset: FoundationPreset, object_mm: Spread) -> bool:
    return object_mm.high <= preset.rules.fit_fraction * view.extent_mm


def _is_fine_enough(view: View, preset: FoundationPreset, object_mm: Spread) -> bool:
    return object_mm.median >= preset.limits.min_object_cells * _cell_mm(view, preset)


def _cell_mm(view: View, preset: FoundationPreset) -> float:
    return view.extent_mm / preset.limits.low_res_voxels


def _zoomed(view: View, spacing_mm: float) -> View:
    return view.model_copy(update={"spacing_mm": spacing_mm})


def _describe(view: View, preset: FoundationPreset, object_mm: Spread, why: str) -> str:
    cells = object_mm.median / _cell_mm(view, preset)
    usable = preset.rules.fit_fraction * view.extent_mm
    fit = "fit" if _fits(view, preset, object_mm) else "are larger, so prediction slides,"
    return (
        f"{view.spacing_mm:g} mm, {view.size_voxels} voxels, {view.extent_mm:g} mm: {why}; large objects "
        f"({object_mm.high:.0f} mm) {fit} into {usable:.0f} mm; the median object ({object_mm.median:.0f} mm) is "
        f"{cells:.1f} cells long, wanted are {preset.limits.min_object_cells:g}"
    )
