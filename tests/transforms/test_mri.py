"""MRI normalisation: the formula in plain numpy, blindness to scale, and the degenerate images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ctmri.transforms import LoadSliced, NormalizeMRI, NormalizeMRId
from monai_ctmri.transforms.mri import ZScoreMRI, ZScoreMRId, head_mask


@pytest.fixture
def image() -> np.ndarray:
    """Air with faint noise, a bright square of tissue, a few very bright pixels."""
    rng = np.random.default_rng(0)
    out = rng.rayleigh(3.0, (1, 64, 64))
    out[0, 16:48, 16:48] = rng.normal(500, 100, (32, 32)).clip(100)
    out[0, 20, 20:24] = 5000
    return out.astype(np.float32)


@pytest.mark.parametrize("percentile", [50, 90, 99.5, 100])
def test_formula(image: np.ndarray, percentile: float):
    foreground = image[image > 0.05 * np.percentile(image, 99.9)]
    expected = np.clip(image / np.percentile(foreground, percentile), 0, 1)
    np.testing.assert_allclose(NormalizeMRI(percentile)(image), expected, rtol=1e-4, atol=1e-6)


def test_share_that_saturates_is_what_was_asked_for(image: np.ndarray):
    out = NormalizeMRI(99.0)(image).numpy()
    tissue = out[0, 16:48, 16:48]
    assert (tissue >= 1).mean() == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("scale", [7.0, 1e-3, 1000.0, 255.0])
def test_scale_does_not_matter(image: np.ndarray, scale: float):
    np.testing.assert_allclose(NormalizeMRI()(scale * image), NormalizeMRI()(image), rtol=1e-5, atol=1e-7)


def test_share_of_air_does_not_matter(image: np.ndarray):
    tissue = image[:, 16:48, 16:48]
    padded = np.pad(tissue, ((0, 0), (40, 40), (40, 40)))
    np.testing.assert_allclose(NormalizeMRI()(padded)[:, 40:-40, 40:-40], NormalizeMRI()(tissue), rtol=1e-3)


def test_one_bright_pixel_does_not_matter(image: np.ndarray):
    spiked = image.copy()
    spiked[0, 0, 0] = 1e6
    np.testing.assert_allclose(NormalizeMRI(95)(spiked)[0, 1:], NormalizeMRI(95)(image)[0, 1:], rtol=0.01)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_constant_gives_zeros(value: float):
    out = NormalizeMRI()(np.full((1, 8, 8), value, dtype=np.float32))
    assert out.shape == (1, 8, 8)
    assert not out.any()


def test_nothing_above_zero_gives_zeros():
    assert not NormalizeMRI()(-np.arange(64.0).reshape(1, 8, 8)).any()


def test_empty_array():
    assert NormalizeMRI()(np.zeros((1, 0, 8), dtype=np.float32)).shape == (1, 0, 8)


def test_zero_stays_zero_and_negative_is_clipped(image: np.ndarray):
    image[0, :3] = 0
    image[0, 3] = -50
    out = NormalizeMRI()(image)
    assert not out[0, :4].any()


def test_sparse_image_below_the_robust_maximum():
    """A picture whose 99.9th percentile is 0: the foreground is then all that is above 0."""
    dots = np.zeros((1, 100, 100), dtype=np.float32)
    dots[0, 5, 5:8] = [1, 2, 4]
    np.testing.assert_allclose(NormalizeMRI(100)(dots)[0, 5, 5:8], [0.25, 0.5, 1])


def test_channels_are_independent(image: np.ndarray):
    both = np.concatenate([image, 9 * image**2, np.zeros_like(image)])
    out = NormalizeMRI()(both)
    np.testing.assert_array_equal(out[:1], NormalizeMRI()(image))
    np.testing.assert_array_equal(out[1:2], NormalizeMRI()(9 * image**2))
    assert not out[2].any()


def test_integers(image: np.ndarray):
    np.testing.assert_array_equal(NormalizeMRI()(image.astype(np.int16)), NormalizeMRI()(np.trunc(image)))


def test_meta_and_affine_stay(image: np.ndarray):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    out = NormalizeMRI()(MetaTensor(torch.tensor(image), affine=affine, meta={"windowed": False}))
    np.testing.assert_array_equal(out.affine, affine)
    assert out.meta["windowed"] is False


@pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan")])
def test_percentile_out_of_range(percentile: float):
    with pytest.raises(ValueError, match="percentile"):
        NormalizeMRI(percentile)


def test_dictionary(image: np.ndarray):
    out = NormalizeMRId("mri", percentile=90)({"mri": image, "ct": image})
    np.testing.assert_array_equal(out["mri"], NormalizeMRI(90)(image))
    assert out["ct"] is image


def test_real_slices_use_the_range(real_data):
    for name in ("16010.png", "34012.png", "41014.png"):
        case = NormalizeMRId()(LoadSliced("mri")({"mri": real_data / "pairs" / "mri" / name}))
        values = case["mri"].numpy()
        assert values.max() == 1.0
        assert 0.001 < (values == 1).mean() < 0.01
        assert values[0, :5, :5].max() < 0.05


def test_z_score_formula(image: np.ndarray):
    inside = np.zeros(image.shape, dtype=bool)
    inside[0, 20:40, 20:40] = True
    tissue = image[inside].astype(np.float64)
    expected = np.clip((image - tissue.mean()) / tissue.std(), -3, 3)
    np.testing.assert_allclose(ZScoreMRI(clip=3)(image, inside), expected, atol=1e-5)


@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0), (50, 0), (2, -40)])
def test_z_score_does_not_see_gain_and_offset(image: np.ndarray, gain: float, offset: float):
    inside = image > 100
    np.testing.assert_allclose(ZScoreMRI()(gain * image + offset, inside), ZScoreMRI()(image, inside), atol=1e-3)


def test_z_score_takes_the_head_without_a_mask(image: np.ndarray):
    square = np.zeros(image.shape, dtype=bool)
    square[0, 16:48, 16:48] = True
    np.testing.assert_array_equal(head_mask(image).numpy(), square)
    np.testing.assert_array_equal(ZScoreMRI()(image), ZScoreMRI()(image, square))
    without = ZScoreMRId()({"mri": image, "ct": image})
    np.testing.assert_array_equal(without["mri"], ZScoreMRI()(image))
    assert without["ct"] is image
    some = image > 400
    np.testing.assert_array_equal(ZScoreMRId()({"mri": image, "brain": some})["mri"], ZScoreMRI()(image, some))


def test_z_score_of_nothing(image: np.ndarray):
    assert not ZScoreMRI()(np.full((1, 8, 8), 4.0)).any()
    assert not ZScoreMRI()(image, np.zeros_like(image)).any()


def test_z_score_refuses():
    with pytest.raises(ValueError, match="clip"):
        ZScoreMRI(clip=0)
    with pytest.raises(ValueError, match="mask"):
        ZScoreMRI()(np.ones((1, 8, 8)), np.ones((1, 4, 4)))
