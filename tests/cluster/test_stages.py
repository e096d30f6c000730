"""The stages whose cases or folds are done elsewhere make what they make here."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import moe_pipeline
from dataset_conversion.convert import convert
from moe_pipeline.cluster import finetuning
from moe_pipeline.cluster.comparing import ScoresOnEngine
from moe_pipeline.cluster.engines import Engine, EngineOptions, Lost
from moe_pipeline.cluster.finetuning import FoldItem, finetune_folds, finetune_folds_on, folds_of
from moe_pipeline.cluster.planning import fingerprints_on
from moe_pipeline.cluster.records import EngineFile, Resources
from moe_pipeline.cluster.units import Unit
from moe_pipeline.cluster.worker import Job
from moe_pipeline.commands.convert import ConvertOnEngine
from moe_pipeline.embeddings.cache import build_cache
from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.evaluation.forgetting.compare import MatrixOptions, forgetting_report
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.progress import silent
from moe_pipeline.training.expert.finetune import FinetuneOptions
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny
from tests.phantoms.workspaces import PLANNED_VIEW

SMALL = {"crops_per_case": 1, "copies_per_case": 2, "steps_per_epoch": 2, "batch_size": 2}


class Losing:
    """Loses every unit."""

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:  # noqa: ARG002
        yield from (Lost(unit, "its node is gone") for unit in units)

    def told(self) -> str:
        return "losing"


class Counting:
    """Another engine, and the names of the units that it was given."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.names: list[str] = []

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        self.names += [unit.name for unit in units]
        return self.engine.run(job, units)

    def told(self) -> str:
        return "counting"


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_plan(tmp_path: Path, here: Engine, make_phantom_dataset: Callable[..., Path]) -> None:
    raw, counting = make_phantom_dataset(tmp_path / "Dataset001_One"), Counting(here)
    (raw / "labelsTr" / "p001.nii.gz").write_text("spoilt")
    for name, run in (("alone", None), ("there", fingerprints_on(counting, Resources(), raw, tmp_path / "there"))):
        given = {} if run is None else {"run": run}
        plan_dataset(raw, tmp_path / name, leave_out_faulty=True, **given)  # type: ignore[arg-type]
    assert counting.names == ["p000", "p001", "p002"]
    alone, there = files(tmp_path / "alone"), files(tmp_path / "there")
    for name in ("splits.json", "fingerprint.json"):
        assert alone[name] == there[name]
    assert not (tmp_path / "there" / "units").exists()
    with pytest.raises(DatasetError, match="p001: its node is gone"):
        plan_dataset(raw, tmp_path / "lost", run=fingerprints_on(Losing(), Resources(), raw, tmp_path / "lost"))


def test_a_conversion(tmp_path: Path, here: Engine, make_phantom_dataset: Callable[..., Path]) -> None:
    source = make_phantom_dataset(tmp_path / "Task04_One")
    (source / "labelsTr" / "p001.nii.gz").write_text("spoilt")
    run = ConvertOnEngine(here, Resources(), source, tmp_path / "units")
    alone = convert(source, tmp_path / "alone" / "Dataset004_One")
    there = convert(source, tmp_path / "there" / "Dataset004_One", run=run)
    assert there.rows == alone.rows
    assert [row.status for row in there.rows] == ["converted", "failed", "converted"]
    for name, content in files(tmp_path / "alone").items():
        if "conversion" not in name and "cases" not in name:
            assert files(tmp_path / "there")[name] == content, name
    assert {path.relative_to(tmp_path / "there") for path in (tmp_path / "there").rglob("*")} == {
        path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*")
    }
    again = convert(source, tmp_path / "there" / "Dataset004_One", run=run)
    assert [row.status for row in again.rows] == ["present", "failed", "present"]


