"""Samples on disk are those that were made, and another panel has others."""

from pathlib import Path

import pytest
import torch

from moe_pipeline.model.moe.claim import EVIDENCE
from moe_pipeline.training.claims.claim_samples import ClaimSample
from moe_pipeline.training.claims.kept_samples import KeptSamples

SAMPLE = ClaimSample("set", "case", 0, 2, 1, torch.arange(len(EVIDENCE)) / 3, 0.1, 0.7)
BACKGROUND = ClaimSample("set", "other", 2, 2, 2, torch.full((len(EVIDENCE),), torch.nan), torch.nan, torch.nan)


def fail() -> list[ClaimSample | None]:
    raise AssertionError("made again")


def test_what_is_read_back_is_what_was_made(tmp_path: Path) -> None:
    kept = KeptSamples(tmp_path, "panel")
    made = kept.get(("set", 3, None), lambda: [SAMPLE, None, BACKGROUND])
    first, nobody, background = kept.get(("set", 3, None), fail)
    assert made[1] is nobody is None
    assert first is not None
    assert background is not None
    assert torch.equal(first.evidence, SAMPLE.evidence)
    assert (first.source, first.case, first.owner, first.expert, first.nominee) == ("set", "case", 0, 2, 1)
    assert first.gain == SAMPLE.gain
    assert not background.known
    assert background.evidence.isnan().all()
    assert kept.get(("nothing",), list) == kept.get(("nothing",), fail) == []


def test_other_prompts_and_other_panels_are_asked_anew(tmp_path: Path) -> None:
    kept = KeptSamples(tmp_path, "panel")
    kept.get(("set", 3), lambda: [SAMPLE])
    for of, asked in ((kept, ("set", 4)), (KeptSamples(tmp_path, "other"), ("set", 3))):
        with pytest.raises(AssertionError, match="made again"):
            of.get(asked, fail)


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    kept = KeptSamples(tmp_path, "panel")
    kept.get(("set",), lambda: [SAMPLE])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    assert len(kept.get(("set",), lambda: [SAMPLE, SAMPLE])) == 2
