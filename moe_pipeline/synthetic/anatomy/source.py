"""What the user states of a folder with label maps that a foundation is to learn from."""

from typing import Literal

from pydantic import Field, model_validator

from moe_pipeline.records.base import Part, Record

Corner = tuple[float, float, float]
"""A place along R, A and S, in mm."""


class LesionHost(Part):
    """Where lesions lie."""

    tissues: tuple[str, ...] = Field(min_length=1)
    """Tissues of the label maps that they are painted into; nothing else is covered by them."""
    box_mm: tuple[Corner, Corner]
    """Lowest and highest corner of these tissues in the space of the lesions."""


class LabelMapSource(Record):
    """`label_maps.json` in a folder of label maps; plans/label_maps/ has some to copy."""

    title: str
    """For people, and for the foundation's card."""
    licence: str
    """As found at the source; it goes into the card."""
    unlabelled: Literal["air", "tissue"] = "air"
    """What 0 stands for: air, or whatever nobody has outlined."""
    tissues: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Structures that look about the same, by their numbers. One in none of them has a brightness of its own."""
    pairs: tuple[tuple[int, int], ...] = ()
    """Left and right of the same: they look the same."""
    contrasts: dict[str, dict[str, float]] = Field(default_factory=dict)
    """How bright the tissues are in some kind of image; soft tissue lies between 0 and 1."""
    lesions_in: LesionHost | None = None
    """If the files are masks of lesions, one a file, in a common space."""

    @model_validator(mode="after")
    def _consistent(self) -> "LabelMapSource":
        numbers = [number for members in self.tissues.values() for number in members]
        if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
            raise ValueError(f"tissues: {', '.join(map(str, twice))} in more than one of them")
        for contrast, means in self.contrasts.items():
            if unknown := sorted(set(means) - set(self.tissues)):
                raise ValueError(f"contrasts: {contrast}: {', '.join(unknown)} is none of the tissues")
        if self.lesions_in is not None and self.tissues:
            raise ValueError("lesions_in: masks of lesions have no tissues")
        return self
