r"""Templates of file paths, by which a user says which files belong together.

    {patient}/{scan}_{channel}.nii.gz      {case}/segmentations/{class}.nii.gz      **/{case:brain\d+}_image.nrrd

A template is a path below the source. `{name}` stands for a part of a file or folder name (as short as will do),
`{name:expression}` for what fits that regular expression (without braces), `{:expression}` for the same without a name.
A name that comes twice must stand for the same text. `*` is anything within one name, `**/` any number of folders.

`{channel}` tells the channels of a case apart and `{class}` the structures that masks show. All other fields together
make the case id, and `{patient}` also says whose it is.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import DatasetError
from moe_pipeline.records.names import composed, joined

CHANNEL, CLASS, PATIENT = "channel", "class", "patient"
_PIECE = re.compile(
    r"\{(?P<name>[A-Za-z_]*)(?::(?P<expression>[^{}]+))?\}|(?P<folders>\*\*/)|(?P<any>\*)|(?P<text>.)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Match:
    """A file that fits a template."""

    path: Path
    """The file."""
    fields: dict[str, str]
    """Field to text, in the order of the template."""
    patient: str | None = None
    """Whose it is, if that is known."""

    @property
    def case(self) -> tuple[tuple[str, str], ...]:
        """The fields that tell cases apart."""
        return tuple((name, text) for name, text in self.fields.items() if name not in (CHANNEL, CLASS))

    @property
    def case_id(self) -> str:
        """Those fields joined, also where one spans folders; without any the name of the file before its first dot."""
        return joined("_".join(text for _, text in self.case)) or self.path.name.split(".")[0]


class Template:
    """One template, ready to match."""

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            DatasetError: if it is no template.
        """
        self.text = text
        self._names: list[str] = []
        try:
            self._pattern = re.compile("".join(self._expression(piece) for piece in _PIECE.finditer(text)))
        except re.error as error:
            raise DatasetError(f"{text!r} is no template: {error}; expected one such as {{case}}_seg.nii.gz") from error

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @property
    def names(self) -> frozenset[str]:
        """Its fields."""
        return frozenset(self._names)

    def matches(self, files: Iterable[Path], source: Path) -> list[Match]:
        """Those files that fit, in their order."""
        found = []
        for path in files:
            if match := self._pattern.fullmatch(path.relative_to(source).as_posix()):
                fields = {name: composed(match[f"{name}_"]) for name in self._names}
                found.append(Match(path, fields, fields.get(PATIENT)))
        return found

    def _expression(self, piece: re.Match[str]) -> str:
        if piece["folders"]:
            return r"(?:[^/]+/)*"
        if piece["any"]:
            return r"[^/]*"
        if piece["text"]:
            return re.escape(piece["text"])
        name = piece["name"]
        if not name:
            return f"(?:{piece['expression'] or '[^/]+?'})"
        if name in self._names:
            return f"(?P={name}_)"
        self._names.append(name)
        return f"(?P<{name}_>{piece['expression'] or '[^/]+?'})"  # `class` alone is no name for a group


def all_files(source: Path) -> list[Path]:
    """Visible files of a folder and of all visible folders in it, links included, sorted."""
    found: list[Path] = []
    seen = {source.resolve()}
    for folder, subfolders, names in os.walk(source, followlinks=True):
        visible = {name: (Path(folder) / name).resolve() for name in subfolders if not name.startswith(".")}
        subfolders[:] = [name for name, place in visible.items() if place not in seen]  # links may run in circles
        seen |= set(visible.values())
        found += [Path(folder) / name for name in names if not name.startswith(".")]
    return sorted(found)
