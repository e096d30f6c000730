"""Prompts on synthetic scans that experts rehearse."""

from collections.abc import Callable
from pathlib import Path

import torch

from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import silent
from moe_pipeline.records.foundation import View
from moe_pipeline.training.engine.loop import LoopSettings
from moe_pipeline.training.engine.processes import Processes
from moe_pipeline.training.expert.finetune import FinetuneOptions
from moe_pipeline.training.expert.rehearsal import RehearsedPrompts, rehearsed_prompts
from moe_pipeline.training.expert.session import open_session
from moe_pipeline.training.expert.task import ExpertSettings, ExpertTask
from moe_pipeline.training.interactive.synthetic_scans import REHEARSAL, synthetic_scan
from moe_pipeline.workspace import Workspace

CPU = torch.device("cpu")
SCANNED_IN = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")
VIEW = View(spacing_mm=3.0, size_voxels=32, normalisation="zscore_clipped")
NAME = "Dataset001_One"


def made(foundation: Foundation, folder: Path, count: int = 20) -> RehearsedPrompts:
    return rehearsed_prompts(count, VIEW, SCANNED_IN, foundation, "small", folder)


def test_a_prompt_is_what_an_expert_sees_of_a_scan(small_foundation: Foundation, tmp_path: Path) -> None:
    prompts = made(small_foundation, tmp_path)
    assert len(prompts) == 32  # whole files of 16
    embedding, target = prompts.load(17)
    case, click = synthetic_scan(REHEARSAL, 17, SCANNED_IN, small_foundation, CPU)
    window = case.window(VIEW, click)
    assert torch.equal(embedding, window.embedding[0].half())
    expected, voxels = case.target(VIEW, click)
    assert torch.equal(target, expected)
    assert 0 < int(target.sum()) <= voxels
    x, y, z = window.click.round().long().tolist()
    assert target[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2].any()


def test_what_is_there_is_not_made_again_and_what_is_damaged_is(small_foundation: Foundation, tmp_path: Path) -> None:
    first = made(small_foundation, tmp_path)
    stamps = [file.stat().st_mtime_ns for file in first.files]
    first.files[1].write_bytes(b"damaged")
    again = made(small_foundation, tmp_path)
    assert again.files[0].stat().st_mtime_ns == stamps[0]
    assert torch.equal(again.load(31)[0], first.load(31)[0])
    other = rehearsed_prompts(1, SCANNED_IN, SCANNED_IN, small_foundation, "small", tmp_path)
    assert other.key != again.key
    assert not set(other.files) & set(again.files)


def task(
    place: Workspace, rehearsed: RehearsedPrompts | None, share: float, processes: Processes | None = None
) -> ExpertTask:
    with open_session(place, place.raw(NAME), FinetuneOptions(), silent, [], encoded=True) as session:
        pass
    fold, planned = session.planned.fold, session.planned
    settings = ExpertSettings(batch_size=2, max_clicks=2, sequences=2, rehearsed=share)
    cases = list(fold.train), list(fold.validation)
    return ExpertTask(planned.foundation, session.cache, *cases, settings, CPU, processes, rehearsed=rehearsed)


def test_rehearsed_prompts_come_on_top_and_two_processes_share_all(
    place: Workspace, small_foundation: Foundation, tmp_path: Path
) -> None:
    prompts = made(small_foundation, tmp_path, 16)
    known = {prompts.load(number)[0].float().sum().item() for number in range(len(prompts))}
    learner, alone = task(place, prompts, 0.8), task(place, None, 0.8)
    batch, own = learner._read(5), alone._read(5)
    assert (learner.batch_size, learner.prompts, alone.prompts) == (2, 4, 2)
    assert batch.imitated is not None
    assert batch.imitated.tolist() == [False, False, True, True]
    assert torch.equal(batch.embedding[:2], own.embedding), "the same of its own as without rehearsal"
    assert {float(row.sum()) for row in batch.embedding[2:]} <= known
    parts = [task(place, prompts, 0.8, Processes(CPU, rank, 4))._read(5) for rank in range(4)]
    assert torch.equal(torch.cat([part.embedding for part in parts]), batch.embedding)
    learner.close()
    alone.close()


def test_a_training_with_rehearsal_resumes_bit_equal(
    place: Workspace,
    small_foundation: Foundation,
    tmp_path: Path,
    whole_and_in_parts: Callable[..., tuple[dict[str, torch.Tensor], ...]],
) -> None:
    prompts = made(small_foundation, tmp_path, 16)
    settings = LoopSettings(steps=6, learning_rate=1e-3, warmup_steps=1, validate_every=3)
    expected, resumed = whole_and_in_parts(lambda: task(place, prompts, 0.5), settings, 4)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.items())
