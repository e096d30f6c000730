from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.errors import PipelineError, RecordError
from moe_pipeline.imaging.io.files import write_label_map
from moe_pipeline.synthetic.anatomy.label_maps import find_sources, fingerprint, read_atlas
from moe_pipeline.synthetic.anatomy.source import LabelMapSource
from tests.phantoms.label_maps import FOLDED, FRONT, HEADS, LEFT, LESIONS, RIGHT, SPACING, head

ROOT = Path(__file__).parents[3]


def test_every_tenth_label_map_is_held_out(label_maps: Path) -> None:
    seen, held_out = (read_atlas(label_maps, held_out=part) for part in (False, True))
    assert [one.name for one in held_out.sources[0]] == ["heads/09"]
    assert len(seen.sources[0]) == HEADS - 1
    assert "heads/09" not in {one.name for one in seen.sources[0]}
    assert len(seen.lesions) == LESIONS
    assert not held_out.lesions


def test_structures_keep_place_and_orientation(label_maps: Path) -> None:
    one = read_atlas(label_maps, held_out=False).sources[0][0]
    assert one.numbers == (1, LEFT, FOLDED, RIGHT, FRONT)
    assert one.spacing_mm == pytest.approx(SPACING)
    middles = [places.mean(0) for places in one.places]
    left, right, front = middles[1], middles[3], middles[4]
    assert left[0] < right[0], "the index grows to the right"
    assert front[1] > left[1], "and forward"
    for structure, places in enumerate(one.places, start=1):
        assert (one.voxels[tuple(torch.from_numpy(places.astype(int)).T)] == structure).all()
    assert one.solidity[2] == 0, "a sheet of one voxel"
    assert one.solidity[1] > 0.4
    assert one.structures("organ") == [2, 4]


def test_a_lesion_lies_in_shares_of_its_hosts_box(label_maps: Path) -> None:
    lesion = read_atlas(label_maps, held_out=False).lesions[0]
    assert lesion.mask.shape == (4, 4, 4)
    assert lesion.low == pytest.approx((0.4, 0.4, 0.4))
    assert lesion.step == pytest.approx((0.05, 0.05, 0.05))


def test_the_fingerprint_knows_what_is_said_and_what_is_there(label_maps: Path, tmp_path: Path) -> None:
    assert fingerprint(label_maps) == fingerprint(label_maps)
    LabelMapSource(title="one", licence="MIT").save(tmp_path / "label_maps.json")
    before = fingerprint(tmp_path)
    write_label_map(head(), tmp_path / "a.nii.gz", head().geometry)
    assert fingerprint(tmp_path) != before


def test_what_cannot_be_painted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no label_maps\.json"):
        find_sources(tmp_path)
    volume = head()
    volume.array[:] = np.arange(volume.array.size).reshape(volume.array.shape) % 200
    LabelMapSource(title="many", licence="MIT").save(tmp_path / "label_maps.json")
    write_label_map(volume, tmp_path / "many.nii.gz", volume.geometry)
    with pytest.raises(PipelineError, match=r"many: 199 structures; expected 1 to 95"):
        read_atlas(tmp_path, held_out=False)
    (tmp_path / "label_maps.json").write_text('{"title": "x", "licence": "y", "tissues": {"a": [1], "b": [1]}}')
    with pytest.raises(RecordError, match="1 in more than one of them"):
        find_sources(tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "plans" / "label_maps").glob("*.json")), ids=lambda path: path.stem)
def test_what_we_know_of_public_label_maps_can_be_read(path: Path) -> None:
    source = LabelMapSource.load(path)
    assert source.licence
    assert source.lesions_in or source.tissues
