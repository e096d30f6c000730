"""How long work says where it is, without knowing who listens."""

from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Called with the name of the stage, the units done so far and the units in all."""

    def __call__(self, stage: str, done: float, total: float) -> None:
        """Take note; must be quick."""


def silent(stage: str, done: float, total: float) -> None:
    """Take no note: the default of every Python function."""


def track(items: Iterable[Item], stage: str, progress: Progress, total: int | None = None) -> Iterator[Item]:
    """Yield the items and report after each; `total` is needed where the items have no length."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    progress(stage, 0, count)
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, count)
