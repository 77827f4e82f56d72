"""Projections against chords, known densities, the statistics of counts, and reconstruction by scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import iradon, radon

from monai_ctmri.transforms.projections import (
    WATER_PER_MM,
    attenuation,
    disc_integrals,
    dose_noise,
    line_integrals,
    reconstruct,
    ring_profile,
    streak_error,
)


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """A disc with a soft edge of one pixel."""
    rows, columns = np.indices(shape)
    return np.clip(radius + 0.5 - np.hypot(rows - centre[0], columns - centre[1]), 0, 1)


def test_attenuation_of_water_air_and_bone():
    np.testing.assert_allclose(
        attenuation(np.array([-2000.0, -1000.0, 0.0, 1000.0])), np.array([0, 0, 1, 2]) * WATER_PER_MM
    )


@pytest.mark.parametrize("shape", [(96, 96), (97, 97), (256, 256)])
def test_line_integrals_are_chords(shape: tuple[int, int]):
    spacing, radius = 0.8, 0.3 * shape[0]
    found = line_integrals(disc(shape, (shape[0] // 2, shape[1] // 2), radius), spacing, 12)
    place = np.arange(len(found)) - len(found) // 2
    chord = 2 * np.sqrt(np.maximum(radius**2 - place**2, 0)) * spacing
    inner = np.abs(place) < 0.9 * radius
    np.testing.assert_allclose(found[inner], np.repeat(chord[inner, None], 12, 1), rtol=0.03)
    assert np.abs(found[np.abs(place) > radius + 4]).max() < 0.001 * chord.max()


@pytest.mark.parametrize("shape", [(90, 90), (91, 91)])
def test_disc_integrals_agree_with_the_radon_transform_off_centre(shape: tuple[int, int]):
    centre = (30.0, 60.0)
    expected = radon(disc(shape, centre, 9.0), np.linspace(0, 180, 20, endpoint=False), circle=False)
    found = disc_integrals(shape, centre, 9.0, 1.0, 20)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2.5  # of 18: a sharp edge against a drawn one
    assert np.abs(found - expected).mean() < 0.08
    total = found.sum(axis=0)
    np.testing.assert_allclose(total, np.pi * 81, rtol=0.02)


@pytest.mark.parametrize("shape", [(96, 96), (96, 72), (71, 90)])
def test_water_is_reconstructed_at_its_place_with_1000_above_air(shape: tuple[int, int]):
    spacing, centre = 1.5, (40.0, 30.0)
    picture = reconstruct(disc_integrals(shape, centre, 18.0, spacing) * WATER_PER_MM, shape, spacing, "ramp")
    assert picture.shape == shape
    away = np.hypot(*(np.indices(shape) - np.reshape(centre, (2, 1, 1)))) * spacing
    assert picture[away < 14].mean() == pytest.approx(1000, rel=0.02)
    assert abs(picture[away > 25].mean()) < 10
    weight = np.clip(picture, 0, None) ** 2
    found = [(weight * index).sum() / weight.sum() for index in np.indices(shape)]
    np.testing.assert_allclose(found, centre, atol=0.3)


def test_noise_of_a_ray_is_that_of_its_photons():
    integrals = np.repeat(np.linspace(0.0, 4.0, 9)[:, None], 4000, axis=1)
    noise, flux = dose_noise(np.random.RandomState(0), integrals, np.zeros((1, 2)), 4.0, 1.0)
    counts = flux * np.exp(-integrals[:, 0])
    # Poisson: var(ln I) = 1 / I; electronics add 10 / I^2.
    np.testing.assert_allclose(noise.var(axis=1), 1 / counts + 10 / counts**2, rtol=0.15)
    assert np.abs(noise.mean(axis=1)).max() < 5 * noise.std() / np.sqrt(4000)


@pytest.mark.parametrize(("noise_hu", "size"), [(8.0, 128), (15.0, 96)])
def test_noise_in_the_picture_is_as_strong_as_asked(noise_hu: float, size: int):
    spacing, shape = 180 / size, (size, size)
    head = disc(shape, (size // 2, size // 2), 75 / spacing)
    integrals = line_integrals(WATER_PER_MM * head, spacing)
    at = np.argwhere(head > 0.5) - size // 2
    noise, _ = dose_noise(np.random.RandomState(3), integrals, at[::40], noise_hu, spacing)
    picture = reconstruct(noise, shape, spacing)
    assert picture[head > 0.5].std() == pytest.approx(noise_hu, rel=0.12)
    away = np.hypot(*(np.indices(shape) - size // 2)) * spacing
    # Rays through the middle cross more water.
    assert picture[away < 20].std() > 1.15 * picture[(away > 55) & (away < 75)].std()


def test_noise_has_the_spectrum_of_ramp_and_window_not_of_white_noise():
    flat, taper = np.full((182, 180), 2.0), np.outer(np.hanning(128), np.hanning(128))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    bands = [(0.01, 0.03), (0.03, 0.06), (0.06, 0.12), (0.12, 0.18), (0.18, 0.24)]
    power = np.zeros((128, 128))
    for seed in range(6):
        noise, _ = dose_noise(np.random.RandomState(seed), flat, np.zeros((1, 2)), 10.0, 1.0)
        power += np.abs(np.fft.fft2(reconstruct(noise, (128, 128), 1.0) * taper)) ** 2
    found = np.array([power[(frequency > low) & (frequency <= high)].mean() for low, high in bands])
    # One view's noise is white along the detector; filtered, then spread over 2 pi f: f W(f)^2.
    theory = frequency * (0.5 + 0.5 * np.cos(2 * np.pi * frequency)) ** 2
    expected = np.array([theory[(frequency > low) & (frequency <= high)].mean() for low, high in bands])
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=0.25)
    assert power[(frequency > 0.45) & (frequency <= 0.5)].mean() < 0.02 * found.max()


def test_more_noise_needs_fewer_photons_and_seeds_repeat():
    flat = np.full((40, 30), 3.0)
    fluxes = [dose_noise(np.random.RandomState(0), flat, np.zeros((1, 2)), hu, 1.0)[1] for hu in (2.0, 4.0, 8.0)]
    # Where quantum noise rules, half the photons make root two more noise.
    np.testing.assert_allclose([fluxes[0] / fluxes[1], fluxes[1] / fluxes[2]], 4.0, rtol=0.05)
    one, other = (dose_noise(np.random.RandomState(5), flat, np.zeros((1, 2)), 5.0, 1.0)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_bone_alone_makes_no_streaks_and_metal_errs_where_it_lies():
    bone = np.random.RandomState(0).uniform(0, 1, (60, 45))
    assert not streak_error(np.random.RandomState(0), np.zeros_like(bone), bone).any()
    metal = np.zeros_like(bone)
    metal[20:24] = 1.0
    errors = np.stack([streak_error(np.random.RandomState(s), metal, bone) for s in range(60)])
    assert not errors[:, np.r_[:20, 24:60]].any()
    # Noise aside: -(m^2 + 2 m b), more behind bone than beside it.
    expected = -(1 + 2 * bone[20:24])
    assert np.abs(errors.mean(axis=0)[20:24] - expected).mean() < 0.25
    assert np.corrcoef(errors.mean(axis=0)[20:24].ravel(), expected.ravel())[0, 1] > 0.85


@pytest.mark.parametrize("channel", [12.0, 30.5, 47.0])
def test_ring_lies_at_its_channel_as_back_projection_has_it(channel: float):
    size, width = 129, 0.8
    radii = np.arange(0.0, 60.0, 0.5)
    profile = ring_profile(radii, channel, width)
    assert np.abs(profile).max() == pytest.approx(1)
    assert radii[np.argmax(np.abs(profile))] == pytest.approx(channel, abs=1.0)
    place = np.arange(183) - 91
    error = sum(np.exp(-0.5 * ((place - side * channel) / width) ** 2) for side in (-1, 1))
    picture = iradon(np.repeat(error[:, None], 360, 1), np.linspace(0, 180, 360, endpoint=False), size, circle=False)
    row = picture[64, 64:]
    ours = np.interp(np.arange(55), radii, profile)
    assert np.corrcoef(ours, row[:55])[0, 1] > 0.97
    assert np.abs(profile[radii < channel - 12]).max(initial=0.0) < 0.12
