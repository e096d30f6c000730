"""One decoder's side of a interaction about one object: it answers, looks closer or from farther away, and follows."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.windows.decode import Clicks, decode
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.inference.windows.extend import extend_windows
from moe_pipeline.inference.windows.rescale import closer_view, farther_views, is_wide, mean_of_views, onto_crop_grid
from moe_pipeline.inference.windows.stitch import StitchedLogits, Windows, stitch
from moe_pipeline.model.foundation import Decoder
from moe_pipeline.prompts.prompt import BoxPrompt, DensePrompt
from moe_pipeline.records.foundation import Spacing, View


@dataclass(frozen=True, slots=True)
class DecoderOutput:
    """What a decoder has to say.

    Attributes:
        stitched logits: its logits.
        seen: its logits in its own view, before it followed the object or looked from elsewhere.
        complete: False if the object was larger than the crops that it may take.
        n_windows: crops asked.
        spacing_mm: edges of a voxel of the view in the end.
    """

    stitched: StitchedLogits
    seen: StitchedLogits
    complete: bool
    n_windows: int
    spacing_mm: Spacing


@dataclass(frozen=True, slots=True)
class DecoderTurns:
    """How far a decoder has come with an object, so that it can go on from there.

    Attributes:
        clicks: answered so far.
        windows: its answers.
        box: that it was given as well.
    """

    clicks: Clicks
    windows: Windows
    box: BoxPrompt | None = None

    def lead_to(self, clicks: Clicks, box: BoxPrompt | None = None) -> bool:
        """Whether these clicks begin with those, and the box is the same."""
        if (box is None) != (self.box is None) or (box and self.box and not box.is_like(self.box)):
            return False
        n = len(self.clicks[1])
        return np.array_equal(self.clicks[0], clicks[0][:n]) and np.array_equal(self.clicks[1], clicks[1][:n])


@dataclass(slots=True)
class DecoderSession:
    """One decoder on one object.

    Attributes:
        bank: crops of the case.
        decoder: general or expert.
        view: what it was trained on.
        initial_window: the first crop.
        options: how far it may go.
        mirror_axes: along which it is shown mirror images, where the crops have them.
        may_zoom: whether it may look at other spacings.
        dense: an earlier mask to begin with.
        box: around the object, if the foundation takes boxes.
        text: what is wanted, if the foundation takes text, (1, C).
    """

    bank: CropBank
    decoder: Decoder
    view: View
    initial_window: WindowIndex
    options: SegmentOptions
    mirror_axes: tuple[int, ...]
    may_zoom: bool
    dense: DensePrompt | None = None
    box: BoxPrompt | None = None
    text: NDArray[np.float32] | None = None
    windows: Windows = field(default_factory=dict)
    clicks: Clicks = (np.empty((0, 3)), np.empty(0, np.int64))

    @property
    def crop_grid(self) -> CropGrid:
        """Of its own view."""
        return self.bank.crop_grid(self.view)

    @property
    def turns(self) -> DecoderTurns:
        """How far it has come."""
        return DecoderTurns(self.clicks, dict(self.windows), self.box)

    def go_on(self, turns: DecoderTurns) -> None:
        """Take up what another one of the same decoder, first crop and options has answered."""
        self.clicks, self.windows = turns.clicks, dict(turns.windows)

    def answer(self, clicks: Clicks) -> None:
        """One turn of the click sequence: every crop with a click in it answers, with its own previous logits."""
        self.clicks = clicks
        self._open_windows(clicks)
        for start, previous in self.windows.items():
            if self.crop_grid.holds(start, clicks[0]).any():
                self.windows[start] = self._ask(self.view, start, clicks, previous)

    def output(self) -> DecoderOutput:
        """The answer so far: seen in the best view, and followed beyond the crop. Changes nothing."""
        if self.may_zoom and self.options.zoom in ("auto", "in"):
            closer = closer_view(stitch(self.crop_grid, self.windows), self._seeds(self.crop_grid))
            if closer is not None:
                view, middle_mm = closer
                start = self.bank.crop_grid(view).around(middle_mm)
                return self._followed(view, {start: self._from_nearer(view, start)})
        if self.may_zoom and self.options.zoom in ("auto", "out"):
            farther = self._from_farther_away()
            if farther is not None:
                return self._followed(self.view, self.windows, onto_crop_grid(farther, self.crop_grid))
        return self._followed(self.view, self.windows)

    def _from_nearer(self, view: View, start: WindowIndex) -> NDArray[np.float32]:
        closer = self._replayed(view, start)
        return mean_of_views(closer, self.bank.crop_grid(view), start, stitch(self.crop_grid, self.windows))

    def _from_farther_away(self) -> StitchedLogits | None:
        """A coarse answer, if the object is wider than the crop: in the finest view that is wide enough."""
        seen = stitch(self.crop_grid, self.windows)
        if not is_wide(seen, self._seeds(self.crop_grid)):
            return None
        coarse = None
        for view in farther_views(self.crop_grid):
            crop_grid = self.bank.crop_grid(view)
            start = crop_grid.around(
                self.crop_grid.cube(self.initial_window).voxel_to_world(np.asarray(self.view.size_voxels) / 2)
            )
            coarse = stitch(crop_grid, {start: self._replayed(view, start)})
            if not is_wide(coarse, self._seeds(crop_grid)):
                break
        return coarse

    def _followed(self, view: View, windows: Windows, prior: StitchedLogits | None = None) -> DecoderOutput:
        crop_grid = self.bank.crop_grid(view)

        def ask(start: WindowIndex, known: NDArray[np.float32], inside: NDArray[np.int64]) -> NDArray[np.float32]:
            place = crop_grid.geometry.voxel_to_world(inside + np.asarray(start))[None]  # (1, 3)
            clicks = np.concatenate([place, self.clicks[0]]), np.concatenate([[1], self.clicks[1]])
            return self._ask(view, start, clicks, known)

        extension = extend_windows(crop_grid, windows, self._seeds(crop_grid), ask, self.options.max_crops, prior)
        seen = stitch(self.crop_grid, self.windows)
        return DecoderOutput(
            extension.stitched, seen, extension.complete, extension.n_windows, crop_grid.voxels.spacing_mm
        )

    def _replayed(self, view: View, start: WindowIndex) -> NDArray[np.float32]:
        """The click sequence so far, in another view."""
        logits = self._beforehand(view, start)
        for turn in range(1, len(self.clicks[1]) + 1):
            logits = self._ask(view, start, (self.clicks[0][:turn], self.clicks[1][:turn]), logits)
        return logits

    def _ask(self, view: View, start: WindowIndex, clicks: Clicks, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        crop = self.bank.crop(view, start)
        return decode(self.bank.foundation, self.decoder, crop, clicks, mask, self.mirror_axes, self.box, self.text)

    def _open_windows(self, clicks: Clicks) -> None:
        """Home, and a crop half a crop's steps away for every click inside the object that no crop shows."""
        crop_grid = self.crop_grid
        if self.initial_window not in self.windows:
            self.windows[self.initial_window] = self._beforehand(self.view, self.initial_window)
        for click in clicks[0][clicks[1] == 1]:
            if any(crop_grid.holds(start, click[None])[0] for start in self.windows):
                continue
            wanted = np.asarray(crop_grid.around(click)) - np.asarray(self.initial_window)
            steps = np.rint(wanted / crop_grid.half).astype(int)
            start = crop_grid.clamped(np.asarray(self.initial_window) + steps * crop_grid.half)
            self.windows[start] = self._beforehand(self.view, start)

    def _beforehand(self, view: View, start: WindowIndex) -> NDArray[np.float32]:
        """What is known before the first answer: nothing, or a mask."""
        crop_grid = self.bank.crop_grid(view)
        return np.zeros(crop_grid.window, np.float32) if self.dense is None else self.dense.logits(crop_grid, start)

    def _seeds(self, crop_grid: CropGrid) -> NDArray[np.int64]:
        inside = self.clicks[0][self.clicks[1] == 1]
        return np.rint(crop_grid.geometry.world_to_voxel(inside)).astype(int)  # (n, 3)
