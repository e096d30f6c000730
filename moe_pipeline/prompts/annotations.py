"""Clicks and boxes as files hold them, one by one, put together into objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.class_ids import ClassIds, WrittenClass
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

    def with_owners(self, where: str) -> "Annotations":
        """The same, with clicks outside that name no class given to the only object of the file.

        Args:
            where: file, for messages.

        Raises:
            PromptError: if there are several objects.
        """
        owners = {replace(one.label, inside=True) for one in self.annotations if not one.label.is_stray}
        strays = [one for one in self.annotations if one.label.is_stray]
        if not strays or not owners or ParsedLabel(None, strays[0].label.name) in owners:
            return self
        if len(owners) > 1:
            names = ", ".join(sorted(f"{one.class_id or ''} {one.name}#{one.number}".strip() for one in owners))
            raise PromptError(
                f"{where}: {len(strays)} clicks outside do not say of what; there are {names}. Write the class in "
                "front, as in 'liver neg'"
            )
        outside = replace(owners.pop(), inside=False)
        owned = (replace(one, label=outside) if one.label.is_stray else one for one in self.annotations)
        return Annotations(self.space, tuple(owned))

    def written(self, where: str) -> Iterator[WrittenClass]:
        """Every class that is named."""
        for one in self.annotations:
            yield WrittenClass(one.label.class_id, one.label.name, where)


def objects_of(annotations: Sequence[Annotation], ids: ClassIds, where: str) -> list[ObjectPrompt]:
    """The objects of one case, in the order of their first marks.

    Args:
        annotations: of the case.
        ids: of all names.
        where: file, for messages.

    Raises:
        PromptError: if an object has two boxes, or neither a click inside nor a box, or its class is in doubt.
    """
    groups: dict[tuple[int, int], list[Annotation]] = {}
    for annotation in annotations:
        parsed = annotation.label
        class_id = ids.of(parsed.name, where) if parsed.class_id is None else parsed.class_id
        groups.setdefault((ids.check(class_id, parsed.name, where), parsed.number), []).append(annotation)
    return [_object(class_id, number, group, ids, where) for (class_id, number), group in groups.items()]


def _object(class_id: int, number: int, group: Sequence[Annotation], ids: ClassIds, where: str) -> ObjectPrompt:
    name = next((one.label.name for one in group if one.label.name), "") or ids.name_of(class_id)
    boxes = [one.box for one in group if one.box is not None]
    here = f"{where}: class {class_id} {name}".rstrip() + (f", object {number}" if number > 1 else "")
    if len(boxes) > 1:
        raise PromptError(f"{here}: {len(boxes)} boxes; an object has one. Number objects as in '{name}#2'.")
    clicks = [(one.place, int(one.label.inside)) for one in group if one.place is not None]
    try:
        return ObjectPrompt(
            class_id=class_id,
            class_name=name,
            points=tuple(place for place, _ in clicks),
            labels=tuple(inside for _, inside in clicks),
            box=boxes[0] if boxes else None,
        )
    except ValidationError as error:
        told = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise PromptError(f"{here}: {told}") from error
