"""Prompts without a human: the experts' click proposers search a scan, and the gate decides who may speak in it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from moe_pipeline.imaging.crop_grid import WindowIndex
from moe_pipeline.inference.options import SearchOptions
from moe_pipeline.inference.search.experts import ClassSearch, class_searches
from moe_pipeline.inference.search.heatmap import HeatGrid, covering_windows, hottest
from moe_pipeline.inference.search.proposals import Key, Missing, Proposal, left_out, settle, unlike
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.moe.click_proposer import best_place
from moe_pipeline.prompts.prompt import Prompt

_WORTH_A_LOOK = 0.1  # chance in any window from which a class is looked at again in a crop of its own
_FOUND = 0.5  # chance in that crop from which it is there
_TRIES = 3  # places per class that are looked at again before it is called absent
_FAR_OUT = 2.0  # times its OOD detector's limit: an expert from which all of the scan is farther does not look
_STEPS = (
    2,
    2,
    2,
)  # low-resolution voxels, as heat maps have them: an expert in the foundation's view shares the windows
_NEAR = 0.15  # of the crop's longest edge: how far the second look at one of several objects may move


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search brought: prompts, and the classes without any."""

    prompts: tuple[Prompt, ...]
    missing: tuple[Missing, ...]


def search_case(model: Mixture, bank: CropBank, search: SearchOptions) -> Findings:
    """Propose a click for every object that the experts know of in one image.

    Each expert looks at overlapping windows over the whole image in its own view; what it finds it looks at again in a
    crop around it. Only where gate and OOD detector would let this expert answer, its proposal becomes a prompt.

    Args:
        model: the mixture.
        bank: crops of the case.
        search: what to look for.

    Raises:
        PromptError: as `class_searches`.
    """
    proposals: list[Proposal] = []
    missing: dict[Key, Missing] = {}
    everyone = class_searches(model, search)
    strange = _ood_scores(model, bank)
    for wanted in everyone:
        if strange[wanted.output - 1] > _FAR_OUT:
            missing |= {(wanted.output, c): unlike(wanted, c) for c in wanted.classes}
            continue
        for class_id, found in _found(bank, wanted).items():
            proposals += [proposal for proposal in found if proposal.chance >= _FOUND]
            chance = max((proposal.chance for proposal in found), default=0.0)
            reason = f"not found: its chance is {chance:.2f} where it is likeliest"
            missing[wanted.output, class_id] = left_out(wanted, class_id, reason)
    kept, refusals = settle(model, bank, proposals)
    missing |= refusals
    keys = {proposal.key for proposal in kept}
    names = {(proposal.class_id, proposal.prompt.class_name) for proposal in kept}
    left = [gap for key, gap in missing.items() if key not in keys and (gap.class_id, gap.class_name) not in names]
    return Findings(tuple(proposal.prompt for proposal in kept), tuple(left))


@torch.no_grad()
def _ood_scores(model: Mixture, bank: CropBank) -> list[float]:
    """How strange the scan is to each expert where it is least so, in OOD detector limits.

    An OOD detector was made for crops around objects. A window may show less of one, so it only counts what is far
    beyond.
    """
    if model.router is None:
        return [0.0] * len(model.experts)
    crop_grid = bank.crop_grid(model.view)
    centre = torch.tensor(model.view.size_voxels, device=model.device)[None, None] / 2  # (1, 1, 3)
    label = torch.ones(1, 1, dtype=torch.long, device=model.device)
    lowest: torch.Tensor | None = None
    for start in covering_windows(crop_grid, _STEPS):
        features = prompt_features(model.foundation, bank.crop(model.view, start).embedding, centre, label)  # (1, 5C)
        strange = model.router.ood_scores(features)[0]  # (N,)
        lowest = strange if lowest is None else torch.minimum(lowest, strange)
    assert lowest is not None, "an image without a window"
    return [float(value) for value in lowest]


