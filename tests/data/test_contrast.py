"""From tissue to signal: tables against physical order, noise against its closed form."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage, stats

from monai_ctmri.data.anatomy import TISSUES
from monai_ctmri.data.contrast import (
    HOUNSFIELD,
    HOUNSFIELD_JITTER,
    MR_CONTRASTS,
    MR_SIGNAL,
    _bias_field,
    _correlated_noise,
    ct_slice,
    mr_slice,
)

SIGNALLESS = {"air", "calcification"}


def only(tissue: str, slices: int = 4, size: int = 96) -> np.ndarray:
    """A field of one tissue."""
    fractions = np.zeros((len(TISSUES), slices, size, size), np.float32)
    fractions[TISSUES.index(tissue)] = 1
    return fractions


def in_order(values: dict[str, float], names: str) -> bool:
    ordered = [values[name] for name in names.split(" > ")]
    return all(left > right for left, right in pairwise(ordered))


def lag_correlation(noise: np.ndarray, lag: int, axis: int) -> float:
    return float((noise * np.roll(noise, lag, axis)).mean() / (noise**2).mean())


def test_tables_are_complete():
    assert set(HOUNSFIELD) == set(TISSUES)
    assert set(HOUNSFIELD_JITTER) <= set(TISSUES)
    assert set(MR_CONTRASTS) == {"T1", "T2", "PD", "FLAIR"}
    for signal in MR_SIGNAL.values():
        assert set(signal) == set(TISSUES) - SIGNALLESS
        assert all(0 < value <= 1 for value in signal.values())


@pytest.mark.parametrize(
    "names", ["bone > gm > wm > csf > fat > air", "bone > diploe > calcification > dura > gm", "skin > csf"]
)
def test_ct_is_ordered_as_in_a_head(names):
    assert in_order(HOUNSFIELD, names)


def test_ct_is_calibrated_to_air_and_near_water():
    assert HOUNSFIELD["air"] == -1000
    assert 0 <= HOUNSFIELD["csf"] <= 15
    # Grey and white matter differ by 5 to 12 HU, which a brain window shows.
    assert 5 <= HOUNSFIELD["gm"] - HOUNSFIELD["wm"] <= 12


@pytest.mark.parametrize(
    ("contrast", "names"),
    [
        ("T1", "fat > wm > gm > csf > bone"),
        ("T2", "csf > gm > wm > bone"),
        ("PD", "gm > csf > bone"),
        ("PD", "gm > wm"),
        ("FLAIR", "gm > wm > csf > bone"),
    ],
)
def test_mr_is_ordered_as_on_a_scanner(contrast, names):
    assert in_order(MR_SIGNAL[contrast], names)


def test_fluid_is_the_darkest_of_the_brain_on_flair_and_t1_and_the_brightest_on_t2():
    brain = ("csf", "gm", "wm")
    darkest = {contrast: min(brain, key=signal.__getitem__) for contrast, signal in MR_SIGNAL.items()}
    assert darkest["FLAIR"] == darkest["T1"] == "csf"
    assert max(MR_SIGNAL["T2"], key=MR_SIGNAL["T2"].__getitem__) == "csf"


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.5])
def test_correlated_noise_has_unit_spread_and_the_correlation_of_a_gaussian_filter(sigma):
    noise = _correlated_noise(np.random.default_rng(0), (12, 256, 256), sigma)
    assert noise.std() == pytest.approx(1)
    assert abs(noise.mean()) < 0.02
    for axis in (1, 2):
        for lag in (1, 2, 4):
            # White noise through a Gaussian of spread sigma correlates as a Gaussian of spread sqrt(2) sigma.
            assert lag_correlation(noise, lag, axis) == pytest.approx(np.exp(-(lag**2) / (4 * sigma**2)), abs=0.03)
    assert abs(lag_correlation(noise, 1, 0)) < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_ct_of_one_tissue_is_its_value_with_noise_of_the_stated_level(seed):
    image = ct_slice(only("skin"), 2.0, np.random.default_rng(seed))
    assert image.dtype == np.float32
    assert image.shape == (4, 96, 96)
    # Skin has neither texture nor a value that varies between subjects.
    assert image.mean() == pytest.approx(HOUNSFIELD["skin"], abs=0.2)
    assert 1.2 * 0.98 < image.std() < 3.2 * 1.02


def test_ct_noise_is_correlated_as_after_a_soft_tissue_kernel():
    image = ct_slice(only("skin", 8, 160), 2.0, np.random.default_rng(0))
    noise = image - image.mean()
    kernel = ndimage.gaussian_filter1d(np.eye(1, 21, 10)[0], 0.65)
    truth = np.correlate(kernel, kernel, "full") / (kernel**2).sum()
    for lag in (1, 2):
        assert lag_correlation(noise, lag, 2) == pytest.approx(truth[20 + lag], abs=0.02)
        assert lag_correlation(noise, lag, 1) == pytest.approx(truth[20 + lag], abs=0.02)


def test_ct_of_air_has_less_noise_than_the_head_and_is_within_the_scanners_range():
    air, skin = (ct_slice(only(name), 2.0, np.random.default_rng(5)) for name in ("air", "skin"))
    # The same draws: only the denser path differs.
    assert air.std() / skin.std() == pytest.approx(0.35, rel=0.02)
    assert air.mean() == pytest.approx(-1000, abs=0.2)
    dense = only("bone") * 4
    assert ct_slice(dense, 2.0, np.random.default_rng(0)).max() == 3071
    assert ct_slice(only("air") * 2, 2.0, np.random.default_rng(0)).min() == -1024


def test_ct_values_vary_between_subjects_as_stated():
    means = [ct_slice(only("csf", 1, 48), 2.0, np.random.default_rng(seed)).mean() for seed in range(150)]
    assert np.mean(means) == pytest.approx(HOUNSFIELD["csf"], abs=4 * HOUNSFIELD_JITTER["csf"] / np.sqrt(150))
    assert np.std(means) == pytest.approx(HOUNSFIELD_JITTER["csf"], rel=0.25)


def test_ct_of_half_and_half_is_the_mean():
    half = 0.5 * only("skin") + 0.5 * only("fat")
    expected = (HOUNSFIELD["skin"] + HOUNSFIELD["fat"]) / 2
    assert ct_slice(half, 2.0, np.random.default_rng(1)).mean() == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("contrast", MR_CONTRASTS)
def test_air_shows_rician_noise_without_signal(contrast):
    image = mr_slice(only("air", 4, 128), 2.0, contrast, np.random.default_rng(3))
    assert image.dtype == np.float32
    assert image.min() >= 0
    # Without signal the Rician is a Rayleigh distribution: E[m^2] = 2 sigma^2, E[m] = sigma sqrt(pi / 2).
    sigma = float(np.sqrt((image.astype(float) ** 2).mean() / 2))
    assert 0.008 * 0.98 < sigma < 0.025 * 1.02
    assert image.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.05)
    assert stats.kstest(image.ravel()[::7], stats.rayleigh(scale=sigma).cdf).pvalue > 1e-3


def test_noise_of_a_subject_has_one_level_for_air_and_for_bright_tissue():
    air = mr_slice(only("air", 4, 128), 2.0, "T2", np.random.default_rng(8))
    fluid = mr_slice(only("csf", 4, 128), 2.0, "T2", np.random.default_rng(8))
    sigma = float(np.sqrt((air.astype(float) ** 2).mean() / 2))
    # Far above the noise a Rician is a Gaussian of the same sigma; differences of neighbours leave the smooth part out.
    rough = np.diff(fluid, n=2, axis=2).std() / np.sqrt(6)
    assert rough == pytest.approx(sigma, rel=0.25)


@pytest.mark.parametrize("contrast", MR_CONTRASTS)
def test_tissues_of_a_drawn_slice_keep_the_order_of_the_table(contrast):
    brain = {name: MR_SIGNAL[contrast][name] for name in ("csf", "gm", "wm")}
    for seed in range(4):
        means = {name: mr_slice(only(name), 2.0, contrast, np.random.default_rng(seed)).mean() for name in brain}
        assert all(0.5 * brain[name] < means[name] < 2 * brain[name] for name in brain)
        if contrast in ("T1", "T2"):
            assert sorted(means, key=means.__getitem__) == sorted(brain, key=brain.__getitem__)


def test_a_generator_in_the_same_state_gives_the_same_slice():
    fractions = only("gm", 2, 32)
    for draw in (
        lambda seed: ct_slice(fractions, 2.0, np.random.default_rng(seed)),
        lambda seed: mr_slice(fractions, 2.0, "T1", np.random.default_rng(seed)),
    ):
        np.testing.assert_array_equal(draw(1), draw(1))
        assert (draw(1) != draw(2)).any()


def test_the_process_is_not_reseeded():
    np.random.seed(3)  # noqa: NPY002
    first = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    mr_slice(only("gm", 1, 32), 2.0, "T1", np.random.default_rng(0))
    assert np.random.random() == first  # noqa: NPY002


def test_an_unknown_contrast_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"T1, T2, PD, FLAIR, got 'T3'"):
        mr_slice(only("gm", 1, 32), 2.0, "T3", np.random.default_rng(0))


def test_coil_sensitivity_is_smooth_positive_and_quadratic():
    field = _bias_field((9, 40, 50), np.random.default_rng(0))
    assert field.shape == (9, 40, 50)
    assert field.min() > 0.3
    assert field.max() < 3
    # The logarithm is a quadratic polynomial: third differences vanish along every axis.
    for axis in range(3):
        np.testing.assert_allclose(np.diff(np.log(field), n=3, axis=axis), 0, atol=1e-12)
    np.testing.assert_allclose(_bias_field((3, 4, 5), np.random.default_rng(0), strength=0), 1)
