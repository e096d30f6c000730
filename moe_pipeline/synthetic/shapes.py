"""Objects: level sets (negative inside) of bent bodies, tubes, sheets, networks, trees; and their inner parts."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.draws import Draws, Section
from moe_pipeline.synthetic.fields import along_axes, column, doubling, rotation, smooth_field
from moe_pipeline.synthetic.frame import FieldOfView

_GENERATIONS = 4  # 1 + 2 + 4 + 8 segments


def tree_level(numbers: Section, frame: FieldOfView, size: int) -> Tensor:
    """Draw one tree per sample.

    Args:
        numbers: where the random numbers come from.
        frame: field of view and warp of each sample.
        size: voxels per edge.

    Returns:
        (n, size, size, size): negative inside, -1 on the axes.
    """
    starts, steps, radii = _segments(numbers, frame)
    n = radii.shape[0]
    places = frame.coordinates(size).reshape(n, 3, -1)  # (n, 3, size**3)
    along = torch.baddbmm(-(starts * steps).sum(-1, keepdim=True), steps, places)  # (n, count, size**3)
    length2 = steps.square().sum(-1, keepdim=True)
    foot = (along / length2).clamp(0, 1)
    to_start2 = torch.baddbmm(starts.square().sum(-1, keepdim=True), starts, places, alpha=-2)
    to_start2 = to_start2 + places.square().sum(1, keepdim=True)
    distance2 = (to_start2 - 2 * foot * along + foot.square() * length2).clamp(min=0)
    level = distance2.sqrt() / radii[..., None] - 1
    return level.amin(1).reshape(n, size, size, size)


def _segments(numbers: Section, frame: FieldOfView) -> tuple[Tensor, Tensor, Tensor]:
    """Start points (n, m, 3), steps (n, m, 3) and radii (n, m) of all segments, generation by generation."""
    scale = frame.scale[:, :, None]  # (n, 1, 1)
    start = frame.centre[:, None] + frame.half[:, None] * numbers.uniform(1, 3, low=-0.9, high=0.9)
    towards = frame.centre[:, None] - start + 0.3 * scale * numbers.normal(1, 3)
    heading = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    length = numbers.uniform(1, 1, low=0.35, high=0.75) * scale
    radius = (numbers.log_uniform(1, low=0.04, high=0.16) * scale[..., 0]).clamp(min=3.4 / frame.size)
    spread = numbers.uniform(1, 1, low=0.3, high=0.9)
    starts, steps, radii = [], [], []
    for _ in range(_GENERATIONS):
        step = heading * length
        starts.append(start)
        steps.append(step)
        radii.append(radius)
        start = (start + step).repeat_interleave(2, 1)
        heading = heading.repeat_interleave(2, 1)
        heading = heading + spread * numbers.normal(heading.shape[1], 3)
        heading = heading / heading.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        radius = (radius * 0.8).clamp(min=2.6 / frame.size).repeat_interleave(2, 1)
        length = length * 0.8
    return torch.cat(starts, 1), torch.cat(steps, 1), torch.cat(radii, 1)


_J = labels.N_OBJECTS
_FREE = 9.0  # a level far outside


@dataclass(frozen=True, slots=True)
class Bodies:
    """Parameters of the bent superellipsoids of all slots."""

    centre: Tensor
    """(n, J, 3)"""
    radius: Tensor
    """(n, J, 3): half axes, half the cube's edge being 1."""
    turn: Tensor
    """(n, J, 3, 3): rotation into the body's own axes."""
    bend: Tensor
    """(n, J, 2): how far the ends of the first axis are bent aside, in half axes."""
    roundness: Tensor
    """(n, J): exponent, 2 for an ellipsoid."""
    taper: Tensor
    """(n, J): how much thinner one end is than the other."""
    midline: Tensor
    """(n,): x of the plane that mirrors the twin."""
    present: Tensor
    """(n, J) bool"""