def _found(bank: CropBank, wanted: ClassSearch) -> dict[int, list[Proposal]]:
    """Second looks at every class that seemed to be anywhere, the surest first."""
    view, click_proposer = wanted.expert.view, wanted.click_proposer
    crop_grid = bank.crop_grid(view)
    config = click_proposer.net.config
    x, y, z = (config.upscaling * side for side in bank.foundation.geometry.grid_size)
    grid = HeatGrid(crop_grid, (x, y, z))
    columns = [k for k, c in enumerate(click_proposer.classes) if c in wanted.classes]
    heats: dict[int, dict[WindowIndex, NDArray[np.float32]]] = {k: {} for k in columns}
    chances: dict[int, float] = defaultdict(float)
    for start in grid.windows():
        heat, chance = click_proposer.look(bank.crop(view, start).embedding)
        for k in columns:
            heats[k][start] = heat[k].numpy()
            chances[k] = max(chances[k], float(chance[k]))
    found: dict[int, list[Proposal]] = {}
    for k in columns:
        class_id = list(click_proposer.classes)[k]
        found[class_id] = []
        if chances[k] >= _WORTH_A_LOOK:
            found[class_id] = _closer_looks(bank, wanted, grid, k, grid.combined(heats[k]))
    return found


def _closer_looks(
    bank: CropBank, wanted: ClassSearch, grid: HeatGrid, k: int, heat: NDArray[np.float32]
) -> list[Proposal]:
    class_id = list(wanted.click_proposer.classes)[k]
    usual = wanted.click_proposer.objects.get(class_id, 1)
    closer = []
    for low_res_voxel in hottest(heat, _TRIES if usual == 1 else 2 * usual):
        place_mm = grid.place_mm(low_res_voxel, grid.crop_grid.lowest)
        closer.append(_closer_look(bank, wanted, grid, k, place_mm, alone=usual == 1))
    closer.sort(key=lambda proposal: -proposal.chance)
    return closer[:1] if usual == 1 else _apart(closer, grid)


def _closer_look(
    bank: CropBank, wanted: ClassSearch, grid: HeatGrid, k: int, place_mm: NDArray[np.float64], *, alone: bool
) -> Proposal:
    """The same class in a crop around the place; one of several objects stays near it."""
    view, crop_grid = wanted.expert.view, grid.crop_grid
    start = crop_grid.around(place_mm)
    heat, chance = wanted.click_proposer.look(bank.crop(view, start).embedding)
    field = heat[k]
    if not alone:
        voxels = np.argwhere(np.ones(field.shape, dtype=bool)).astype(float)  # (places, 3)
        gaps = np.linalg.norm(grid.place_mm(voxels, start) - place_mm, axis=1).reshape(field.shape)
        reach_mm = max(_NEAR * float(crop_grid.extent_mm.max()), 2 * grid.low_res_mm)
        field = torch.where(torch.from_numpy(gaps <= reach_mm), field, 0.0)
    low_res_voxel = best_place(field[None])[0].double().numpy()
    class_id = list(wanted.click_proposer.classes)[k]
    return Proposal(wanted, class_id, _inside(bank, grid.place_mm(low_res_voxel, start)), float(chance[k]))


def _inside(bank: CropBank, place_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest place within the image: a low-resolution voxel may reach beyond it."""
    image = bank.image.geometry
    voxel = np.clip(image.world_to_voxel(place_mm), 0, np.asarray(image.shape) - 1)
    return image.voxel_to_world(voxel)


def _apart(closer: Sequence[Proposal], grid: HeatGrid) -> list[Proposal]:
    """Without second looks that came to the same place as a surer one."""
    least_mm = 2 * grid.low_res_mm
    kept: list[Proposal] = []
    for look in closer:
        if all(np.linalg.norm(look.place_mm - other.place_mm) > least_mm for other in kept):
            kept.append(look)
    return kept
