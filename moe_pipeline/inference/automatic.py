"""Prompts without a human: the experts' prompters search a scan, and the gate decides who may speak in it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from moe_pipeline.errors import PromptError
from moe_pipeline.inference.cover import plan_windows
from moe_pipeline.inference.crops import CropBank
from moe_pipeline.inference.dialogue import route_of
from moe_pipeline.inference.model import Expert, Mixture
from moe_pipeline.inference.prompters import ExpertPrompter, HeatGrid, hottest
from moe_pipeline.inference.prompts import Prompt
from moe_pipeline.model.mixture import Route
from moe_pipeline.model.prompter import best_place

SOURCE = "automatic"

_WORTH_A_LOOK = 0.1  # chance in any window from which a class is looked at again in a crop of its own
_FOUND = 0.5  # chance in that crop from which it is there
_TRIES = 3  # places per class that are looked at again before it is called absent
_NEAR = 0.15  # of the cube's edge: how far the second look at one of several objects may move
_INSIDE = np.array([1])

_Key = tuple[int, int]
"""Output of an expert and class id."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for.

    Attributes:
        classes: names or ids; all if empty.
        experts: names as `Dataset004_Hippocampus`, `Hippocampus` or `4`; all if empty.
    """

    classes: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """A class that was looked for and gets no prompt.

    Attributes:
        class_id: value in the label map.
        class_name: its name.
        expert: who looked for it.
        message: why there is none.
        stranger: whether the expert's guard does not know the image.
    """

    class_id: int
    class_name: str
    expert: str
    message: str
    stranger: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search brought: prompts, and the classes without any."""

    prompts: tuple[Prompt, ...]
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One expert with the classes it shall look for."""

    output: int
    expert: Expert
    prompter: ExpertPrompter
    classes: dict[int, str]


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A click on a class of an expert, and how sure its prompter is."""

    wanted: _Wanted
    class_id: int
    place_mm: NDArray[np.float64]
    chance: float

    @property
    def key(self) -> "_Key":
        return self.wanted.output, self.class_id

    @property
    def prompt(self) -> Prompt:
        name = self.wanted.classes[self.class_id]
        return Prompt(self.class_id, name, self.place_mm[None], _INSIDE, SOURCE)


def check_search(model: Mixture, search: Search) -> None:
    """Say at once what no case of a folder can be searched for.

    Raises:
        PromptError: if no expert can search, or an expert or class is named that there is none of.
    """
    _wanted(model, search)


def search_case(model: Mixture, bank: CropBank, search: Search) -> Findings:
    """Propose a click for every object that the experts know of in one image.

    Each expert looks at overlapping windows over the whole image in its own view; what it finds it looks at again in a
    crop around it. Only where gate and guard would let this expert answer, its proposal becomes a prompt.

    Args:
        model: the mixture.
        bank: crops of the case.
        search: what to look for.

    Raises:
        PromptError: as `check_search`.
    """
    proposals: list[_Proposal] = []
    missing: dict[_Key, Missing] = {}
    for wanted in _wanted(model, search):
        for class_id, found in _found(bank, wanted).items():
            proposals += [proposal for proposal in found if proposal.chance >= _FOUND]
            chance = max((proposal.chance for proposal in found), default=0.0)
            reason = f"not found: its chance is {chance:.2f} where it is likeliest"
            missing[wanted.output, class_id] = _missing(wanted, class_id, reason)
    kept, refusals = _settled(model, bank, proposals)
    missing |= refusals
    keys = {proposal.key for proposal in kept}
    names = {(proposal.class_id, proposal.prompt.class_name) for proposal in kept}
    left = [gap for key, gap in missing.items() if key not in keys and (gap.class_id, gap.class_name) not in names]
    return Findings(tuple(proposal.prompt for proposal in kept), tuple(left))


def _wanted(model: Mixture, search: Search) -> list[_Wanted]:
    """Experts that can search, with the classes to look for."""
    able = [(k, e, e.prompter) for k, e in enumerate(model.experts, start=1) if e.prompter is not None]
    if not able:
        raise PromptError(
            "no expert of this model can propose prompts. Give --prompts FILE, or train a prompter: "
            "`moe finetune` without --no-prompter, then `moe train-gate`"
        )
    unknown = [name for name in search.experts if not any(_is_called(e.name, name) for _, e, _ in able)]
    if unknown:
        names = ", ".join(e.name for _, e, _ in able)
        raise PromptError(
            f"--experts {', '.join(unknown)}: no such expert that can propose prompts; there are: {names}"
        )
    found = []
    for output, expert, prompter in able:
        if search.experts and not any(_is_called(expert.name, name) for name in search.experts):
            continue
        classes = {
            c: name
            for c, name in prompter.classes.items()
            if not search.classes or str(c) in search.classes or name in search.classes
        }
        found.append(_Wanted(output, expert, prompter, classes))
    known = {text for wanted in found for c, name in wanted.prompter.classes.items() for text in (str(c), name)}
    if strange := [name for name in search.classes if name not in known]:
        there = "; ".join(
            f"{w.expert.name}: " + ", ".join(f"{c} {name}" for c, name in w.prompter.classes.items()) for w in found
        )
        raise PromptError(f"--classes {', '.join(strange)}: no expert knows that; there are: {there}")
    return [wanted for wanted in found if wanted.classes]


def _is_called(dataset: str, name: str) -> bool:
    number, _, rest = dataset.removeprefix("Dataset").partition("_")
    return name in (dataset, rest) or (name.isdigit() and number.isdigit() and int(name) == int(number))


