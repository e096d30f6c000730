import numpy as np
import pytest

from moe_pipeline.planning.intensities import pooled_percentiles, sketch


def test_a_sketch_of_one_distribution_gives_its_percentiles() -> None:
    values = np.random.default_rng(0).gamma(2, 50, 100_000)
    found = pooled_percentiles([sketch(values)], (0.5, 5, 50, 95, 99.5))
    np.testing.assert_allclose(found, np.percentile(values, (0.5, 5, 50, 95, 99.5)), rtol=0.01)


def test_distributions_of_any_size_count_the_same() -> None:
    small, large = np.full(10, 1.0), np.full(100_000, 9.0)
    found = pooled_percentiles([sketch(small), sketch(large)], (25, 75))
    assert found.tolist() == [1, 9]


def test_pooling_is_like_pooling_equally_many_voxels() -> None:
    random = np.random.default_rng(1)
    cases = [random.normal(mean, 10, 20_000) for mean in (0, 100, 5000)]
    found = pooled_percentiles([sketch(case) for case in cases], (0.5, 50, 99.5))
    assert found == pytest.approx(np.percentile(np.concatenate(cases), (0.5, 50, 99.5)), rel=0.02)
