"""Domain randomisation: what each change keeps, its stated range, and draws of every modality's own."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.domain_randomisation import (
    DOMAINS,
    RandBiasShading,
    RandBiasShadingd,
    RandContrastCurve,
    RandContrastCurved,
    RandDomain,
    RandDomaind,
    RandGammaCurve,
    RandGammaCurved,
    RandResolutionLoss,
    RandResolutionLossd,
)

SIZE = 80
ARRAY = [RandContrastCurve, RandGammaCurve, RandBiasShading, RandResolutionLoss, RandDomain]
DICTIONARY = [RandContrastCurved, RandGammaCurved, RandBiasShadingd, RandResolutionLossd, RandDomaind]
every_array = pytest.mark.parametrize("make", ARRAY)
every_dictionary = pytest.mark.parametrize("make", DICTIONARY)


def head(seed: int = 0) -> np.ndarray:
    """A head (1, H, W) in [0, 1] of fine texture, in air of exactly 0."""
    y, x = np.mgrid[:SIZE, :SIZE]
    noise = np.random.RandomState(seed).uniform(0.05, 1.0, (SIZE, SIZE))
    return np.where(np.hypot(y - 39.5, x - 39.5) < 32, noise, 0.0).astype(np.float32)[None]


def drawn(make, seed: int = 0, img=None, **options) -> np.ndarray:
    options = {"prob": 1.0, **options}
    return np.asarray(make(**options).set_random_state(seed)(head() if img is None else img))


@every_array
def test_result_stays_in_range_air_stays_air_and_something_changes(make):
    for seed in range(6):
        out = drawn(make, seed)
        assert out.dtype == np.float32
        assert out.shape == (1, SIZE, SIZE)
        assert out.min() >= 0
        assert out.max() <= 1
        assert not out[head() == 0].any()
        assert np.abs(out - head()).max() > 1e-3


@every_array
def test_channels_are_drawn_on_their_own(make):
    out = drawn(make, 1, np.concatenate([head(), head()]))
    assert np.abs(out[0] - out[1]).max() > 1e-3


@every_dictionary
def test_keys_are_drawn_on_their_own(make):
    out = make(("ct", "mri"), prob=1.0).set_random_state(1)({"ct": head(), "mri": head(), "subject": "p1"})
    assert np.abs(np.asarray(out["ct"]) - np.asarray(out["mri"])).max() > 1e-3
    assert out["subject"] == "p1"


@every_dictionary
def test_stack_of_both_modalities_is_one_entry(make):
    out = make("image", prob=1.0).set_random_state(1)({"image": np.concatenate([head(0), head(1)])})
    assert out["image"].shape == (2, SIZE, SIZE)
    assert all(np.abs(np.asarray(out["image"][i]) - head(i)[0]).max() > 1e-3 for i in (0, 1))


@every_array
def test_probability_is_of_each_channel(make):
    stack = np.concatenate([head(seed) for seed in range(40)])
    out = drawn(make, 0, stack, prob=0.3)
    share = np.mean([np.any(out[i] != stack[i]) for i in range(40)])
    wanted = 1 - 0.7**4 if make is RandDomain else 0.3
    assert share == pytest.approx(wanted, abs=3.5 * np.sqrt(wanted * (1 - wanted) / 40))
    np.testing.assert_array_equal(drawn(make, 0, stack, prob=0.0), stack)


@every_array
def test_missing_modality_stays_blank_and_nothing_warns(make):
    stack = np.concatenate([np.zeros_like(head()), head()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = drawn(make, 2, stack)
    assert not out[0].any()
    assert (out[1] != stack[1]).any()


@every_array
def test_meta_stays_and_input_too(make):
    before = MetaTensor(head(), meta={"filename_or_obj": "a.png"}, affine=2 * torch.eye(4))
    out = make(prob=1.0).set_random_state(0)(before)
    assert out.meta["filename_or_obj"] == "a.png"
    torch.testing.assert_close(out.affine, before.affine)
    np.testing.assert_array_equal(np.asarray(before), head())


@every_array
def test_repeat_pickle_and_same_seed(make):
    transform = make(prob=1.0).set_random_state(3)
    restored = pickle.loads(pickle.dumps(transform))
    first = np.asarray(transform(head()))
    np.testing.assert_array_equal(first, np.asarray(transform(head(), randomize=False)))
    np.testing.assert_array_equal(first, np.asarray(restored(head())))
    np.testing.assert_array_equal(first, drawn(make, 3))
    assert (first != np.asarray(transform(head()))).any()


@every_array
def test_volumes_work_too(make):
    volume = np.random.RandomState(0).uniform(size=(1, 20, 22, 12)).astype(np.float32)
    out = drawn(make, 0, volume)
    assert out.shape == volume.shape
    assert np.isfinite(out).all()
    assert (out != volume).any()


@pytest.mark.parametrize("make", [RandContrastCurve, RandGammaCurve])
def test_curves_keep_order_and_ends(make):
    ramp = np.linspace(0, 1, 401, dtype=np.float32)[None, None]
    for seed in range(10):
        out = drawn(make, seed, ramp)[0, 0]
        assert (np.diff(out) >= 0).all()
        assert out[0] == 0
        assert out[-1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("points", [4, 9])
def test_contrast_curve_strays_as_far_as_stated(points: int):
    ramp = np.linspace(0, 1, 361, dtype=np.float32)[None, None]
    gaps = (
        np.stack([drawn(RandContrastCurve, seed, ramp, control_points=(points, points)) for seed in range(150)]) - ramp
    )
    assert gaps.max() <= 1 / (points - 1) + 1e-5
    step = 360 // (points - 1)
    assert gaps[..., step:-step:step].std() == pytest.approx(0.7 / (points - 1), rel=0.2)


def test_gamma_is_the_power_within_its_range():
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None, None]
    exponents = []
    for seed in range(20):
        out = drawn(RandGammaCurve, seed, ramp, gamma=(0.5, 2.0))[0, 0]
        gamma = np.log(out[50]) / np.log(0.5)
        np.testing.assert_allclose(out, ramp[0, 0] ** gamma, atol=1e-4)
        exponents.append(gamma)
    assert 0.5 <= min(exponents) < 0.9
    assert 1.4 < max(exponents) <= 2.0


def test_bias_is_a_smooth_factor_of_the_stated_size():
    half = np.full((1, SIZE + 1, SIZE + 1), 0.3, np.float32)
    half[0, 0, 1] = 0.31  # not blank
    middle = SIZE // 2
    logs = []
    for seed in range(150):
        field = np.log(drawn(RandBiasShading, seed, half, coefficient=(-0.1, 0.1))[0] / half[0])
        assert np.abs(ndimage.laplace(field)[2:-2, 2:-2]).max() < 0.01
        logs.append((field[middle, middle], field[-1, -1]))
    assert np.std(logs, axis=0) == pytest.approx([0.07, 0.19], rel=0.25)


def test_resolution_loss_keeps_the_mean_and_takes_fine_texture():
    inner = (0, slice(30, 50), slice(30, 50))
    fine, coarse = (drawn(RandResolutionLoss, 0, zoom=(zoom, zoom)) for zoom in (0.9, 0.3))
    assert fine[inner].mean() == pytest.approx(head()[inner].mean(), abs=0.02)
    assert coarse[inner].std() < 0.6 * fine[inner].std() < 0.6 * head()[inner].std()
    np.testing.assert_allclose(drawn(RandResolutionLoss, 0, zoom=(1.0, 1.0)), head(), atol=1e-6)


def test_strong_domain_is_stronger_than_mild():
    smooth = (ndimage.gaussian_filter(head()[0], 3) * (head()[0] > 0))[None]
    moved = {
        strength: np.mean([np.abs(drawn(RandDomain, s, smooth, strength=strength) - smooth).mean() for s in range(30)])
        for strength in DOMAINS
    }
    assert moved["strong"] > 1.2 * moved["mild"] > 0


def test_global_random_state_neither_read_nor_written():
    before = torch.get_rng_state()
    torch.manual_seed(1)
    one = drawn(RandDomain, 5)
    torch.manual_seed(2)
    np.testing.assert_array_equal(one, drawn(RandDomain, 5))
    torch.set_rng_state(before)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (RandContrastCurve, {"control_points": (2, 5)}),
        (RandGammaCurve, {"gamma": (0.0, 1.0)}),
        (RandBiasShading, {"coefficient": (0.1, -0.1)}),
        (RandResolutionLoss, {"zoom": (0.5, 1.5)}),
        (RandDomain, {"strength": "wild"}),
    ],
)
def test_bad_options(make, options):
    with pytest.raises(InputError, match=next(iter(options))):
        make(**options)


@pytest.mark.parametrize("bad", [80.0, -1.0, np.nan])
def test_image_outside_the_unit_range_is_named(bad: float):
    img = MetaTensor(head() * bad, meta={"filename_or_obj": "scan.png"})
    with pytest.raises(InputError, match=r"scan\.png: has values from"):
        RandDomain(prob=1.0)(img)
