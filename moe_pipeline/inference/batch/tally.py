"""What became of everything that lies in a folder of images, in numbers that add up."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_pipeline.files import is_folder
from moe_pipeline.imaging.io.files import has_image_suffix

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Tally:
    """Cases, and files that belong to none: found = done + finished before + left out + failed + not reached.

    Attributes:
        done: cases that this run has written.
        before: cases that an earlier run has finished with the same inputs.
        failed: cases that could not be done.
        waiting: cases that the run did not come to.
        left_out: files in the folder that are of no case, by reason.
    """

    done: int
    before: int
    failed: int
    waiting: int = 0
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """Files."""
        return sum(map(len, self.left_out.values()))

    @property
    def found(self) -> int:
        """All of it."""
        return self.done + self.before + self.failed + self.waiting + self.n_left_out

    def lines(self) -> list[str]:
        """For the terminal."""
        counts = f"{self.found} found = {self.done} done + {self.before} finished before + {self.n_left_out} left out"
        counts += f" + {self.failed} failed" + (f" + {self.waiting} not reached" if self.waiting else "")
        return [counts, *(f"  left out: {len(names)} {why}: {_some(names)}" for why, names in self.left_out.items())]

    def as_results(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "found": self.found,
            "done": self.done,
            "finished_before": self.before,
            "left_out": self.n_left_out,
            "failed": self.failed,
            "left_out_because": {why: list(names) for why, names in self.left_out.items()},
        }


def files_left_out(folder: Path, images: Collection[Path], others: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    """Visible files of a folder that belong to no case, by reason.

    Args:
        folder: of images.
        images: files of all cases, and folders of their DICOM series.
        others: what lies in it for another purpose: prompts, references, the output folder.
    """
    used = {path.resolve() for image in images for path in _files_of(image)}
    apart = {path.resolve() for path in others} - {folder.resolve()}
    known = used | apart
    reasons: dict[str, list[str]] = {}
    for path in _visible(folder):
        place = path.resolve()
        if place in known or not known.isdisjoint(place.parents):
            continue
        reasons.setdefault(_reason(path, folder), []).append(path.relative_to(folder).as_posix())
    return {why: tuple(names) for why, names in sorted(reasons.items())}


def _files_of(image: Path) -> list[Path]:
    """A file with those beside it that a MetaImage header may keep its voxels in."""
    return [image, *(image.parent.glob(f"{image.stem}.*raw") if image.suffix.lower() == ".mhd" else ())]


def _visible(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if is_folder(path):
            yield from _visible(path)
        else:
            yield path


def _reason(path: Path, folder: Path) -> str:
    if not os.access(path, os.F_OK):
        return "links to files that are not there"
    if not has_image_suffix(path):
        return f"files that are no images by their ending ({path.suffix or 'none'})"
    return "images in subfolders, which are not looked into" if path.parent != folder else "images of no case"


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
