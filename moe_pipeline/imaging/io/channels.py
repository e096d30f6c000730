"""nnU-Net writes one file per channel, case_0000 and case_0001. Cases may be numbered like that, too."""

import os
import re
from pathlib import Path

from moe_pipeline.errors import ImageError
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.base import read_json

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_MAX_LISTED = 3


def first_channels(folder: Path, named: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """One entry per case, its first channel, where the files are channels; all files as they are otherwise.

    Names are those of channels only if all of them end in four digits and each stem has a 0000. Then dataset.json
    beside the folder decides: a number that is no channel there is part of a case's name. Without one, they are
    channels if there is a 0000 only for each stem, or if several stems have the same channels without gaps.

    Args:
        folder: of the images.
        named: name without suffix, and path, of each file; sorted.

    Raises:
        ImageError: if it cannot be told.
    """
    numbers: dict[str, set[int]] = {}
    for name, _ in named:
        if match := _CHANNEL.fullmatch(name):
            numbers.setdefault(match[1], set()).add(int(match[2]))
        else:
            return named
    if not all(0 in found for found in numbers.values()) or not _are_channels(folder, numbers):
        return named
    return [(name.removesuffix("_0000"), path) for name, path in named if name.endswith("_0000")]


def _are_channels(folder: Path, numbers: dict[str, set[int]]) -> bool:
    most = max((max(found) + 1 for found in numbers.values()), default=1)
    described = _described_channels(RawFolder(folder.resolve().parent).description)
    if described is not None:
        return most <= described
    alike = all(found == set(range(most)) for found in numbers.values())
    if alike and (most == 1 or len(numbers) > 1):
        return True
    listed = [f"{stem}_{number:04d}" for stem, found in numbers.items() for number in sorted(found)]
    raise ImageError(
        f"{folder}: cannot tell whether {', '.join(listed[:_MAX_LISTED])}, ... are cases or nnU-Net's channels of "
        f"{len(numbers)} case(s). For channels, put the dataset.json that names them beside the folder; "
        f"cases need other names, such as {listed[0].replace('_', '-')}."
    )


def _described_channels(path: Path) -> int | None:
    if not os.path.lexists(path):
        return None
    content = read_json(path, "a dataset.json that names the channels")
    names = content.get("channel_names", content.get("modality")) if isinstance(content, dict) else None
    return len(names) if isinstance(names, dict) and names else None
