"""Images with their prompts: of datasets, on objects and beside them, and synthetic scans."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from moe_pipeline.datasets.dataset import RawDataset
from moe_pipeline.files import sha256_file, sha256_json
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.model.foundation import Decoder
from moe_pipeline.model.moe.claim import FirstMask
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.records.foundation import View
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.interactive.case_windows import (
    CaseWindows,
    Click,
    PromptDice,
    background_clicks_in,
    clicks_in,
)
from moe_pipeline.training.interactive.synthetic_scans import SYNTHETIC, synthetic_scan


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image that was read.

    Attributes:
        windows: of it.
        clicks: its prompts.
    """

    windows: CaseWindows
    clicks: list[Click]
    _general: dict[int, tuple[FirstMask, PromptDice]] = field(default_factory=dict)

    def general_answer(self, number: int, decoder: Decoder, view: View) -> tuple[FirstMask, PromptDice]:
        """The general expert's first answer to one prompt, and its Dice; computed once."""
        if number not in self._general:
            self._general[number] = self.windows.answer(decoder, view, self.clicks[number])
        return self._general[number]


@dataclass(frozen=True, slots=True)
class PromptedImage:
    """An image with prompts, not opened yet.

    Attributes:
        source: dataset, or the name of a synthetic set.
        case: of the source.
        owner: the output whose dataset it is of; 0 for a general dataset and for synthetic scans.
        made_of: plain values that tell it and its prompts from all others.
        open: reads it; the same prompts each time.
    """

    source: str
    case: str
    owner: int
    made_of: tuple[object, ...]
    open: Callable[[], OpenedImage]


@dataclass(frozen=True, slots=True)
class DatasetPrompts:
    """Where real prompts are drawn from.

    Attributes:
        raw: the dataset.
        output: it belongs to; 0 for a general one.
        validation: cases that its own expert was not trained on; of a general dataset, to measure the risk on.
        cases: which the other experts may be asked about, and heads learn from.
        classes: to prompt.
        channel: to look at.
    """

    raw: RawDataset
    output: int
    validation: tuple[str, ...]
    cases: tuple[str, ...]
    classes: tuple[int, ...]
    channel: int

    def own(self, panel: Panel, clicks: int, background: int, seed: int) -> Iterator[PromptedImage]:
        """Its validation cases with prompts on their objects, and background clicks.

        Args:
            panel: whose foundation reads them, and whose expert of this dataset keeps background clicks at a distance.
            clicks: over all cases and classes, about.
            background: over all cases, about.
            seed: of the clicks.
        """
        each = max(1, round(clicks / (len(self.validation) * len(self.classes))))
        beside = max(1, round(background / len(self.validation))) if background else 0
        view = panel.experts[self.output - 1].view

        def draw(case: CaseWindows, random: np.random.Generator) -> list[Click]:
            found = clicks_in(case.labels, self.classes, each, random)
            return [*found, *background_clicks_in(case.labels, view, beside, random)]

        for number, case_id in enumerate(self.validation):
            drawn_by = ("own", each, beside, view.model_dump(), seed, number)
            yield self._image(panel, case_id, drawn_by, partial(_seeded, draw, (seed, self._own_seed(), number)))

    def elsewhere(self, panel: Panel, each: int, seed: int) -> Iterator[PromptedImage]:
        """Some of its cases, with one prompt on an object each, for the other experts."""
        return self._one_click(panel, self.cases[:each], seed, self._own_seed())

    def held_out(self, panel: Panel, seed: int) -> Iterator[PromptedImage]:
        """Its validation cases, with one prompt on an object each."""
        return self._one_click(panel, self.validation, seed, GENERAL)

    def _own_seed(self) -> int:
        """The same in whatever place of a gate the dataset is."""
        return int(sha256_json(self.raw.name)[:8], 16)

    def _one_click(self, panel: Panel, cases: Sequence[str], seed: int, drawn: int) -> Iterator[PromptedImage]:
        def draw(case: CaseWindows, random: np.random.Generator) -> list[Click]:
            clicks = clicks_in(case.labels, self.classes, 1, random)
            return [clicks[int(random.integers(len(clicks)))]] if clicks else []

        for number, case_id in enumerate(cases):
            drawn_by = ("one click", seed, drawn, number)
            yield self._image(panel, case_id, drawn_by, partial(_seeded, draw, (seed, drawn, number)))

    def _image(
        self,
        panel: Panel,
        case_id: str,
        drawn_by: tuple[object, ...],
        draw: Callable[[CaseWindows], list[Click]],
    ) -> PromptedImage:
        case = self.raw.case(case_id)
        assert case.label is not None, case_id
        image, label = case.images[self.channel], case.label

        def opened() -> OpenedImage:
            windows = CaseWindows(read_volume(image), read_label_map(label), panel.foundation, panel.device)
            return OpenedImage(windows, draw(windows))

        made_of = (sha256_file(image), sha256_file(label), list(self.classes), drawn_by)
        return PromptedImage(self.raw.name, case_id, self.output, made_of, opened)


def _seeded(
    draw: Callable[[CaseWindows, np.random.Generator], list[Click]], seed: tuple[int, ...], case: CaseWindows
) -> list[Click]:
    return draw(case, np.random.default_rng(seed))


def scan_image(seed: int, number: int, panel: Panel) -> PromptedImage:
    """A synthetic scan with one prompt.

    Args:
        seed: which set.
        number: which of it.
        panel: whose foundation reads it.
    """

    def opened() -> OpenedImage:
        windows, click = synthetic_scan(seed, number, panel.view, panel.foundation, panel.device)
        return OpenedImage(windows, [click])

    return PromptedImage(SYNTHETIC, str(number), GENERAL, (SYNTHETIC, seed, number), opened)
