"""Clicks and boxes as files hold them, one by one, put together into objects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.label_syntax import ParsedLabel
from moe_pipeline.records.prompts import ObjectPrompt, Point, Space


@dataclass(frozen=True, slots=True)
class Annotation:
    """One click, or one box.

    Attributes:
        label: what is written beside it.
        place: of the click; None for a box.
        box: two opposite corners; None for a click.
    """

    label: ParsedLabel
    place: Point | None = None
    box: tuple[Point, Point] | None = None


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a file of one case holds.

    Attributes:
        space: of the places.
        annotations: at least one.
    """

    space: Space
    annotations: tuple[Annotation, ...]


def class_ids(annotations: Iterable[Annotation], known: Mapping[int, str]) -> dict[str, int]:
    """Ids for the class names that stand without a number.

    A name has the id that `known` gives it, or the one that it stands with elsewhere; the others get the lowest free
    ids in the order of the alphabet.

    Args:
        annotations: of all files together, so that a name means the same in each.
        known: class names by id, as from a dataset.json.
    """
    ids = {name: value for value, name in known.items()}
    nameless = set()
    for annotation in annotations:
        parsed = annotation.label
        if parsed.class_id is None:
            nameless.add(parsed.name)
        elif parsed.name:
            ids.setdefault(parsed.name, parsed.class_id)
    taken = set(ids.values()) | {m.label.class_id for m in annotations if m.label.class_id is not None}
    free = (number for number in range(1, 65536) if number not in taken)
    return ids | {name: next(free) for name in sorted(nameless - set(ids))}


def objects_of(
    annotations: Sequence[Annotation], ids: Mapping[str, int], known: Mapping[int, str], where: str
) -> list[ObjectPrompt]:
    """The objects of one case, in the order of their first marks.

    Args:
        annotations: of the case.
        ids: as of `class_ids`.
        known: class names by id.
        where: file, for messages.

    Raises:
        PromptError: if an object has two boxes, or neither a click inside nor a box.
    """
    groups: dict[tuple[int, int], list[Annotation]] = {}
    for annotation in annotations:
        parsed = annotation.label
        class_id = ids[parsed.name] if parsed.class_id is None else parsed.class_id
        groups.setdefault((class_id, parsed.number), []).append(annotation)
    objects = []
    for (class_id, number), group in groups.items():
        name = next((annotation.label.name for annotation in group if annotation.label.name), known.get(class_id, ""))
        boxes = [annotation.box for annotation in group if annotation.box is not None]
        here = f"{where}: class {class_id} {name}".rstrip() + (f", object {number}" if number > 1 else "")
        if len(boxes) > 1:
            raise PromptError(f"{here}: {len(boxes)} boxes; an object has one. Number objects as in '{name}#2'.")
        clicks = [
            (annotation.place, int(annotation.label.inside)) for annotation in group if annotation.place is not None
        ]
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