def paint_objects(draws: Draws, frame: FieldOfView, painted: Tensor) -> tuple[Tensor, Tensor]:
    """Paint every object over the background.

    Args:
        draws: the batch's random numbers.
        frame: field of view and warp of each sample.
        painted: (n, S, S, S) uint8 background labels.

    Returns:
        (n, S, S, S) uint8 labels, and (n, J) background label at each object's centre.
    """
    numbers = draws.section("objects")
    bodies = _draw_bodies(numbers, frame)
    level, cut = _levels(numbers, draws, frame, bodies)
    size = frame.size
    finer = doubling(size, painted.device).expand(numbers.n, 3, size, size // 2)
    fine = along_axes(torch.cat([level, cut], 1), finer)  # (n, J + 2, S, S, S)
    everywhere = numbers.chance(_J, p=0.12)
    around = _label_at(painted, bodies.centre)
    everywhere[:, labels.MAIN] |= around[:, labels.MAIN] == labels.AIR  # so that no sample is without an object
    in_tissue = painted != labels.AIR
    rims = _rims(numbers)
    result = painted
    for slot in range(_J):
        depth = -fine[:, slot]
        name = torch.full_like(painted, labels.of_object(slot).start)
        for bit, rim in zip((labels.IN_CORE, labels.IN_CENTRE), rims, strict=True):
            name += bit * (depth > column(rim[:, slot]))
        if slot >= labels.TWIN:
            name += labels.IN_SECOND_PART * (fine[:, _J + slot - labels.TWIN] > 0)
        allowed = (in_tissue | column(everywhere[:, slot])) & column(bodies.present[:, slot])
        result = torch.where((depth > 0) & allowed, name, result)
    return result, around


def _rims(numbers: Section) -> tuple[Tensor, Tensor]:
    """Depths (n, J) where core and centre begin, as shares of the half axes; deeper than any voxel where none do."""
    core, centre = numbers.uniform(_J, low=0.12, high=0.6), numbers.uniform(_J, low=0.55, high=0.9)
    has_core, has_centre = numbers.chance(_J, p=0.35), numbers.chance(_J, p=0.3)
    return torch.where(has_core, core, _FREE), torch.where(has_centre, centre, _FREE)


def _label_at(painted: Tensor, centre: Tensor) -> Tensor:
    """(n, J): labels at the voxels nearest to (n, J, 3) coordinates."""
    size = painted.shape[-1]
    place = ((centre + 1) * (size / 2)).floor().long().clamp(0, size - 1)
    flat = (place[..., 0] * size + place[..., 1]) * size + place[..., 2]
    return painted.reshape(painted.shape[0], -1).gather(1, flat).long()


def _draw_bodies(numbers: Section, frame: FieldOfView) -> Bodies:
    size = numbers.log_uniform(_J, low=0.09, high=0.62)
    size[:, labels.PARENT] = numbers.log_uniform(low=0.25, high=0.8)
    size[:, labels.MAIN] = numbers.log_uniform(low=0.16, high=0.9)
    size[:, labels.FIELD] = numbers.log_uniform(low=0.35, high=1.5)
    radius = size[..., None] * _proportions(numbers)
    turn = rotation(numbers, _J, strength=0.9)
    inner = numbers.uniform(_J, 3, low=-0.85, high=0.85)
    inner[:, labels.MAIN] *= 0.65
    centre = frame.centre[:, None] + frame.half[:, None] * inner
    radius = (radius * frame.scale[:, None]).clamp(min=4.4 / frame.size)
    radius[:, labels.CHILD] = (radius[:, labels.PARENT] * numbers.uniform(1, low=0.15, high=0.55)).clamp(
        min=4.4 / frame.size
    )
    radius[:, labels.MAIN] = radius[:, labels.MAIN].clamp(min=6.4 / frame.size)
    aside = torch.einsum(
        "nji,nj->ni", turn[:, labels.PARENT], radius[:, labels.PARENT] * numbers.uniform(3, low=-0.6, high=0.6)
    )
    centre[:, labels.CHILD] = centre[:, labels.PARENT] + aside
    present = numbers.chance(_J, p=0.6)
    present[:, labels.FIELD] = numbers.chance(p=0.4)
    present[:, labels.CHILD] &= present[:, labels.PARENT]
    present[:, labels.MAIN] = True
    bodies = Bodies(
        centre=centre,
        radius=radius,
        turn=turn,
        bend=numbers.normal(_J, 2) * numbers.uniform(_J, 1, high=0.6),
        roundness=numbers.log_uniform(_J, low=1.6, high=4.0),
        taper=numbers.uniform(_J, low=-0.6, high=0.6),
        midline=frame.centre[:, 0],
        present=present,
    )
    return _with_twin(numbers, frame, bodies)


def _proportions(numbers: Section) -> Tensor:
    """(n, J, 3): half axes relative to the longest: compact, elongated, tubes that leave the crop, flat discs."""
    form = numbers.uniform(_J, 1)
    form[:, labels.MAIN] *= 0.85  # seldom a tube, never a disc
    compact = numbers.uniform(_J, 3, low=0.6, high=1.0)
    thin = numbers.uniform(_J, 3, low=0.25, high=0.5)
    longest = torch.tensor([True, False, False], device=form.device)
    long = torch.where(longest, 1.0, thin)
    tube = torch.where(longest, 4.0, 0.7 * thin)
    disc = compact * torch.tensor([1.3, 1.3, 0.2], device=form.device)
    return torch.where(form < 0.38, compact, torch.where(form < 0.76, long, torch.where(form < 0.88, tube, disc)))


def _with_twin(numbers: Section, frame: FieldOfView, bodies: Bodies) -> Bodies:
    """Give some main objects a mirrored twin, which has the same form."""
    has_twin = numbers.chance(p=0.4)
    away = numbers.uniform(low=0.3, high=0.7) * frame.half[:, 0] * numbers.sign()
    centre_x = torch.where(has_twin, bodies.midline + away, bodies.centre[:, labels.MAIN, 0])
    centre = bodies.centre.clone()
    centre[:, labels.MAIN, 0] = centre_x
    centre[:, labels.TWIN] = centre[:, labels.MAIN]
    present = bodies.present.clone()
    present[:, labels.TWIN] = has_twin
    form = [slot if slot != labels.TWIN else labels.MAIN for slot in range(_J)]
    copied = {name: getattr(bodies, name)[:, form] for name in ("radius", "turn", "bend", "roundness", "taper")}
    return replace(bodies, centre=centre, present=present, **copied)


def _levels(numbers: Section, draws: Draws, frame: FieldOfView, bodies: Bodies) -> tuple[Tensor, Tensor]:
    """Levels (n, J, h, h, h) of all slots and the signed cut (n, 2, h, h, h) of twin and main, at half resolution."""
    half = frame.size // 2
    coordinates = frame.coordinates(half)  # (n, 3, h, h, h)
    places = coordinates[:, None].repeat(1, _J, 1, 1, 1, 1)  # (n, J, 3, h, h, h)
    places[:, labels.TWIN, 0] = 2 * column(bodies.midline) - places[:, labels.TWIN, 0]
    places = places - column(bodies.centre)
    own = (bodies.turn @ places.reshape(*places.shape[:3], -1)).reshape(places.shape)
    along = own[:, :, 0] / column(bodies.radius[..., 0])  # (n, J, h, h, h), -1 to 1 over the body
    held = along.clamp(-1.5, 1.5)
    bent = held.square() - 0.4
    aside = [own[:, :, 1 + i] - column(bodies.bend[..., i] * bodies.radius[..., 0]) * bent for i in (0, 1)]
    thinner = (1 + column(bodies.taper) * held).clamp(min=0.35)
    power = column(bodies.roundness)
    total = along.abs() ** power
    for i in (0, 1):
        total = total + (aside[i] / (column(bodies.radius[..., 1 + i]) * thinner)).abs() ** power
    bumps = smooth_field(numbers, 2, knots=13, spans=(3.0, 10.0)).at(half)  # (n, 2, h, h, h)
    bumps = bumps[:, [slot % 2 for slot in range(_J)]] * column(numbers.sign(_J))
    ragged = torch.where(
        numbers.chance(_J, p=0.15), numbers.uniform(_J, low=0.4, high=0.8), numbers.uniform(_J, high=0.28)
    )
    level = total ** (1 / power) - 1 + column(ragged) * bumps
    level = _with_field_object(numbers, draws, frame, level)
    sticks_out = numbers.chance(p=0.3)
    inside_parent = torch.maximum(level[:, labels.CHILD], level[:, labels.PARENT] + 0.06)
    level[:, labels.CHILD] = torch.where(column(sticks_out), level[:, labels.CHILD], inside_parent)
    return level, _cuts(numbers, coordinates, bodies, along)


def _cuts(numbers: Section, coordinates: Tensor, bodies: Bodies, along: Tensor) -> Tensor:
    """(n, 2, h, h, h): sign of the side of a plane across twin and main; far from it where there is no cut."""
    has_cut = numbers.chance(p=0.4)
    by_axis = numbers.chance(p=0.5)  # across the patient's axis nearest to the object's own, as anatomists cut
    offset = numbers.uniform(low=-0.35, high=0.35)
    direction = bodies.turn[:, labels.MAIN, 0]  # (n, 3)
    axis = direction.abs().argmax(-1, keepdim=True)
    sense = direction.gather(1, axis).sign()
    reach = bodies.radius[:, labels.MAIN, 0] * direction.abs().amax(-1)
    middle = bodies.centre[:, labels.MAIN]
    position = coordinates.gather(1, axis[..., None, None, None].expand(-1, 1, *coordinates.shape[2:]))[:, 0]
    centre = middle.gather(1, axis)
    by_patient = (position - column(centre[:, 0])) * column(sense[:, 0] / reach)
    mirrored = torch.where(column(axis[:, 0] == 0), -position + 2 * column(bodies.midline), position)
    by_patient_twin = (mirrored - column(centre[:, 0])) * column(sense[:, 0] / reach)
    sides = torch.stack([by_patient_twin, by_patient], 1)
    own = along[:, labels.TWIN :]
    cut = torch.where(column(by_axis[:, None]), sides, own) - column(offset[:, None])
    return torch.where(column(has_cut[:, None]), cut, torch.full_like(cut, -_FREE))


def _with_field_object(numbers: Section, draws: Draws, frame: FieldOfView, level: Tensor) -> Tensor:
    """Replace slot FIELD, in most samples, by a structure that fills its body: vessels, sheets, islands, a tree."""
    half = frame.size // 2
    kind = column(numbers.uniform(1)[:, 0])
    first, second = smooth_field(numbers, 2, knots=14, spans=(2.5, 11.0)).at(half).unbind(1)  # (n, h, h, h) each
    thickness = column(numbers.log_uniform(low=0.14, high=0.5))
    network = (first.square() + second.square()).sqrt() / thickness - 1
    sheet = first.abs() / thickness - 1
    islands = column(numbers.uniform(low=0.7, high=1.7)) - first
    tree = tree_level(draws.section("objects"), frame, half)
    body = level[:, labels.FIELD]
    filling = torch.where(kind < 0.3, network, torch.where(kind < 0.45, sheet, islands))
    filled = torch.where(kind < 0.65, torch.maximum(filling, body), torch.where(kind < 0.85, tree, body))
    level = level.clone()
    level[:, labels.FIELD] = filled
    return level
