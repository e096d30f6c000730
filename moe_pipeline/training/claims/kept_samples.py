"""Samples on disk, so that a gate training that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import sha256_json
from moe_pipeline.model.moe.claim import EVIDENCE
from moe_pipeline.training.claims.claim_samples import ClaimSample, Panel
from moe_pipeline.weights.tensors import load_metadata, load_tensors, save_tensors


@dataclass(frozen=True, slots=True)
class KeptSamples:
    """Samples of one panel of experts.

    Attributes:
        folder: where they lie.
        panel_sha256: of all that samples depend on but for the prompts.
    """

    folder: Path
    panel_sha256: str

    @classmethod
    def of(cls, panel: Panel, folder: Path) -> "KeptSamples":
        """For a panel; whatever answers otherwise has other samples."""
        experts = [[e.decoder, *([e.click_proposer.net] if e.click_proposer else [])] for e in panel.experts]
        modules = [panel.foundation, panel.router, *panel.own_detectors, *(part for parts in experts for part in parts)]
        views = [view.model_dump() for view in (panel.view, *(e.view for e in panel.experts))]
        return cls(folder, sha256_json([[_weights_sha256(m) for m in modules], views, panel.tau, EVIDENCE]))

    def get(
        self, asked: Sequence[object], make: Callable[[], Iterable[ClaimSample | None]]
    ) -> list[ClaimSample | None]:
        """What is on disk for these prompts, else what is made now.

        Args:
            asked: which prompts: plain values.
            make: draws and decodes them.
        """
        path = self.folder / f"{sha256_json([self.panel_sha256, list(asked)])[:32]}.safetensors"
        if (found := _read(path)) is None:
            found = list(make())
            _write(path, found)
        return found


def _weights_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _write(path: Path, samples: Sequence[ClaimSample | None]) -> None:
    there = [s for s in samples if s is not None]
    plain = [None if s is None else (s.source, s.case, s.owner, s.expert, s.nominee) for s in samples]
    evidence = torch.stack([s.evidence for s in there]) if there else torch.empty(0, len(EVIDENCE))
    dice = torch.tensor([(s.general_dice, s.expert_dice) for s in there], dtype=torch.float64).reshape(-1, 2)
    save_tensors(path, {"evidence": evidence, "dice": dice}, {"prompts": json.dumps(plain)})


def _read(path: Path) -> list[ClaimSample | None] | None:
    if not path.is_file():
        return None
    try:
        tensors, plain = load_tensors(path), json.loads(load_metadata(path)["prompts"])
    except (CheckpointError, KeyError):
        path.unlink()  # damaged: make it again
        return None
    rows = iter(zip(tensors["evidence"], tensors["dice"], strict=True))
    return [None if one is None else _sample(one, *next(rows)) for one in plain]


def _sample(plain: Sequence[object], evidence: Tensor, dice: Tensor) -> ClaimSample:
    source, case, *outputs = plain
    owner, expert, nominee = (int(str(k)) for k in outputs)
    return ClaimSample(str(source), str(case), owner, expert, nominee, evidence, float(dice[0]), float(dice[1]))
