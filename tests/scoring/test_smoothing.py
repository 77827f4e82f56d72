"""Smoothing of maps, against the closed form and another library."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import GaussianSmooth
from scipy import ndimage

from monai_ctmri.scoring.smoothing import smoothed


def test_none_changes_nothing_but_the_type() -> None:
    values = np.random.default_rng(0).random((9, 7))
    out = smoothed(values, None)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, values.astype(np.float32))


def test_a_gaussian_is_that_of_scipy_inside() -> None:
    values = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    out = smoothed(values, GaussianSmooth(sigma=2.0))
    expected = ndimage.gaussian_filter(values, 2.0, truncate=4.0)
    np.testing.assert_allclose(out[10:-10, 10:-10], expected[10:-10, 10:-10], atol=5e-3)


def test_a_blob_survives_and_a_speck_does_not() -> None:
    speck, blob = np.zeros((2, 64, 64), dtype=np.float32)
    speck[32, 32] = 1.0
    rows, columns = np.indices((64, 64)) - 32
    blob[np.hypot(rows, columns) < 8] = 1.0
    sigma = 2.0
    assert smoothed(speck, GaussianSmooth(sigma)).max() == pytest.approx(1 / (2 * np.pi * sigma**2), rel=0.05)
    # Within a disc of radius r the Gaussian holds 1 - exp(-r^2 / (2 sigma^2)).
    assert smoothed(blob, GaussianSmooth(sigma))[32, 32] == pytest.approx(1 - np.exp(-(8**2) / 8), abs=0.01)


def test_views_of_an_array_are_taken() -> None:
    values = np.random.default_rng(2).random((32, 32)).astype(np.float32)
    turned = smoothed(values[:, ::-1], GaussianSmooth(1.5))
    np.testing.assert_allclose(turned, smoothed(values, GaussianSmooth(1.5))[:, ::-1], atol=1e-6)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 8\) gave \(1, 4, 4\)"):
        smoothed(np.zeros((8, 8)), lambda image: image[:, ::2, ::2])
