"""What is wanted of one case: given prompts, a simulated user who clicks by a reference, a search, or words."""

from dataclasses import dataclass

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.options import SearchOptions
from moe_pipeline.prompts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """What every request has.

    Attributes:
        case: case id.
        image: in canonical orientation.
    """

    case: str
    image: Volume


@dataclass(frozen=True, slots=True)
class PromptRequest(CaseRequest):
    """Objects that people or tools have clicked at.

    Attributes:
        prompts: one per object.
    """

    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class SimulatedRequest(CaseRequest):
    """Objects that a simulated user clicks at: an evaluation, never a real prediction.

    Attributes:
        reference: label map in canonical orientation.
        classes: class ids and names to be prompted.
        clicks: per class.
        seed: same seed, case and class: same first click.
    """

    reference: Volume
    classes: dict[int, str]
    clicks: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SearchRequest(CaseRequest):
    """Objects that the experts look for by themselves.

    Attributes:
        search: who looks for what.
    """

    search: SearchOptions


@dataclass(frozen=True, slots=True)
class TextRequest(CaseRequest):
    """Objects that are named in words.

    Attributes:
        names: by class id.
    """

    names: dict[int, str]


Request = PromptRequest | SimulatedRequest | SearchRequest | TextRequest