def _found(bank: CropBank, wanted: _Wanted) -> dict[int, list[_Proposal]]:
    """Second looks at every class that seemed to be anywhere, the surest first."""
    view, prompter = wanted.expert.view, wanted.prompter
    lattice = bank.lattice(view)
    config = prompter.net.config
    grid = HeatGrid(lattice, config.upscaling * bank.foundation.config.encoder.grid_size)
    columns = [k for k, c in enumerate(prompter.classes) if c in wanted.classes]
    heats: dict[int, dict[tuple[int, int, int], NDArray[np.float32]]] = {k: {} for k in columns}
    chances: dict[int, float] = defaultdict(float)
    for start in grid.windows():
        heat, chance = prompter.look(bank.crop(view, start).embedding)
        for k in columns:
            heats[k][start] = heat[k].numpy()
            chances[k] = max(chances[k], float(chance[k]))
    found: dict[int, list[_Proposal]] = {}
    for k in columns:
        class_id = list(prompter.classes)[k]
        found[class_id] = []
        if chances[k] >= _WORTH_A_LOOK:
            found[class_id] = _second_looks(bank, wanted, grid, k, grid.combined(heats[k]))
    return found


def _second_looks(
    bank: CropBank, wanted: _Wanted, grid: HeatGrid, k: int, heat: NDArray[np.float32]
) -> list[_Proposal]:
    class_id = list(wanted.prompter.classes)[k]
    usual = wanted.prompter.objects.get(class_id, 1)
    looks = []
    for cell in hottest(heat, _TRIES if usual == 1 else 2 * usual):
        place_mm = grid.place_mm(cell, grid.lattice.lowest)
        looks.append(_second_look(bank, wanted, grid, k, place_mm, alone=usual == 1))
    looks.sort(key=lambda proposal: -proposal.chance)
    return looks[:1] if usual == 1 else _apart(looks, grid)


def _second_look(
    bank: CropBank, wanted: _Wanted, grid: HeatGrid, k: int, place_mm: NDArray[np.float64], *, alone: bool
) -> _Proposal:
    """The same class in a crop around the place; one of several objects stays near it."""
    view, lattice = wanted.expert.view, grid.lattice
    start = lattice.around(place_mm)
    heat, chance = wanted.prompter.look(bank.crop(view, start).embedding)
    field = heat[k]
    if not alone:
        cells = np.argwhere(np.ones(field.shape, dtype=bool)).astype(float)  # (G^3, 3)
        gaps = np.linalg.norm(grid.place_mm(cells, start) - place_mm, axis=1).reshape(field.shape)
        field = torch.where(torch.from_numpy(gaps <= max(_NEAR * view.extent_mm, 2 * grid.cell_mm)), field, 0.0)
    cell = best_place(field[None])[0].double().numpy()
    class_id = list(wanted.prompter.classes)[k]
    return _Proposal(wanted, class_id, _inside(bank, grid.place_mm(cell, start)), float(chance[k]))


def _inside(bank: CropBank, place_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest place within the image: a cell may reach beyond it."""
    image = bank.image.geometry
    voxel = np.clip(image.world_to_voxel(place_mm), 0, np.asarray(image.shape) - 1)
    return image.voxel_to_world(voxel)


def _apart(looks: Sequence[_Proposal], grid: HeatGrid) -> list[_Proposal]:
    """Without second looks that came to the same place as a surer one."""
    least_mm = 2 * grid.cell_mm
    kept: list[_Proposal] = []
    for look in looks:
        if all(np.linalg.norm(look.place_mm - other.place_mm) > least_mm for other in kept):
            kept.append(look)
    return kept


def _settled(model: Mixture, bank: CropBank, proposals: list[_Proposal]) -> tuple[list[_Proposal], dict[_Key, Missing]]:
    """Proposals that their own expert will answer, one expert for each label value; and why the others are dropped.

    Crops are planned for all prompts of a case together. So what is dropped may move the crops of the rest, and they
    are asked again, until all that are left are answered by their experts in just the crops of the dialogue.
    """
    asked = replace(model, selector="weighted") if model.selector == "general" else model
    dropped: dict[_Key, Missing] = {}
    while True:
        places = [proposal.place_mm[None] for proposal in proposals]
        homes = plan_windows(bank.lattice(model.view), places)
        routes = [route_of(asked, bank, home, (place, _INSIDE)) for home, place in zip(homes, places, strict=True)]
        best: dict[int, tuple[_Proposal, float]] = {}
        for proposal, route in zip(proposals, routes, strict=True):
            if route.expert == proposal.wanted.output and route.weight > best.get(proposal.class_id, (None, 0.0))[1]:
                best[proposal.class_id] = proposal, route.weight
        kept = []
        for proposal, route in zip(proposals, routes, strict=True):
            winner = best[proposal.class_id][0] if proposal.class_id in best else None
            if (refusal := _refusal(proposal, route, winner)) is None:
                kept.append(proposal)
            else:
                dropped[proposal.key] = refusal
        if len(kept) == len(proposals):
            return kept, dropped
        proposals = kept


def _refusal(proposal: _Proposal, route: Route, winner: _Proposal | None) -> Missing | None:
    """Why a proposal is dropped; None if it is not."""
    wanted, class_id = proposal.wanted, proposal.class_id
    if route.expert != wanted.output and route.guarded:
        return _missing(wanted, class_id, f"the image is unlike those of {wanted.expert.name}", stranger=True)
    if route.expert != wanted.output:
        return _missing(wanted, class_id, "the gate leaves this place to another expert or to the general one")
    if winner is not None and winner.wanted.output != wanted.output:
        taken = f"{winner.prompt.class_name} of {winner.wanted.expert.name}"
        return _missing(wanted, class_id, f"label {class_id} is {taken} in this image; choose with --experts")
    return None


def _missing(wanted: _Wanted, class_id: int, message: str, *, stranger: bool = False) -> Missing:
    return Missing(class_id, wanted.classes[class_id], wanted.expert.name, message, stranger)
