"""One decoder's side of a conversation about one object: it answers, looks closer or from farther away, and follows."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.crop_grid import CellLattice, Start
from moe_pipeline.inference.windows.decode import Clicks, decode
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.inference.windows.extend import grow
from moe_pipeline.inference.windows.rescale import both_looks, closer_view, farther_views, is_wide, onto_lattice
from moe_pipeline.inference.windows.stitch import Canvas, Windows, blend
from moe_pipeline.mixture.settings import Settings
from moe_pipeline.model.sam.mask_decoder import MaskDecoder
from moe_pipeline.prompts.prompt import DensePrompt
from moe_pipeline.records.foundation import View


@dataclass(frozen=True, slots=True)
class Heard:
    """What a decoder has to say.

    Attributes:
        canvas: its logits.
        seen: its logits in its own view, before it followed the object or looked from elsewhere.
        complete: False if the object was larger than the crops that it may take.
        n_windows: crops asked.
        spacing_mm: of the view in the end.
    """

    canvas: Canvas
    seen: Canvas
    complete: bool
    n_windows: int
    spacing_mm: float


@dataclass(slots=True)
class Speaker:
    """One decoder on one object.

    Attributes:
        bank: crops of the case.
        decoder: general or expert.
        view: what it was trained on.
        home: the first crop.
        settings: how far it may go.
        mirror_axes: along which it is shown mirror images, where the crops have them.
        may_zoom: whether it may look at other spacings.
        dense: an earlier mask to begin with.
    """

    bank: CropBank
    decoder: MaskDecoder
    view: View
    home: Start
    settings: Settings
    mirror_axes: tuple[int, ...]
    may_zoom: bool
    dense: DensePrompt | None = None
    windows: Windows = field(default_factory=dict)
    clicks: Clicks = (np.empty((0, 3)), np.empty(0, np.int64))

    @property
    def lattice(self) -> CellLattice:
        """Of its own view."""
        return self.bank.lattice(self.view)

    def answer(self, clicks: Clicks) -> None:
        """One turn of the dialogue: every crop with a click in it answers, with its own previous logits."""
        self.clicks = clicks
        self._open_windows(clicks)
        for start, previous in self.windows.items():
            if self.lattice.holds(start, clicks[0]).any():
                self.windows[start] = self._ask(self.view, start, clicks, previous)

    def hear(self) -> Heard:
        """The answer so far: seen in the best view, and followed beyond the crop. Changes nothing."""
        if self.may_zoom and self.settings.zoom in ("auto", "in"):
            closer = closer_view(blend(self.lattice, self.windows), self._seeds(self.lattice))
            if closer is not None:
                view, middle_mm = closer
                start = self.bank.lattice(view).around(middle_mm)
                return self._followed(view, {start: self._from_nearer(view, start)})
        if self.may_zoom and self.settings.zoom in ("auto", "out"):
            farther = self._from_farther_away()
            if farther is not None:
                return self._followed(self.view, self.windows, onto_lattice(farther, self.lattice))
        return self._followed(self.view, self.windows)

    def _from_nearer(self, view: View, start: Start) -> NDArray[np.float32]:
        closer = self._replayed(view, start)
        return both_looks(closer, self.bank.lattice(view), start, blend(self.lattice, self.windows))

    def _from_farther_away(self) -> Canvas | None:
        """A coarse answer, if the object is wider than the crop: in the finest view that is wide enough."""
        seen = blend(self.lattice, self.windows)
        if not is_wide(seen, self._seeds(self.lattice)):
            return None
        coarse = None
        for view in farther_views(self.view):
            lattice = self.bank.lattice(view)
            start = lattice.around(self.lattice.cube(self.home).voxel_to_world(np.full(3, self.view.size_voxels / 2)))
            coarse = blend(lattice, {start: self._replayed(view, start)})
            if not is_wide(coarse, self._seeds(lattice)):
                break
        return coarse

    def _followed(self, view: View, windows: Windows, prior: Canvas | None = None) -> Heard:
        lattice = self.bank.lattice(view)

        def ask(start: Start, known: NDArray[np.float32], inside: NDArray[np.int64]) -> NDArray[np.float32]:
            place = lattice.geometry.voxel_to_world(inside + np.asarray(start))[None]  # (1, 3)
            clicks = np.concatenate([place, self.clicks[0]]), np.concatenate([[1], self.clicks[1]])
            return self._ask(view, start, clicks, known)

        growth = grow(lattice, windows, self._seeds(lattice), ask, self.settings.max_windows, prior)
        seen = blend(self.lattice, self.windows)
        return Heard(growth.canvas, seen, growth.complete, growth.n_windows, view.spacing_mm)

    def _replayed(self, view: View, start: Start) -> NDArray[np.float32]:
        """The dialogue so far, in another view."""
        logits = self._beforehand(view, start)
        for turn in range(1, len(self.clicks[1]) + 1):
            logits = self._ask(view, start, (self.clicks[0][:turn], self.clicks[1][:turn]), logits)
        return logits

    def _ask(self, view: View, start: Start, clicks: Clicks, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        return decode(self.bank.foundation, self.decoder, self.bank.crop(view, start), clicks, mask, self.mirror_axes)

    def _open_windows(self, clicks: Clicks) -> None:
        """Home, and a crop half a crop's steps away for every click inside the object that no crop shows."""
        lattice = self.lattice
        if self.home not in self.windows:
            self.windows[self.home] = self._beforehand(self.view, self.home)
        for click in clicks[0][clicks[1] == 1]:
            if any(lattice.holds(start, click[None])[0] for start in self.windows):
                continue
            wanted = np.asarray(lattice.around(click)) - np.asarray(self.home)
            steps = np.rint(wanted / lattice.half).astype(int)
            start = lattice.clamped(np.asarray(self.home) + steps * lattice.half)
            self.windows[start] = self._beforehand(self.view, start)

    def _beforehand(self, view: View, start: Start) -> NDArray[np.float32]:
        """What is known before the first answer: nothing, or a mask."""
        lattice = self.bank.lattice(view)
        return np.zeros((lattice.window,) * 3, np.float32) if self.dense is None else self.dense.logits(lattice, start)

    def _seeds(self, lattice: CellLattice) -> NDArray[np.int64]:
        inside = self.clicks[0][self.clicks[1] == 1]
        return np.rint(lattice.geometry.world_to_voxel(inside)).astype(int)  # (n, 3)
