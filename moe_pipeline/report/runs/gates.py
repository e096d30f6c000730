"""The page of a model: who answers whom, how sure the gate is, and what that rests on."""

from pathlib import Path

from moe_pipeline.paths import GateFolder
from moe_pipeline.records.moe import Claims, GateCard
from moe_pipeline.report.drawings.gates import draw_reliability, draw_sweep
from moe_pipeline.report.page.blocks import (
    UNKNOWN,
    Beside,
    Block,
    Cell,
    Column,
    Drawing,
    Figures,
    Folded,
    Page,
    PageSection,
    Prose,
    Table,
)
from moe_pipeline.report.page.names import Names
from moe_pipeline.report.runs.facts import facts_of, record_in

_FEW = 100
_OFTEN_ENOUGH = 0.5


def gate_page(folder: Path, *, anonymous: bool = False) -> Page:
    """The page of a model folder, or of the gate of an added expert."""
    card, names = GateCard.load(GateFolder(folder).card), Names(anonymous)
    experts = card.outputs[1:]
    sections = [PageSection("Who answers", tuple(_routing(card)))]
    if card.claims is not None:
        sections.insert(0, _guarantee(card.claims))
    sections.append(PageSection("How sure the gate is", tuple(_certainty(card)), _certainty_lead(card)))
    plural = "expert" if len(experts) == 1 else "experts"
    return Page(
        title=f"Model of {len(experts)} {plural} and their foundation",
        kind="gate",
        lead=_lead(card),
        sections=tuple(sections),
        facts=facts_of(record_in(folder), names),
    )


def _lead(card: GateCard) -> str:
    if card.claims is None:
        return f"An expert answers where its weight is above {card.tau:g}: {', '.join(card.outputs[1:])}."
    of = card.claims.guarantee
    held = "" if of.held else f" The {of.risk:g} asked for cannot be shown with so few prompts."
    return (
        f"On prompts that no expert is meant for, the mixture loses at most {of.bound:.4f} Dice on average, with "
        f"{of.confidence:.0%} confidence.{held}"
    )


def _guarantee(claims: Claims) -> PageSection:
    of = claims.guarantee
    figures = Figures(
        (
            (
                f"{of.bound:.4f}",
                "Dice lost at most, on average",
                f"{of.confidence:.0%} confidence; asked for {of.risk:g}",
            ),
            (f"{of.mean_loss:.4f}", "measured loss", f"{of.prompts} prompts, {of.synthetic} on synthetic scans"),
            *(
                []
                if of.first_loss is None
                else [
                    (f"{of.first_loss:.4f} | {of.corrected_loss:.4f}", "with one click | with five", "the same prompts")
                ]
            ),
            (f"{of.answered:.1%}", "of them answered by an expert", f"for {of.named:.0%} the gate names one"),
        )
    )
    columns = (
        Column("Expert"),
        Column("Answers of its own", True, "share of its own validation prompts that it answers"),
        Column("Prompts", True, "of its own"),
        Column("Wins", True, "mean Dice that the mixture wins over the foundation on these, with one click and five"),
        Column("Could win", True, "if it answered all of them"),
        Column("On background", True, "share of the clicks beside every object that it answers"),
        Column("Threshold", True),
    )
    rows = tuple(
        (
            Cell(name),
            _share(one.answered, tone="warn" if one.answered < _OFTEN_ENOUGH else ""),
            Cell.whole(one.prompts),
            Cell(f"{one.wins:+.3f}", one.wins),
            Cell(f"{one.could_win:+.3f}", one.could_win),
            _share(one.background),
            Cell.number(one.threshold, 2),
        )
        for name, one in claims.experts.items()
    )
    blocks: list[Block] = [figures, Table(columns, rows)]
    if silent := [name for name, one in claims.experts.items() if one.answered < _OFTEN_ENOUGH]:
        blocks.append(Prose(f"{', '.join(silent)}: stays silent on most of its own prompts.", "warn"))
    blocks.append(Folded("What the guarantee rests on", (Prose(of.rests_on),)))
    return PageSection(
        "What it promises", tuple(blocks), "What may be lost where no expert is meant, and what is won where one is."
    )


def _routing(card: GateCard) -> list[Block]:
    first = (
        Column("Prompts of"),
        *(Column(name, True) for name in card.outputs),
        Column("Image known", True),
        Column("Any expert", True),
    )
    rows = tuple(
        (
            Cell(name),
            *(_heat(shares.get(output, 0.0)) for output in card.outputs),
            _share(card.known.get(name)),
            _share(card.coverage.get(name)),
        )
        for name, shares in card.confusion.items()
    )
    note = "Each row is all validation prompts of a set; its cells say who answers them. The colour is the share."
    return [Table(first, rows), Prose(note)]


def _certainty(card: GateCard) -> list[Block]:
    drawings: list[Block] = []
    if card.reliability:
        note = "On the line the gate is as sure as it should be. A ring is a bin of fewer than 20 prompts."
        drawings.append(Drawing(draw_reliability(card.reliability), "Reliability, with the prompts in each bin", note))
    if card.sweep:
        note = "By the gate's weight alone; the experts' own thresholds come on top." if card.claims else ""
        drawings.append(Drawing(draw_sweep(card.sweep, card.tau), "Other thresholds", note))
    samples = Table(
        (Column("Learnt from"), Column("Prompts", True)),
        tuple((Cell(name), Cell.whole(n)) for name, n in card.samples.items()),
    )
    return [Beside(tuple(drawings)), Folded("Prompts it learnt from", (samples,))]


def _certainty_lead(card: GateCard) -> str:
    n = sum(one.n for one in card.reliability)
    told = f"Calibration error {card.calibration_error:.3f} over {n} validation prompts"
    single = len(card.reliability) == 1
    return (
        f"{told}, all of them in one bin: they say nothing about the others."
        if single
        else f"{told}." + (" That is few: single prompts move it." if n < _FEW else "")
    )


def _heat(value: float) -> Cell:
    return Cell(f"{value:.0%}" if value in (0, 1) else f"{value:.1%}", value, shade=max(0, min(10, round(10 * value))))


def _share(value: float | None, tone: str = "") -> Cell:
    if value is None:
        return Cell(UNKNOWN, -1.0)
    return Cell(f"{value:.0%}", value, tone="warn" if tone else "")
