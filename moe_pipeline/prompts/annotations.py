"""Clicks and boxes as files hold them, one by one, put together into objects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.label_syntax import Wording
from moe_pipeline.records.prompts import ObjectPrompt, Point, Space


@dataclass(frozen=True, slots=True)
class Mark:
    """One click, or one box.

    Attributes:
        wording: what its label says.
        place: of the click; None for a box.
        box: two opposite corners; None for a click.
    """

    wording: Wording
    place: Point | None = None
    box: tuple[Point, Point] | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """What a file of one case holds.

    Attributes:
        space: of the places.
        marks: at least one.
    """

    space: Space
    marks: tuple[Mark, ...]


def class_ids(marks: Iterable[Mark], known: Mapping[int, str]) -> dict[str, int]:
    """Ids for the class names that stand without a number.

    A name has the id that `known` gives it, or the one that it stands with elsewhere; the others get the lowest free
    ids in the order of the alphabet.

    Args:
        marks: of all files together, so that a name means the same in each.
        known: class names by id, as from a dataset.json.
    """
    ids = {name: value for value, name in known.items()}
    nameless = set()
    for mark in marks:
        said = mark.wording
        if said.class_id is None:
            nameless.add(said.name)
        elif said.name:
            ids.setdefault(said.name, said.class_id)
    taken = set(ids.values()) | {m.wording.class_id for m in marks if m.wording.class_id is not None}
    free = (number for number in range(1, 65536) if number not in taken)
    return ids | {name: next(free) for name in sorted(nameless - set(ids))}


def objects_of(
    marks: Sequence[Mark], ids: Mapping[str, int], known: Mapping[int, str], where: str
) -> list[ObjectPrompt]:
    """The objects of one case, in the order of their first marks.

    Args:
        marks: of the case.
        ids: as of `class_ids`.
        known: class names by id.
        where: file, for messages.

    Raises:
        PromptError: if an object has two boxes, or neither a click inside nor a box.
    """
    groups: dict[tuple[int, int], list[Mark]] = {}
    for mark in marks:
        said = mark.wording
        class_id = ids[said.name] if said.class_id is None else said.class_id
        groups.setdefault((class_id, said.number), []).append(mark)
    objects = []
    for (class_id, number), group in groups.items():
        name = next((mark.wording.name for mark in group if mark.wording.name), known.get(class_id, ""))
        boxes = [mark.box for mark in group if mark.box is not None]
        here = f"{where}: class {class_id} {name}".rstrip() + (f", object {number}" if number > 1 else "")
        if len(boxes) > 1:
            raise PromptError(f"{here}: {len(boxes)} boxes; an object has one. Number objects as in '{name}#2'.")
        clicks = [(mark.place, int(mark.wording.inside)) for mark in group if mark.place is not None]
        try:
            prompt = ObjectPrompt(
                class_id=class_id,
                class_name=name,
                points=tuple(place for place, _ in clicks),
                labels=tuple(inside for _, inside in clicks),
                box=boxes[0] if boxes else None,
            )
        except ValidationError as error:
            raise PromptError(f"{here}: {'; '.join(fault['msg'] for fault in error.errors())}") from error
        objects.append(prompt)
    return objects
