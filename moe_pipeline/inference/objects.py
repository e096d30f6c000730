"""What is to be segmented in a case: one object after the other, each with its clicks and who gives them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.inference.dense import DensePrompt
from moe_pipeline.inference.dialogue import Clicks, NextClick, ProbabilityMap
from moe_pipeline.inference.prompts import Prompt
from moe_pipeline.inference.simulate import Robot


@dataclass(frozen=True, slots=True)
class CaseObject:
    """One object to be segmented.

    Attributes:
        class_id: value in the label map.
        class_name: for the tables.
        source: where the clicks come from.
        known: the clicks at the start; None if there is nothing to click on.
        turns: of the dialogue.
        next_click: the clicks of each following turn.
        prompt: as it was given, if it was.
    """

    class_id: int
    class_name: str
    source: str
    known: Clicks | None
    turns: int
    next_click: NextClick
    prompt: Prompt | None = None

    @property
    def dense(self) -> DensePrompt | None:
        """An earlier mask to begin with."""
        return self.prompt.dense if self.prompt is not None else None

    @property
    def shown_mm(self) -> NDArray[np.float64]:
        """What the first crop shall show, (n, 3): the clicks, and the corners of a box."""
        assert self.known is not None, "an object without clicks has no crop"
        return self.known[0] if self.prompt is None else np.concatenate([self.known[0], self.prompt.box_mm])


def given_object(prompt: Prompt) -> CaseObject:
    """An object that people or tools clicked at; the clicks are said one by one."""
    known = _positives_first(prompt)

    def following(_answer: Callable[[], ProbabilityMap], clicks: Clicks) -> Clicks:
        turn = len(clicks[1]) + 1
        return known[0][:turn], known[1][:turn]

    return CaseObject(prompt.class_id, prompt.class_name, prompt.source, known, len(known[1]), following, prompt)


def simulated_object(robot: Robot, case: str, class_name: str, n_clicks: int) -> CaseObject:
    """An object that a robot clicks at."""
    return CaseObject(robot.class_id, class_name, "labels", robot.first(case), n_clicks, robot.next)


def _positives_first(prompt: Prompt) -> Clicks:
    """The dialogue opens with a click inside the object, whatever order the file has."""
    order = np.argsort(-prompt.labels, kind="stable")
    return prompt.clicks_mm[order], prompt.labels[order]
