from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.cli import main
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_image
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.memory import estimate_memory
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.windows.embedding_cache import MOST_BYTES
from moe_pipeline.mixture.model import Mixture

MILLION = Geometry((100, 100, 100), (1.0, 1.0, 1.0))


def test_what_is_held_is_counted(follower: Mixture) -> None:
    found = estimate_memory(follower, MILLION)
    assert found.case == (4 + 1 + 4 + 2) * 10**6  # image, label map, probability; copies of the label map
    assert found.neighbours == (4 + 4 + 3) * 10**6
    assert found.crops == 8 * 7**3 * 8**3 * 4  # windows of 16 mm over 100 mm at half steps, embeddings of 8^3 floats
    assert found.total == found.fixed + found.crops + found.case + found.neighbours
    assert found.fixed > 50e6
    doubtful = estimate_memory(follower, MILLION, SegmentOptions(uncertainty=True), wide=True)
    assert doubtful.case == (4 + 2 + 4 + 1 + 4) * 10**6


def test_crops_are_bounded_and_flips_counted(follower: Mixture) -> None:
    four = estimate_memory(follower, MILLION, SegmentOptions(tta=True))
    assert four.crops == 4 * estimate_memory(follower, MILLION).crops
    huge = Geometry((2000, 2000, 2000), (1.0, 1.0, 1.0))
    assert estimate_memory(follower, huge).crops == MOST_BYTES


def test_doctor_states_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scan.nii.gz"
    grid = Geometry((30, 20, 10), (1.0, 1.0, 1.0))
    write_image(Volume(np.zeros(grid.shape, np.float32), grid), path, grid)
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--for", str(path), "--foundation", "nano"])
    text = capsys.readouterr().out
    assert not stop.value.code
    assert "30 x 20 x 10 voxels" in text
    assert "peak memory" in text
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--for", str(tmp_path / "none.nii.gz"), "--foundation", "nano"])
    assert stop.value.code == 1
    assert "none.nii.gz: no such file" in capsys.readouterr().err
