import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume

GRID = Geometry((40, 30, 20), (1.0, 1.0, 2.0))
NOISE = Volume(np.random.default_rng(0).integers(0, 200, GRID.shape).astype(np.uint8), GRID)


@pytest.fixture
def little_space() -> Iterator[None]:
    """No file may grow beyond 10 000 bytes, as if the disk were full."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "mask.nrrd", "mask.mha"])
@pytest.mark.usefixtures("little_space")
def test_a_full_disk_leaves_the_old_file_or_none(tmp_path: Path, name: str) -> None:
    small = Volume(np.ones((4, 5, 6), np.uint8), Geometry((4, 5, 6), (1.0, 1.0, 1.0)))
    write_native(small, tmp_path / name)
    with pytest.raises(OSError, match="is the disk full") as caught:
        write_native(NOISE, tmp_path / name)
    assert caught.value.filename == str(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert np.array_equal(read_native(tmp_path / name).array, small.array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii"])
def test_a_whole_file_is_taken(tmp_path: Path, name: str, dtype: type) -> None:
    volume = Volume(NOISE.array.astype(dtype), GRID)
    write_native(volume, tmp_path / name)
    assert np.array_equal(read_native(tmp_path / name).array, volume.array)
