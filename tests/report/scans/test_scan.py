import numpy as np
import pytest

from moe_pipeline.report.scans.scan import tight_box


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_box_is_tight_however_the_voxels_lie_in_memory(order: str, axes: tuple[int, int, int]) -> None:
    labels = np.zeros((9, 12, 7), np.uint8, order=order)  # type: ignore[call-overload]
    labels[2, 3, 4] = 1
    labels[5, 10, 4] = 300 % 256
    turned = labels.transpose(axes)[:, ::-1]
    found = tight_box(turned)
    assert found is not None
    voxels = np.argwhere(turned)
    assert found == tuple((int(low), int(high) + 1) for low, high in zip(voxels.min(0), voxels.max(0), strict=True))
    assert tight_box(np.zeros_like(labels)) is None
