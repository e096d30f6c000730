from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.embeddings.crops import CropRecipe, cut_crops
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=1.0, size_voxels=16, normalisation="zscore_clipped")
LOW = (8, 8, 8)


def test_training_sees_a_small_scan_where_prediction_will() -> None:
    random = np.random.default_rng(0)
    shape = (
        9,
        13,
        10,
    )  # shorter than the cube by odd and even numbers of voxels: the middle is no whole low-resolution voxel
    geometry = Geometry(shape, (1.0, 1.0, 1.0), (5.0, -3.0, 2.0))
    image = Volume(random.normal(size=shape).astype(np.float32), geometry)
    labels = Volume(random.integers(0, 3, shape).astype(np.uint8), geometry)
    seen: list[Tensor] = []

    def encoder(images: Tensor) -> Tensor:
        seen.append(images.clone())
        return images

    foundation = SimpleNamespace(geometry=FoundationGeometry.of_cubes(16, 8, LOW[0]), encode=encoder)
    bank = CropBank(image, foundation, torch.device("cpu"))  # type: ignore[arg-type]
    bank.crop(VIEW, bank.crop_grid(VIEW).around(geometry.voxel_to_world([4, 6, 5])))
    recipe = CropRecipe(VIEW, LOW, crops=3, class_weights={1: 1.0, 2: 1.0}, mirror_axes=())
    for crop in cut_crops(image, labels, recipe, copy_index=0, seed=0):
        np.testing.assert_array_equal(crop.image, seen[0][0, 0].numpy())
