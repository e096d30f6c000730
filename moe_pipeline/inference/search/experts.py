"""Who looks for what in a scan that nobody has prompted."""

from dataclasses import dataclass

from moe_pipeline.errors import PromptError
from moe_pipeline.inference.options import SearchOptions
from moe_pipeline.mixture.click_proposer import ExpertClickProposer
from moe_pipeline.mixture.model import Expert, Mixture
from moe_pipeline.prompts.class_ids import ClassTable


@dataclass(frozen=True, slots=True)
class ClassSearch:
    """One expert with the classes it shall look for.

    Attributes:
        output: of the router, from 1.
        expert: itself.
        click_proposer: its click proposer.
        classes: ids and names.
    """

    output: int
    expert: Expert
    click_proposer: ExpertClickProposer
    classes: dict[int, str]


def class_searches(model: Mixture, search: SearchOptions) -> list[ClassSearch]:
    """Experts that can search, with the classes to look for.

    Raises:
        PromptError: if no expert can search, or an expert or class is named that there is none of.
    """
    able = [(k, e, e.click_proposer) for k, e in enumerate(model.experts, start=1) if e.click_proposer is not None]
    if not able:
        raise PromptError(
            "no expert of this model can propose prompts. Give --prompts FILE, or train a click proposer: "
            "`moe finetune` without --no-click-proposer, then `moe train-gate`"
        )
    unknown = [name for name in search.experts if not any(_is_called(e.name, name) for _, e, _ in able)]
    if unknown:
        names = ", ".join(e.name for _, e, _ in able)
        raise PromptError(
            f"--experts {', '.join(unknown)}: no such expert that can propose prompts; there are: {names}"
        )
    found = []
    for output, expert, click_proposer in able:
        if search.experts and not any(_is_called(expert.name, name) for name in search.experts):
            continue
        classes = {
            c: name
            for c, name in click_proposer.classes.items()
            if not search.classes or str(c) in search.classes or name in search.classes
        }
        found.append(ClassSearch(output, expert, click_proposer, classes))
    known = {text for wanted in found for c, name in wanted.click_proposer.classes.items() for text in (str(c), name)}
    if strange := [name for name in search.classes if name not in known]:
        there = "; ".join(
            f"{w.expert.name}: " + ", ".join(f"{c} {name}" for c, name in w.click_proposer.classes.items())
            for w in found
        )
        raise PromptError(f"--classes {', '.join(strange)}: no expert knows that; there are: {there}")
    return [wanted for wanted in found if wanted.classes]


def class_tables(model: Mixture) -> list[ClassTable]:
    """The class ids and names that each expert was finetuned on."""
    return [ClassTable(f"the expert {expert.name}", expert.classes) for expert in model.experts]


def _is_called(dataset: str, name: str) -> bool:
    number, _, rest = dataset.removeprefix("Dataset").partition("_")
    return name in (dataset, rest) or (name.isdigit() and number.isdigit() and int(name) == int(number))
