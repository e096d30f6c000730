"""How a case is answered, apart from who answers it."""

from dataclasses import dataclass
from typing import Literal

Zoom = Literal["auto", "in", "out", "off"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user may choose for every object alike.

    Attributes:
        zoom: whether the general expert may look again at another spacing: finer where the object is small ("in"),
            coarser where it is wider than the cube ("out"), both ("auto"), or never ("off").
        max_windows: crops that one object may take per decoder; 1 never leaves the first crop.
        flips: average over the crop and its three mirror images.
        both: ask the general expert also where its answer has no weight, to tell how far they disagree.
    """

    zoom: Zoom = "off"
    max_windows: int = 64
    flips: bool = False
    always_general: bool = False

    def __post_init__(self) -> None:
        if self.max_windows < 1:
            raise ValueError(f"max_windows must be at least 1, got {self.max_windows}")
