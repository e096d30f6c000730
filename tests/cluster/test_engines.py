"""What every engine does alike, on each of them that is installed."""

import os
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from moe_pipeline.cluster import engines
from moe_pipeline.cluster.engines import Engine, EngineOptions, engine_file, open_engine
from moe_pipeline.cluster.on_processes import ProcessEngine
from moe_pipeline.cluster.records import Resources
from moe_pipeline.errors import PipelineError, RecordError
from moe_pipeline.workspace import Workspace
from tests.cluster.works import attempts

Run = Callable[..., dict[int, Any]]


def on_slurm() -> Engine:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'moe-pipeline[slurm]'")
    from moe_pipeline.cluster.on_slurm import SlurmEngine

    return SlurmEngine("local", seconds=0.1, grace_seconds=0.2)


def on_ray() -> Engine:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'moe-pipeline[ray]'")
    from moe_pipeline.cluster.on_ray import RayEngine

    return RayEngine()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves its processes open
@pytest.mark.parametrize("make", [lambda: ProcessEngine(2), on_slurm, on_ray], ids=["local", "slurm", "ray"])
def test_bad_units_are_not_tried_again_and_lost_ones_are(make: Callable[[], Engine], run: Run, tmp_path: Path) -> None:
    found = run(make(), [0, 1, 2, 3], deadly=2)
    assert {number: record.status for number, record in found.items()} == {
        0: "done",
        1: "failed",
        2: "done",
        3: "failed",
    }
    assert [found[number].result for number in (0, 2)] == [0, 4]
    assert [found[number].message for number in (1, 3)] == ["1 is odd", "3 is odd"]
    begun = attempts(tmp_path)
    assert begun[2] == 2
    assert begun[1] == begun[3] == 1
    assert {path.name: path.read_text() for path in tmp_path.glob("*.txt")} == {"0.txt": "0", "2.txt": "4"}
    before = dict(begun)
    assert run(make(), [0, 1, 2, 3]).keys() == found.keys()
    assert attempts(tmp_path) == before  # all of it was read from files


def test_a_unit_whose_worker_is_always_lost_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_pipeline.cluster.on_processes.TRIES", 1)
    found = run(ProcessEngine(1), [2], deadly=2)
    assert found[2].status == "lost"
    assert "2: its process was ended by the system" in found[2].message


@pytest.mark.parametrize(("engine", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_extra_an_engine_names_it(engine: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == module else find_spec(name))
    with pytest.raises(PipelineError, match=rf"{module} is not installed; pip install 'moe-pipeline\[{engine}\]'"):
        open_engine(EngineOptions(engine=engine))


def test_slurm_needs_sbatch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "sbatch" else os.fspath(name))
    with pytest.raises(PipelineError, match="there is no sbatch here"):
        run(open_engine(EngineOptions(engine="slurm")), [0])


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(PipelineError, match="--ray-address goes with --engine ray, not slurm"):
        EngineOptions(engine="slurm", ray_address="auto")
    with pytest.raises(PipelineError, match="--jobs is for the local engine"):
        EngineOptions(engine="ray", jobs=2)


def test_the_workspace_says_what_units_take(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    assert engine_file(place).of("predict").cpus == 1
    (tmp_path / "engine.json").write_text('{"all": {"cpus": 4, "partition": "short"}, "finetune": {"gpus": 1}}')
    found = engine_file(place)
    assert (found.of("finetune").cpus, found.of("finetune").gpus, found.of("finetune").partition) == (4, 1, "short")
    assert found.of("predict").gpus == 0
    (tmp_path / "engine.json").write_text('{"all": {"cpu": 4}}')
    with pytest.raises(RecordError, match=r"engine.json.*all.cpu"):
        engine_file(place)


def test_the_page_tells_of_every_field_and_its_example_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    (tmp_path / "engine.json").write_text(page.split("```json\n")[1].split("```")[0])
    found = engine_file(Workspace(tmp_path))
    assert (found.of("predict").units_per_job, found.of("predict").cpus) == (20, 4)
    assert found.of("finetune").slurm == {"constraint": "a100", "qos": "low"}
    told = page.split("| field | default | meaning |")[1].split("\n\n")[0]
    named = {name for row in told.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")}
    assert named == set(Resources.model_fields)
