"""Coarse noise and modality dropout: their statistics against what their definition says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.corruption import (
    RandCoarseNoise,
    RandCoarseNoised,
    RandModalityDropout,
    RandModalityDropoutd,
)

SIZE = 128
CHANNELS = 400


def linear_weights(size: int, grid: int) -> np.ndarray:
    """Row i: the share of each grid point in voxel i, points at cell centres, the border repeated."""
    place = np.clip((np.arange(size) + 0.5) * grid / size - 0.5, 0, grid - 1)
    low = np.minimum(np.floor(place).astype(int), grid - 2)
    weights = np.zeros((size, grid))
    weights[np.arange(size), low] = 1 - (place - low)
    weights[np.arange(size), low + 1] = place - low
    return weights


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """What is added to ``CHANNELS`` flat pictures, (C, H, W)."""
    flat = torch.full((CHANNELS, SIZE, SIZE), 0.5)
    return np.asarray(RandCoarseNoise().set_random_state(1)(flat)) - 0.5


def test_noise_has_mean_and_spread_of_interpolated_gaussian_noise(noise: np.ndarray) -> None:
    a_voxel = (linear_weights(SIZE, 16) ** 2).sum(axis=1)
    expected = 0.2 * np.sqrt(np.outer(a_voxel, a_voxel).mean())
    assert expected == pytest.approx(0.2 * 2 / 3, rel=0.05)  # without the border: 2 / 3 a direction in variance
    assert noise.std() == pytest.approx(expected, rel=0.02)
    assert abs(noise.mean()) < 0.002
    point = noise[:, SIZE // 2, SIZE // 3] / noise.std()
    assert np.mean(np.abs(point) > 2) == pytest.approx(0.05, abs=0.035)


def test_noise_is_as_coarse_as_its_grid(noise: np.ndarray) -> None:
    """Correlation along a row against that of linear interpolation: 1/4 at one cell, none at two."""
    cell = SIZE // 16

    def correlation(lag: int) -> float:
        return float((noise[..., lag:] * noise[..., : SIZE - lag]).mean() / noise.var())

    for lag, expected in [(cell // 2, 0.70), (cell, 0.25), (2 * cell, 0.0), (3 * cell, 0.0)]:
        assert correlation(lag) == pytest.approx(expected, abs=0.05), lag


def test_the_roll_makes_all_voxels_alike() -> None:
    """Unrolled, a voxel on a grid point would vary more than one between two; each shift must be as likely."""
    length, channels = 12, 30_000
    drawn = np.asarray(RandCoarseNoise(grid=3).set_random_state(0)(torch.full((channels, length), 0.5))) - 0.5
    unrolled = (linear_weights(length, 3) ** 2).sum(axis=1)
    assert unrolled.max() / unrolled.min() > 1.8
    np.testing.assert_allclose(drawn.var(axis=0), 0.04 * unrolled.mean(), rtol=0.04)


def test_channels_are_independent(noise: np.ndarray) -> None:
    table = np.corrcoef(noise[:40].reshape(40, -1))
    others = table[~np.eye(40, dtype=bool)]
    # 256 grid points, smoothed: some 128 independent numbers a channel
    assert abs(others.mean()) < 0.02
    assert np.abs(others).max() < 0.5


def test_air_stays_air_and_nothing_is_clipped() -> None:
    image = torch.linspace(0, 1, SIZE).expand(2, SIZE, SIZE).clone()
    out = RandCoarseNoise().set_random_state(0)(image)
    air = image <= 0.01
    assert torch.equal(out[air], image[air])
    assert (out != image)[~air].float().mean() > 0.99
    assert out.max() > 1
    assert out.min() < 0


def test_probability_is_that_of_a_channel() -> None:
    image = torch.full((4000, 4, 4), 0.5)
    changed = (RandCoarseNoise(prob=0.3).set_random_state(0)(image) != image).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(RandCoarseNoise(prob=0.0)(image), image)


def test_the_spread_is_drawn_from_its_interval() -> None:
    image = torch.full((3000, 16, 16), 0.5)
    drawn = np.asarray(RandCoarseNoise(std=(0.1, 0.3), grid=16).set_random_state(0)(image)) - 0.5
    spreads = drawn.reshape(3000, -1).std(axis=1)  # a grid as fine as the picture: no interpolation
    assert 0.085 < spreads.min() < 0.12
    assert 0.28 < spreads.max() < 0.345
    assert np.median(spreads) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("shape", [(2, 32), (2, 24, 40), (1, 16, 20, 24)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    out = RandCoarseNoise().set_random_state(0)(np.full(shape, 0.5, dtype=np.float64))
    assert out.shape == shape
    assert out.dtype == torch.float32
    assert out.std() > 0.05


@pytest.mark.parametrize("made", [RandCoarseNoise, RandModalityDropout])
def test_a_seed_is_a_result(made: type) -> None:
    image = torch.rand(6, 16, 16)
    results = [made().set_random_state(seed)(image) for seed in (5, 5, 6)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    again = made().set_random_state(5)
    first = again(image)
    assert torch.equal(again(image, randomize=False), first)
    assert not torch.equal(again(image), first)


@pytest.mark.parametrize("made", [RandCoarseNoise, RandModalityDropout])
def test_the_input_stays_and_metadata_are_kept(made: type) -> None:
    image = MetaTensor(torch.rand(2, 16, 16), meta={"filename_or_obj": "a.png"})
    before = image.clone()
    for seed in range(8):
        out = made().set_random_state(seed)(image)
        assert out.meta["filename_or_obj"] == "a.png"
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("options", "message"), [({"std": (-0.1, 0.2)}, "std"), ({"std": (0.3, 0.2)}, "std"), ({"grid": 0}, "grid")]
)
def test_bad_options_of_the_noise(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandCoarseNoise(**options)


def patterns(modalities: int, prob: float, image: torch.Tensor, draws: int = 3000) -> dict[tuple[bool, ...], float]:
    """Which channels stay, and how often."""
    transform = RandModalityDropout(prob).set_random_state(0)
    kept = np.array([np.asarray(transform(image))[:, -1, -1] != 0 for _ in range(draws)])
    return {
        pattern: float((kept == pattern).all(axis=1).mean())
        for pattern in itertools.product((False, True), repeat=modalities)
    }


@pytest.mark.parametrize(("modalities", "prob"), [(2, 0.4), (3, 0.5)])
def test_dropout_frequencies_follow_the_formula(modalities: int, prob: float) -> None:
    found = patterns(modalities, prob, torch.ones(modalities, 2, 2))
    for pattern, frequency in found.items():
        stay = sum(pattern)
        expected = (1 - prob) ** stay * prob ** (modalities - stay) if stay else 0.0
        if stay == 1:  # one of the channels is spared where all would have gone
            expected += prob**modalities / modalities
        assert frequency == pytest.approx(expected, abs=0.03), pattern


def test_the_last_one_present_is_never_dropped() -> None:
    image = torch.ones(2, 4, 4)
    image[0] = 0.0
    assert patterns(2, 0.9, image, draws=200)[(False, True)] == 1.0
    empty = torch.zeros(2, 4, 4)
    assert torch.equal(RandModalityDropout(1.0).set_random_state(0)(empty), empty)
    spared = patterns(2, 1.0, torch.ones(2, 2, 2), draws=1000)
    assert spared[(True, False)] == pytest.approx(0.5, abs=0.05)
    assert spared[(False, False)] == spared[(True, True)] == 0.0


def test_dropout_leaves_the_others_as_they_are() -> None:
    image = torch.rand(4, 8, 8) + 0.1
    out = RandModalityDropout(0.5).set_random_state(2)(image)
    gone = (out == 0).flatten(1).all(dim=1)
    assert 0 < gone.sum() < 4
    assert torch.equal(out[~gone], image[~gone])


@pytest.mark.parametrize("made", [RandCoarseNoised, RandModalityDropoutd])
def test_every_key_has_draws_of_its_own(made: type) -> None:
    image = torch.rand(8, 16, 16) + 0.1
    case = {"image": image, "target": image.clone(), "other": "kept"}
    transform = Compose([made(keys=("image", "target"))]).set_random_state(4)
    one, other = transform(case), transform(case)
    assert not torch.equal(one["image"], one["target"])
    assert not torch.equal(one["image"], other["image"])
    assert one["other"] == "kept"
    again = Compose([made(keys=("image", "target"))]).set_random_state(4)(case)
    assert torch.equal(again["image"], one["image"])
    assert torch.equal(again["target"], one["target"])
    del case["target"]
    assert "target" not in made(keys=("image", "target"), allow_missing_keys=True)(case)
    with pytest.raises(KeyError):
        made(keys=("image", "target"))(case)


def test_options_reach_the_array_transform() -> None:
    image = torch.full((2, 16, 16), 0.5)
    assert torch.equal(RandCoarseNoised("image", prob=0.0)({"image": image})["image"], image)
    assert torch.equal(RandCoarseNoised("image", std=(0.0, 0.0))({"image": image})["image"], image)
    assert torch.equal(RandModalityDropoutd("image", prob=0.0)({"image": image})["image"], image)
    one_value = RandCoarseNoised("image", grid=1).set_random_state(0)({"image": image})["image"]
    assert one_value.flatten(1).std(dim=1).max() < 1e-6
    assert one_value[0, 0, 0] != one_value[1, 0, 0]


def test_each_channel_is_dropped_as_often_as_asked() -> None:
    drop = RandModalityDropout((0.0, 0.2, 0.7))
    drop.set_random_state(seed=0)
    kept = np.mean([(np.asarray(drop(torch.ones(3, 2, 2))) != 0).any((1, 2)) for _ in range(2000)], axis=0)
    assert np.allclose(kept, (1.0, 0.8, 0.3), atol=0.04)


@pytest.mark.parametrize("prob", [(), -0.1, (0.2, 1.2)])
def test_probabilities_out_of_range(prob) -> None:
    with pytest.raises(InputError, match="prob"):
        RandModalityDropout(prob)


def test_not_one_probability_a_channel() -> None:
    with pytest.raises(InputError, match="2 probabilities for 3 channels"):
        RandModalityDropout((0.1, 0.2))(torch.ones(3, 2, 2))
