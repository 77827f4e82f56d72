"""Pooled statistics against numpy on the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ctmri.data import intensity
from monai_ctmri.data.intensity import PERCENTILES, PooledIntensities

GENERATOR = np.random.default_rng(5)


def pooled(images: list[np.ndarray]) -> PooledIntensities:
    pool = PooledIntensities()
    for image in images:
        pool.add(np.arange(256), np.bincount(image.ravel(), minlength=256), exact=True)
    return pool


def check_against_numpy(pool: PooledIntensities, pixels: np.ndarray) -> None:
    found = pool.statistics()
    assert found["pixels"] == pixels.size
    assert found["exact"] is True
    assert found["mean"] == pytest.approx(pixels.mean(), rel=1e-12, abs=1e-12)
    assert found["std"] == pytest.approx(pixels.std(), rel=1e-9, abs=1e-9)
    assert (found["min"], found["max"]) == (pixels.min(), pixels.max())
    assert found["median"] == np.median(pixels)
    for name, value in zip(PERCENTILES, np.percentile(pixels, PERCENTILES), strict=True):
        assert found["percentiles"][f"p{name}"] == pytest.approx(value, rel=1e-12)
    assert found["share_zero"] == pytest.approx(np.mean(pixels == 0))


def test_pictures_of_different_sizes_pool_exactly():
    images = [
        np.clip(GENERATOR.normal(mean, 30, shape), 0, 255).astype(np.uint8)
        for mean, shape in ((0, (64, 64)), (90, (31, 17)), (200, (5, 100)))
    ]
    pool = pooled(images)
    assert pool.images == 3
    check_against_numpy(pool, np.concatenate([image.ravel() for image in images]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=9), min_size=1, max_size=5))
def test_any_small_pictures_pool_exactly(rows):
    images = [np.array(row, dtype=np.uint8) for row in rows]
    check_against_numpy(pooled(images), np.concatenate(images))


def test_joining_equal_values_on_the_way_changes_nothing(monkeypatch):
    images = [GENERATOR.integers(0, 256, (20, 20), dtype=np.uint8) for _ in range(9)]
    whole = pooled(images).statistics()
    monkeypatch.setattr(intensity, "_CONSOLIDATE_AT", 300)
    assert pooled(images).statistics() == whole


def test_memory_does_not_grow_with_the_number_of_pictures():
    pool = PooledIntensities()
    for _ in range(5000):
        pool.add(np.arange(256), np.ones(256), exact=True)
    assert pool.statistics()["pixels"] == 5000 * 256
    assert len(pool.counts()[0]) == 256


def test_bins_keep_what_was_given_exactly_and_percentiles_to_half_a_bin():
    pixels = [GENERATOR.gamma(2, 100, 4000), GENERATOR.normal(500, 40, 6000)]
    pool = PooledIntensities()
    widths = []
    for part in pixels:
        counts, edges = np.histogram(part, 256)
        widths.append(edges[1] - edges[0])
        centres = (edges[:-1] + edges[1:]) / 2
        pool.add(centres, counts, exact=False, mean=part.mean(), std=part.std(), low=part.min(), high=part.max())
    every = np.concatenate(pixels)
    found = pool.statistics()
    assert found["exact"] is False
    assert found["share_zero"] is None
    assert found["mean"] == pytest.approx(every.mean(), rel=1e-12)
    assert found["std"] == pytest.approx(every.std(), rel=1e-9)
    assert (found["min"], found["max"]) == (every.min(), every.max())
    for name, value in zip(PERCENTILES, np.percentile(every, PERCENTILES), strict=True):
        assert abs(found["percentiles"][f"p{name}"] - value) <= max(widths)


def test_spread_far_from_zero_does_not_cancel():
    pixels = 1e9 + np.array([0.0, 1.0, 2.0, 3.0])
    pool = PooledIntensities()
    for value in pixels:
        pool.add(np.array([value]), np.array([1]), exact=True)
    assert pool.statistics()["std"] == pytest.approx(pixels.std(), rel=1e-9)


def test_share_at_most():
    pool = pooled([np.array([0, 0, 0, 10, 20], dtype=np.uint8)])
    assert pool.share_at_most(0) == 0.6
    assert pool.share_at_most(10) == 0.8
    assert pool.share_at_most(-1) == 0
    assert PooledIntensities().share_at_most(5) == 0


def test_nothing_added_is_an_error_not_a_number():
    pool = PooledIntensities()
    pool.add(np.arange(4), np.zeros(4), exact=True)
    assert pool.images == 0
    assert pool.counts()[0].size == 0
    with pytest.raises(ValueError, match="no image"):
        pool.statistics()
