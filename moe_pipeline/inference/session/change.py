"""What a step did to the label map."""

from dataclasses import dataclass

from moe_pipeline.imaging.geometry import Box
from moe_pipeline.inference.session.labels import ObjectParts, around, labels_in, where
from moe_pipeline.inference.session.state import SessionState
from moe_pipeline.records.prompts import WhoAnswered


@dataclass(frozen=True, slots=True)
class SessionChange:
    """What a step did.

    Attributes:
        object: number of the active object after it; 0 if there is none.
        box: half-open, in voxels of the image's own grid: all that changed in the label map; None if nothing did.
        answer: of the active object; None where nobody was asked.
        seconds: that it took.
    """

    object: int
    box: Box | None
    answer: WhoAnswered | None
    seconds: float


def changed_box(before: SessionState, earlier: ObjectParts, after: SessionState, parts: ObjectParts) -> Box | None:
    """The box of the canonical grid around all voxels whose class id differs between two states; None if none does.

    Args:
        before: one state.
        earlier: masks of its objects.
        after: the other.
        parts: masks of its objects.
    """
    old = [one for number, one in before.objects.items() if after.objects.get(number) is not one]
    new = [one for number, one in after.objects.items() if before.objects.get(number) is not one]
    box = around([earlier.of(one).box for one in old] + [parts.of(one).box for one in new])
    if box is None:
        return None
    was, now = labels_in(before.objects.values(), earlier, box), labels_in(after.objects.values(), parts, box)
    return where(was != now, box)
