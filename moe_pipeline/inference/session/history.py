"""The states that a session has been in, so that every step can be undone."""

from typing import Any

from numpy.typing import NDArray

from moe_pipeline.inference.session.state import SessionObject, SessionState

_KEPT_ANSWERS = 64
"""States back to which answers are kept; older ones are worked out again when somebody goes back so far."""


class History:
    """States in their order, and which one is the present."""

    def __init__(self) -> None:
        self._states = [SessionState()]
        self._at = 0

    @property
    def state(self) -> SessionState:
        """The present one."""
        return self._states[self._at]

    @property
    def behind(self) -> int:
        """Steps that can be undone."""
        return self._at

    @property
    def ahead(self) -> int:
        """Steps that can be done again."""
        return len(self._states) - 1 - self._at

    def push(self, state: SessionState) -> None:
        """A step; what was undone cannot be done again after it."""
        self._states = [*self._states[: self._at + 1], state]
        self._at += 1
        if (old := self._at - _KEPT_ANSWERS) >= 0:
            self._states[old] = self._states[old].without_answers()

    def replace(self, state: SessionState) -> None:
        """The present state, with more answers or another active object."""
        self._states[self._at] = state

    def undo(self, steps: int) -> None:
        """Go back, as far as there is something."""
        self._at = max(self._at - steps, 0)

    def redo(self, steps: int) -> None:
        """Go forward, as far as there is something."""
        self._at = min(self._at + steps, len(self._states) - 1)

    def mark(self) -> tuple[list[SessionState], int]:
        """Where the session stands, for `back_to`."""
        return list(self._states), self._at

    def back_to(self, mark: tuple[list[SessionState], int]) -> None:
        """As it was then."""
        states, self._at = mark
        self._states = states

    @property
    def n_bytes(self) -> int:
        """Memory of the logits that all states hold together, each counted once."""
        arrays: dict[int, int] = {}
        for state in self._states:
            for one in state.objects.values():
                arrays |= {id(array): array.nbytes for array in _arrays(one)}
        return sum(arrays.values())


def _arrays(wanted: SessionObject) -> list[NDArray[Any]]:
    """Logits and masks of one object."""
    found: list[NDArray[Any]] = [wanted.given.labels.array] if wanted.given is not None else []
    turns = dict(wanted.answer.turns) if wanted.answer is not None else {}
    if wanted.answer is not None:
        outputs = wanted.answer.mask.output if wanted.answer.mask is not None else ()
        found += [array for output in outputs for array in (output.stitched.logits, output.seen.logits)]
    return found + [logits for one in turns.values() for logits in one.windows.values()]
