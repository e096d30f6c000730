"""Units of little work, and an engine that needs nobody."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from moe_pipeline.cluster.engines import Engine, Lost
from moe_pipeline.cluster.records import UnitRecord
from moe_pipeline.cluster.units import Unit
from moe_pipeline.cluster.worker import Job, carry_out
from tests.cluster.works import doubled


class Here:
    """Runs units in this process, one after the other."""

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        for unit in units:
            carry_out(job, unit)
            yield unit.key

    def told(self) -> str:
        return "here"


@pytest.fixture
def here() -> Engine:
    return Here()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[int, UnitRecord]]:
    """Doubles some numbers on an engine, and gives what has become of each."""

    def running(engine: Engine, numbers: Sequence[int], **of_work: Any) -> dict[int, UnitRecord]:
        return doubled(engine, tmp_path, numbers, **of_work)

    return running
