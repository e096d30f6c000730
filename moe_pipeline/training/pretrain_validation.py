"""How well a foundation answers clicks on volumes that it is not trained on: drawn ones, and held-out label maps."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from moe_pipeline.imaging.overlap import dice
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.geometry import Sides
from moe_pipeline.synthetic import SyntheticBatch, make_batch
from moe_pipeline.synthetic.painter import held_out_volumes
from moe_pipeline.synthetic.views import cube_edge, stretched
from moe_pipeline.training.interactive.simulated_clicks import click_sequence, full_size

_SEED = 1_000_000_007  # far from every training step's seed
_TARGETS = 2  # of each volume


@dataclass(slots=True)
class ValidationVolumes:
    """Fixed sets of volumes, painted when they are first looked at."""

    volumes: int
    """In each set."""
    clicks: int
    """Per object."""
    size: Sides
    """Voxels of a crop along each axis."""
    device: torch.device
    """Where to compute."""
    label_maps: Path | None
    """Folder of a second set's label maps."""
    _sets: dict[str, list[SyntheticBatch]] = field(default_factory=dict)

    def score(self, foundation: Foundation) -> dict[str, float]:
        """Mean Dice after each click, over the sets; "score" is the mean of first and last.

        With label maps also first and last of each set, drawn and anatomy. "iou_r" is the correlation of the IoU head's
        estimate with the true Dice over all prompts and clicks.
        """
        self._sets = self._sets or self._paint()
        foundation.eval()
        pairs: list[tuple[float, float]] = []
        means = {name: self._means(foundation, batches, pairs) for name, batches in self._sets.items()}
        foundation.train()
        over_sets = [sum(values) / len(means) for values in zip(*means.values(), strict=True)]
        columns = {f"dice_{click}": value for click, value in enumerate(over_sets, start=1)}
        if len(means) > 1:
            last = self.clicks
            columns |= {f"{name}_{click}": mean[click - 1] for name, mean in means.items() for click in (1, last)}
        return {"score": (over_sets[0] + over_sets[-1]) / 2, **columns, "iou_r": _correlation(pairs)}

    def _paint(self) -> dict[str, list[SyntheticBatch]]:
        edge = cube_edge(self.size)
        drawn = [
            make_batch(_SEED + index, 1, edge, device=self.device, targets_per_image=_TARGETS)
            for index in range(self.volumes)
        ]
        sets = {"drawn": drawn}
        if self.label_maps is not None:
            held_out = held_out_volumes(self.label_maps, _SEED, self.volumes, edge, self.device, targets=_TARGETS)
            sets |= {"anatomy": held_out} if held_out else {}
        return {name: [stretched(batch, self.size) for batch in batches] for name, batches in sets.items()}

    def _means(
        self, foundation: Foundation, batches: list[SyntheticBatch], pairs: list[tuple[float, float]]
    ) -> list[float]:
        """Mean Dice after each click; estimate and truth of each answer go to `pairs`."""
        scores: list[list[float]] = [[] for _ in range(self.clicks)]
        for index, batch in enumerate(batches):
            embedding = foundation.encode(batch.image)
            target = batch.target.flatten(0, 1)[:, None]  # (k, 1, *crop)
            generator = torch.Generator().manual_seed(index)
            answers = click_sequence(foundation, foundation.decoder, embedding, target, self.clicks, generator)
            for click, answer in enumerate(answers):
                masks = (full_size(answer.logits, target.shape[2:]) > 0).cpu().numpy()
                reached = [dice(m, t) for m, t in zip(masks, target.cpu().numpy(), strict=True)]
                scores[click] += reached
                pairs += zip(answer.iou.flatten().tolist(), reached, strict=True)
        return [sum(values) / len(values) for values in scores]


def _correlation(pairs: list[tuple[float, float]]) -> float:
    """Pearson's r; 0 where one side does not vary, as before the first step."""
    both = torch.tensor(pairs)  # (n, 2)
    if (both.std(0) == 0).any():
        return 0.0
    return float(both.T.corrcoef()[0, 1])