def test_several_folds(
    tmp_path: Path, here: Engine, make_planned_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_planned_workspace(tmp_path / "ws", "Dataset001_One", 4, **SMALL)
    folds, counting = (
        [("Dataset001_One", fold) for fold in folds_of(place, "Dataset001_One", "all")[:2]],
        Counting(here),
    )
    options = FinetuneOptions(epochs=1, click_proposer=None)

    def train() -> list[str]:
        del counting.names[:]
        found = finetune_folds(place, folds, options, counting, EngineFile(), silent)
        assert not [one.text for one in found if one.failed]
        return list(counting.names)

    monkeypatch.setattr("moe_pipeline.training.planned.build_cache", nothing_is_missing)
    assert sorted(train()) == [
        *(f"Dataset001_One.fold_{fold}" for _, fold in folds),
        *(f"Dataset001_One.p{number:03d}" for number in range(4)),
    ]
    assert train() == []
    weights = place.expert("Dataset001_One", 1) / "expert.safetensors"
    before = load_tensors(weights)
    weights.unlink()
    assert train() == ["Dataset001_One.fold_1"]
    assert all(tensor.equal(before[name]) for name, tensor in load_tensors(weights).items())
    crop = next(place.embeddings("Dataset001_One").rglob("*.safetensors"))
    crop.unlink()
    assert len(train()) == 1
    assert crop.is_file()
    with pytest.raises(PipelineError, match="--fold most: expected a number, or all"):
        folds_of(place, "Dataset001_One", "most")


def nothing_is_missing(request: Any, foundation: Any, folder: Path, *rest: Any) -> Any:
    """As `build_cache`, which finds what the units have encoded."""
    before = {path.name for path in (folder / "crops").iterdir()}
    cache = build_cache(request, foundation, folder, *rest)
    assert {path.name for path in (folder / "crops").iterdir()} == before
    return cache


def test_a_fold_that_fails_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workspace(tmp_path)
    monkeypatch.setattr(finetuning, "_fold_unit", _unit)
    monkeypatch.setattr(finetuning, "_results", lambda *_, **__: (tmp_path / "expert" / "expert.json",))
    lost = finetune_folds(
        place, [("One", 0), ("Two", 0)], FinetuneOptions(), Losing(), EngineFile(), silent, encode_apart=False
    )
    assert [one.failed for one in lost] == [True, True]
    assert "Two: its node is gone" in lost[1].text


def test_processes_share_one_training_only(tmp_path: Path) -> None:
    options = FinetuneOptions(devices=2)
    with pytest.raises(PipelineError, match="--devices shares one training among processes: give one dataset and one"):
        finetune_folds_on(EngineOptions(), Workspace(tmp_path), [("One", 0)] * 2, options, silent, whole=False)


def _unit(_: Workspace, dataset: str, fold: int, *__: Any, **___: Any) -> Unit[FoldItem]:
    return Unit(dataset, FoldItem(dataset, fold), "")


def test_the_functions_of_python_go_where_they_are_told(
    tmp_path: Path,
    here: Engine,
    make_phantom_dataset: Callable[..., Path],
    small_foundation: SamFoundation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = Counting(here)
    for module in ("engines", "finetuning"):
        monkeypatch.setattr(f"moe_pipeline.cluster.{module}.open_engine", lambda _: counting)
    source, place = make_phantom_dataset(tmp_path / "Task01_One", 4), Workspace(tmp_path / "ws")
    save_tiny(small_foundation, place.weights, PLANNED_VIEW)
    on: Any = {"engine": "slurm", "workspace": place.root}
    assert len(moe_pipeline.convert(source, **on).rows) == 4
    made = moe_pipeline.plan(1, foundation="tiny", **on).plan
    made.model_copy(update=SMALL).save(place.plan(made.dataset))
    (fold,) = moe_pipeline.finetune([1], epochs=1, click_proposer=False, **on)
    assert (fold.dataset, fold.fold, fold.failed) == (made.dataset, 0, False)
    assert (fold.folder / "expert.safetensors").is_file()
    cases = [f"p{number:03d}" for number in range(4)]
    assert counting.names == [*cases, *cases, *counting.names[8:12], f"{made.dataset}.fold_0"]
    with pytest.raises(PipelineError, match=r"are for a list of datasets; give \[dataset\]"):
        moe_pipeline.finetune(1, **on)


def test_a_matrix(place: Workspace, tmp_path: Path, here: Engine) -> None:
    options = MatrixOptions(datasets=("1",))
    alone = forgetting_report(place, tmp_path / "alone", options)
    counting = Counting(here)
    there = forgetting_report(place, tmp_path / "there", options, run=ScoresOnEngine(counting, Resources()))
    assert counting.names
    assert not there.failures
    assert there.comparisons[0].matrix.equals(alone.comparisons[0].matrix)
    assert not (tmp_path / "there" / "units").exists()
    shutil.rmtree(tmp_path / "there")
    with pytest.raises(PipelineError, match=r"not a single case could be compared.*its node is gone"):
        forgetting_report(place, tmp_path / "there", options, run=ScoresOnEngine(Losing(), Resources()))
