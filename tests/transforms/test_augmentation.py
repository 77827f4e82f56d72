"""Random intensity changes: the formula, the drawn intervals, the background, and independence of the keys."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import (
    RandIntensityVariation,
    RandIntensityVariationd,
    RandNoiseInjection,
    RandNoiseInjectiond,
)

ARRAYS = (RandNoiseInjection, RandIntensityVariation)
DICTIONARIES = (RandNoiseInjectiond, RandIntensityVariationd)


@pytest.fixture
def image() -> np.ndarray:
    """Two channels: tissue between .2 and .8 in the middle, exact 0 around it."""
    out = np.zeros((2, 64, 64), dtype=np.float32)
    out[:, 8:56, 8:56] = np.random.default_rng(0).uniform(0.2, 0.8, (2, 48, 48))
    return out


@pytest.mark.parametrize("transform", ARRAYS)
def test_range_background_and_change(transform: type, image: np.ndarray):
    out = transform(1.0).set_random_state(0)(image).numpy()
    assert out.dtype == np.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert not out[image == 0].any()
    assert (out[image > 0] != image[image > 0]).mean() > 0.99


@pytest.mark.parametrize("transform", ARRAYS)
def test_probability(transform: type, image: np.ndarray):
    never, sometimes = transform(0.0), transform(0.3).set_random_state(1)
    np.testing.assert_array_equal(never(image), image)
    changed = sum(bool((sometimes(image[:, ::8, ::8]) != torch.tensor(image[:, ::8, ::8])).any()) for _ in range(300))
    assert 60 < changed < 120  # 90 expected, standard deviation 8


@pytest.mark.parametrize("transform", ARRAYS)
def test_randomize_false_repeats_the_last_draw(transform: type, image: np.ndarray):
    made = transform(1.0).set_random_state(4)
    first = made(image)
    np.testing.assert_array_equal(made(image, randomize=False), first)
    assert (np.asarray(made(image)) != np.asarray(first)).any()


def test_noise_is_gaussian_of_the_drawn_deviation():
    flat = np.full((1, 200, 200), 0.5, dtype=np.float32)
    noise = RandNoiseInjection(1.0, std=(0.05, 0.05)).set_random_state(0)(flat).numpy() - 0.5
    assert noise.mean() == pytest.approx(0, abs=0.001)
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    assert np.abs(np.corrcoef(noise[0, :, :-1].ravel(), noise[0, :, 1:].ravel())[0, 1]) < 0.02


def test_deviation_is_uniform_in_its_interval():
    flat = np.full((1, 40, 40), 0.5, dtype=np.float32)
    made = RandNoiseInjection(1.0, std=(0.02, 0.06)).set_random_state(0)
    found = np.array([float(made(flat).std()) for _ in range(300)])
    assert found.mean() == pytest.approx(0.04, abs=0.002)
    assert found.std() == pytest.approx(0.04 / np.sqrt(12), abs=0.002)


def test_noise_is_clipped():
    bright = np.full((1, 64, 64), 0.99, dtype=np.float32)
    out = RandNoiseInjection(1.0, std=(0.3, 0.3)).set_random_state(0)(bright)
    assert out.max() == 1.0
    assert out.min() >= 0.0


def test_variation_formula(image: np.ndarray):
    out = RandIntensityVariation(1.0, gain=(1.2, 1.2), shift=(-0.1, -0.1), gamma=(2.0, 2.0))(image)
    expected = np.where(image == 0, 0, np.clip(1.2 * image**2 - 0.1, 0, 1))
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_variation_identity(image: np.ndarray):
    out = RandIntensityVariation(1.0, gain=(1, 1), shift=(0, 0), gamma=(1, 1))(image)
    np.testing.assert_allclose(out, image, atol=1e-7)


def test_variation_draws_stay_in_their_intervals():
    """Three grey levels determine gain, shift and exponent: y1 - y2 = g (x1**c - x2**c)."""
    levels = np.array([0.25, 0.5, 1.0], dtype=np.float32).reshape(1, 1, 3) * 0.64
    made = RandIntensityVariation(1.0).set_random_state(0)
    gammas, gains = [], []
    for _ in range(300):
        low, middle, high = made(levels).numpy().astype(np.float64)[0, 0]
        gamma = np.log2((high - middle) / (middle - low))
        gammas.append(gamma)
        gains.append((high - middle) / (0.64**gamma - 0.32**gamma))
    assert 0.8 - 1e-3 <= min(gammas) < 0.83
    assert 1.2 < max(gammas) <= 1.25 + 1e-3
    assert np.median(np.log(gammas)) == pytest.approx(0, abs=0.03)
    assert 0.9 - 1e-3 <= min(gains) < 0.92
    assert 1.08 < max(gains) <= 1.1 + 1e-3


def test_channels_vary_on_their_own(image: np.ndarray):
    same = np.concatenate([image[:1], image[:1]])
    for transform in ARRAYS:
        out = transform(1.0).set_random_state(0)(same)
        assert (np.asarray(out[0]) != np.asarray(out[1])).any()


def test_variation_keeps_order(image: np.ndarray):
    out = RandIntensityVariation(1.0).set_random_state(2)(image[:1]).numpy().ravel()
    inside = image[:1].ravel() > 0
    order = np.argsort(image[:1].ravel()[inside], kind="stable")
    assert (np.diff(out[inside][order]) >= 0).all()


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: RandNoiseInjection(std=(-0.1, 0.1)), "std"),
        (lambda: RandNoiseInjection(std=(0.2, 0.1)), "std"),
        (lambda: RandIntensityVariation(gain=(0.0, 1.0)), "gain"),
        (lambda: RandIntensityVariation(gamma=(-1.0, 1.0)), "gamma"),
        (lambda: RandIntensityVariation(shift=(0.1, -0.1)), "shift"),
        (lambda: RandNoiseInjectiond("ct", std=(0.2, 0.1)), "std"),
    ],
)
def test_arguments_are_checked(build, word: str):
    with pytest.raises(ValueError, match=word):
        build()


# ------------------------------------------------------------------------------------------------------ dictionaries


@pytest.mark.parametrize("transform", DICTIONARIES)
def test_keys_draw_on_their_own(transform: type, image: np.ndarray):
    out = transform(("ct", "mri"), prob=1.0).set_random_state(0)({"ct": image, "mri": image})
    assert (np.asarray(out["ct"]) != np.asarray(out["mri"])).any()


@pytest.mark.parametrize("transform", DICTIONARIES)
def test_whether_to_change_is_drawn_for_each_key(transform: type, image: np.ndarray):
    small = image[:, ::8, ::8]
    made = transform(("ct", "mri"), prob=0.5).set_random_state(0)
    seen = set()
    for _ in range(40):
        out = made({"ct": small, "mri": small})
        seen.add(tuple(bool((np.asarray(out[key]) != small).any()) for key in ("ct", "mri")))
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("transform", DICTIONARIES)
def test_one_random_state(transform: type, image: np.ndarray):
    made = transform(("ct", "mri"), prob=1.0).set_random_state(5)
    assert made.transform.R is made.R
    copied = copy.deepcopy(made)
    assert copied.transform.R is copied.R
    case = {"ct": image, "mri": image}
    for one, other in zip(made(case).values(), copied(case).values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("transform", DICTIONARIES)
def test_probability_zero_still_converts(transform: type, image: np.ndarray):
    out = transform("ct", prob=0.0)({"ct": image.astype(np.float64), "mri": image})
    assert out["ct"].dtype == torch.float32
    np.testing.assert_array_equal(out["ct"], image)
    assert out["mri"] is image


def test_seed_of_the_loader_decides_an_epoch(image: np.ndarray):
    def epoch() -> list[np.ndarray]:
        chain = Compose([RandNoiseInjectiond("ct", 0.7), RandIntensityVariationd("ct", 0.7)])
        loader = DataLoader(
            Dataset([{"ct": image}] * 4, chain), batch_size=2, generator=torch.Generator().manual_seed(3)
        )
        return [batch["ct"].numpy() for batch in loader]

    first, second = epoch(), epoch()
    np.testing.assert_array_equal(first, second)
    assert (first[0][0] != first[1][1]).any()


def test_intervals_of_each_channel():
    vary = RandIntensityVariation(1.0, gain=[(0.5, 0.6), (1.5, 1.6)], shift=(0.0, 0.0), gamma=(1.0, 1.0))
    vary.set_random_state(seed=3)
    for _ in range(20):
        dark, bright = np.asarray(vary(np.full((2, 4, 4), 0.5, dtype=np.float32)))
        assert 0.25 <= dark.min() <= dark.max() <= 0.3
        assert 0.75 <= bright.min() <= bright.max() <= 0.8


def test_one_interval_for_all_draws_as_one_for_each():
    image = np.random.default_rng(0).uniform(0.1, 0.9, (2, 8, 8)).astype(np.float32)
    one, each = RandIntensityVariation(1.0), RandIntensityVariation(1.0, [(0.9, 1.1)] * 2, [(-0.05, 0.05)] * 2)
    first, second = (np.asarray(transform.set_random_state(seed=5)(image)) for transform in (one, each))
    assert np.allclose(first, second)


def test_intervals_of_another_number_of_channels():
    with pytest.raises(InputError, match="2 intervals for 3 channels"):
        RandIntensityVariation(1.0, gain=[(0.5, 0.6), (1.5, 1.6)])(np.full((3, 4, 4), 0.5, dtype=np.float32))
