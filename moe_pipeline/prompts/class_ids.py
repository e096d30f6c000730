"""Which class id a name stands for: what a model was trained on comes first, and contradictions are errors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moe_pipeline.errors import PromptError

_HIGHEST_ID = 65535


@dataclass(frozen=True, slots=True)
class ClassTable:
    """Class names by id, from one place.

    Attributes:
        origin: of the table, for messages.
        names: by id.
    """

    origin: str
    names: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class WrittenClass:
    """A class as a prompt says it.

    Attributes:
        class_id: None if only its name is written.
        name: empty if only its id is written.
        where: file, for messages.
        apart: whether id and name are fields of their own, so that two ids may share a name on purpose.
    """

    class_id: int | None
    name: str
    where: str
    apart: bool = False


class ClassIds:
    """The ids of all classes that a set of prompts names. Case and underscores make no difference in names.

    A name has the id that the tables give it, else the one that it stands with in some prompt; the others get the
    lowest free ids in the order of the alphabet, so that a name means the same in each file.

    Args:
        written: every class of every prompt.
        tables: what is known beyond them, such as the classes of a model's experts.
        beside: the dataset.json that lies beside the prompts, if there is one.
    """

    def __init__(
        self,
        written: Iterable[WrittenClass] = (),
        tables: Sequence[ClassTable] = (),
        beside: ClassTable | None = None,
    ) -> None:
        own = [beside] if beside else []
        self._beside, self._tables = beside, [*tables, *own]
        self._known, self._groups = _by_name(self._tables), (_by_name(tables), _by_name(own))
        self._said: dict[str, dict[int, str]] = {}
        self._strict: set[str] = set()
        self._names: dict[int, dict[str, str]] = {}
        nameless: dict[str, str] = {}
        for one in sorted(set(written), key=lambda one: (one.name, one.where, one.class_id or 0)):
            if one.class_id is None:
                nameless.setdefault(_key(one.name), one.name)
            elif one.name:
                self._said.setdefault(_key(one.name), {}).setdefault(
                    one.class_id, f"{one.where} says {one.class_id} {one.name}"
                )
                self._note(one.class_id, one.name, one.where)
                self._strict |= set() if one.apart else {_key(one.name)}
            else:
                self._names.setdefault(one.class_id, {})
        self._free = self._numbered(nameless)

    def of(self, name: str, where: str) -> int:
        """The id of a name that stands without one.

        Raises:
            PromptError: if it has two.
        """
        key = _key(name)
        ids = self._known.get(key) or self._said.get(key)
        if not ids:
            return self._free[key]
        if len(ids) > 1:
            raise PromptError(f"{where}: which class is {name!r}? {'; '.join(ids.values())}. {_REMEDY}")
        return self.check(next(iter(ids)), name, where)

    def check(self, class_id: int, name: str, where: str) -> int:
        """The id itself, if nothing speaks against its name.

        Raises:
            PromptError: if the name is known under another id, or the id stands with another name elsewhere.
        """
        key = _key(name)
        for known in (group.get(key, {}) for group in self._groups):
            if known and class_id not in known:
                raise PromptError(f"{where}: says {class_id} for {name!r}, but {'; '.join(known.values())}. {_REMEDY}")
        said = self._said.get(key, {}) if key in self._strict and key not in self._known else {}
        if len(said) > 1:
            raise PromptError(f"{where}: {name!r} has two class ids: {'; '.join(said.values())}. {_REMEDY}")
        names = self._names.get(class_id, {})
        if key and len(names) > 1:
            raise PromptError(f"{where}: class {class_id} has two names: {'; '.join(names.values())}. {_REMEDY}")
        return class_id

    def name_of(self, class_id: int) -> str:
        """The name of an id: that of the dataset.json beside, else the only one in the tables; else nothing."""
        if self._beside and class_id in self._beside.names:
            return self._beside.names[class_id]
        names = {table.names[class_id] for table in self._tables if class_id in table.names}
        return names.pop() if len(names) == 1 else ""

    def _note(self, class_id: int, name: str, where: str) -> None:
        self._names.setdefault(class_id, {}).setdefault(_key(name), f"{where} says {class_id} {name}")

    def _numbered(self, nameless: Mapping[str, str]) -> dict[str, int]:
        """Free ids of the names that stand nowhere with one; the others are noted beside the names of their ids."""
        taken = {class_id for table in self._tables for class_id in table.names} | set(self._names)
        free = (number for number in range(1, _HIGHEST_ID + 1) if number not in taken)
        found = {}
        for key in sorted(nameless):
            ids = self._known.get(key) or self._said.get(key)
            if not ids:
                found[key] = next(free)
            elif len(ids) == 1:
                ((class_id, origin),) = ids.items()
                self._names.setdefault(class_id, {}).setdefault(key, origin)
        return found


def _by_name(tables: Sequence[ClassTable]) -> dict[str, dict[int, str]]:
    """Where each id of a name comes from."""
    found: dict[str, dict[int, str]] = {}
    for table in tables:
        for class_id, name in table.names.items():
            found.setdefault(_key(name), {}).setdefault(class_id, f"{table.origin} has {class_id} {name}")
    return found


_REMEDY = "Write the same id and name everywhere, or rename the class"


def _key(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
