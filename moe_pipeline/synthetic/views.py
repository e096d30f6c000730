"""A synthetic volume as a foundation other than nano would be shown it."""

import numpy as np

from moe_pipeline.imaging.views import normalise
from moe_pipeline.records.foundation import View


def in_view(image: np.ndarray, view: View) -> np.ndarray:
    """A synthetic volume by a view's intensity rule.

    The generator's volumes have nano's rule; any other one starts from values of 0 and more.

    Args:
        image: as the generator makes it.
        view: whose rule to apply.
    """
    positive = image - image.min()
    return normalise(positive, np.ones_like(positive, dtype=bool), view.normalisation)
