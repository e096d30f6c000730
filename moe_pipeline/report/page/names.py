"""What a page calls the cases: by their names, or by numbers that say nothing of a patient."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_HIDDEN = "[left out]"
_SEPARATORS = ("/", "\\")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a page's cases."""

    anonymous: bool = False
    """Whether they are replaced."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Number by case id, if so."""

    @classmethod
    def of(cls, cases: Iterable[str], *, anonymous: bool) -> "Names":
        """Numbers in the order of the ids, if names are not to be shown."""
        ordered = sorted(set(cases)) if anonymous else []
        digits = len(str(len(ordered)))
        return cls(anonymous, {case: f"case {number:0{digits}d}" for number, case in enumerate(ordered, start=1)})

    def case(self, case: str) -> str:
        """What a case is called."""
        return self.aliases.get(case, case) if self.anonymous else case

    def text(self, message: str) -> str:
        """A message without what names a patient or a folder; nothing of one that holds a path, whatever is in it."""
        if not self.anonymous:
            return message
        if any(separator in message for separator in _SEPARATORS):
            return _HIDDEN
        for case in sorted(self.aliases, key=len, reverse=True):
            message = message.replace(case, self.aliases[case])
        return message

    def path(self, path: Path | str) -> str:
        """A path, or that there was one."""
        return _HIDDEN if self.anonymous else str(path)

    def title(self, folder: Path) -> str:
        """How the run's folder is called in a title; nothing where names are not shown."""
        return "" if self.anonymous else folder.resolve().name
