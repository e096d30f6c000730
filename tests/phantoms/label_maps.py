"""Small label maps to paint on."""

from pathlib import Path

import numpy as np

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.synthetic.anatomy.source import LabelMapSource, LesionHost

HEADS, LESIONS = 11, 3
LEFT, RIGHT, FRONT, FOLDED = 3, 42, 700, 12  # numbers in the files
SPACING = (1.5, 1.0, 2.0)


def head() -> Volume:
    """A box of tissue with a left, a right and a front organ, and a thin sheet; R, A and S along the axes."""
    array = np.zeros((40, 60, 30), dtype=np.uint16)
    array[4:36, 6:54, 4:26] = 1
    array[8:16, 20:36, 8:20] = LEFT
    array[24:32, 20:36, 8:20] = RIGHT
    array[14:26, 42:52, 8:22] = FRONT
    array[6:34, 38, 6:24] = FOLDED
    return Volume(array, Geometry(array.shape, SPACING, origin_mm=(-30.0, -30.0, -30.0)))


def lesion() -> Volume:
    """In the middle of a space that reaches from -10 to 10 mm."""
    array = np.zeros((20, 20, 20), dtype=np.uint8)
    array[8:12, 8:12, 8:12] = 1
    return Volume(array, Geometry(array.shape, (1.0, 1.0, 1.0), origin_mm=(-10.0, -10.0, -10.0)))


def write_heads(folder: Path) -> None:
    """A folder with heads and one with lesions, each with its `label_maps.json`."""
    for name, volume, count, source in (
        (
            "heads",
            head(),
            HEADS,
            LabelMapSource(
                title="boxes",
                licence="CC0-1.0",
                tissues={"organ": (LEFT, RIGHT), "rest": (1,)},
                pairs=((LEFT, RIGHT),),
                contrasts={"CT": {"organ": 0.7}},
            ),
        ),
        (
            "lesions",
            lesion(),
            LESIONS,
            LabelMapSource(
                title="cubes", licence="MIT", lesions_in=LesionHost(tissues=("rest",), box_mm=((-10,) * 3, (10,) * 3))
            ),
        ),
    ):
        (folder / name).mkdir()
        source.save(folder / name / "label_maps.json")
        for number in range(count):
            write_label_map(volume, folder / name / f"{number:02}.nii.gz", volume.geometry)
