"""What is to be segmented in a case: one object after the other, each with its clicks and who gives them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.windows.decode import Clicks
from moe_pipeline.inference.windows.to_image import ProbabilityMap
from moe_pipeline.prompts.prompt import BoxPrompt, DensePrompt, Prompt, seed_of

NextClick = Callable[[Callable[[], ProbabilityMap], Clicks], Clicks]
"""Given the present answer and the clicks so far, the clicks for the next turn: one more than before. The answer is
brought to the image's grid only if it is called for."""


@dataclass(frozen=True, slots=True)
class SimulatedUser:
    """Clicks at random voxels of the error region, as upstream trains and evaluates.

    Attributes:
        reference: label map in canonical orientation.
        class_id: the class to be segmented.
        seed: same seed, case and class: same first click; later ones depend on the answers.
    """

    reference: Volume
    class_id: int
    seed: int

    def first(self, case: str) -> Clicks | None:
        """One click at a random voxel of the class; None if the reference does not have it."""
        voxels = np.flatnonzero(self.reference.array == self.class_id)
        if not voxels.size:
            return None
        random = np.random.default_rng(seed_of(case, self.class_id, self.seed))
        voxel = np.unravel_index(int(random.choice(voxels)), self.reference.array.shape)
        return self._click(np.array(voxel)), np.array([1])

    def next(self, present: Callable[[], ProbabilityMap], clicks: Clicks) -> Clicks:
        """The clicks so far and one more at a wrong voxel of the answer's box; unchanged if nothing is wrong there."""
        answer = present()
        place = tuple(slice(*side) for side in answer.box)
        wanted = self.reference.array[place] == self.class_id
        wrong = np.flatnonzero((answer.values > 0.5) != wanted)
        if not wrong.size:
            return clicks
        random = np.random.default_rng(seed_of(str(len(clicks[1])), self.class_id, self.seed))
        chosen = int(wrong[int(random.random() * wrong.size)])
        voxel = np.array(np.unravel_index(chosen, wanted.shape))
        label = int(wanted.flat[chosen])
        corner = np.array([side[0] for side in answer.box])
        return np.concatenate((clicks[0], self._click(voxel + corner))), np.append(clicks[1], label)

    def _click(self, voxel: NDArray[np.integer]) -> NDArray[np.float64]:
        return self.reference.geometry.voxel_to_world(voxel[None].astype(float))  # (1, 3)


@dataclass(frozen=True, slots=True)
class CaseObject:
    """One object to be segmented.

    Attributes:
        class_id: value in the label map.
        class_name: for the tables.
        source: where the clicks come from.
        known: the clicks at the start; None if there is nothing to click on.
        turns: of the click sequence.
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
    def box(self) -> BoxPrompt | None:
        """A box around the object."""
        return self.prompt.box if self.prompt is not None else None

    @property
    def text(self) -> NDArray[np.float32] | None:
        """What is wanted in words, as the foundation's text encoder gives it, (1, C)."""
        return self.prompt.text if self.prompt is not None else None

    @property
    def own_crop(self) -> bool:
        """Whether its first crop is chosen for it alone."""
        return self.prompt is not None and self.prompt.own_crop

    @property
    def shown_mm(self) -> NDArray[np.float64]:
        """What the first crop shall show, (n, 3): the clicks, and the corners of a box."""
        assert self.known is not None, "an object without clicks has no crop"
        return self.known[0] if self.prompt is None else np.concatenate([self.known[0], self.prompt.box_mm])


def given_object(prompt: Prompt) -> CaseObject:
    """An object that people or tools clicked at; the clicks are said one by one."""
    known = _opened_inside(prompt)

    def following(_answer: Callable[[], ProbabilityMap], clicks: Clicks) -> Clicks:
        turn = len(clicks[1]) + 1
        return known[0][:turn], known[1][:turn]

    return CaseObject(prompt.class_id, prompt.class_name, prompt.source, known, len(known[1]), following, prompt)


def simulated_object(user: SimulatedUser, case: str, class_name: str, clicks: int) -> CaseObject:
    """An object that a simulated user clicks at."""
    return CaseObject(user.class_id, class_name, "labels", user.first(case), clicks, user.next)


def _opened_inside(prompt: Prompt) -> Clicks:
    """The click sequence opens with the first click inside the object; the others keep their order."""
    first = int(prompt.labels.argmax())
    order = np.array([first, *np.delete(np.arange(len(prompt.labels)), first)])
    return prompt.clicks_mm[order], prompt.labels[order]
