"""A robot user for evaluation: it clicks where the answer differs from a reference."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.dialogue import Clicks, ProbabilityMap


@dataclass(frozen=True, slots=True)
class Robot:
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


def seed_of(case: str, class_id: int, seed: int) -> int:
    """A seed of its own for each case and class."""
    return int.from_bytes(hashlib.sha256(f"{case}/{class_id}/{seed}".encode()).digest()[:8], "big")
