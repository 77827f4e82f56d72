"""Units, displacement and painting of a lesion against formulas and SciPy, on pictures made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import lesion_painting as painting
from monai_ctmri.transforms.lesion_painting import Region, Unit

BRAIN = np.hypot(*(np.indices((64, 64)) - 31.5)) < 26
FLAT = np.zeros((64, 64))


def part(profile, ct=(40.0, 40.0), mri=(0.5, 0.5), **options) -> Region:
    return Region(profile, ct, {"T2": mri}, 0.5, FLAT, **options)


def disc(radius: float) -> np.ndarray:
    return (np.hypot(*(np.indices((64, 64)) - 31.5)) < radius) * 1.0


def tissue(value: float, noise: float = 0.0) -> np.ndarray:
    return np.where(BRAIN, value + noise * np.random.RandomState(0).standard_normal((64, 64)), 0.0)


def show(image, regions, contrast=None):
    return painting.paint(image, regions, BRAIN, BRAIN & (disc(15) == 0), contrast)


# --- units ------------------------------------------------------------------------------------------------------------


def entry(low: float, high: float, **meta):
    values = torch.linspace(low, high, 16).reshape(1, 4, 4)
    return {"case": "c", "ct": MetaTensor(values, meta=meta), "mri": MetaTensor(values, meta=meta)}


@pytest.mark.parametrize(
    ("low", "high", "meta"),
    [(-1000, 1500, {"windowed": False}), (0, 90, {"windowed": False}), (-1000, 1500, {}), (-60, 20, {})],
)
def test_hounsfield_units_are_known(low, high, meta):
    unit = painting.unit_of(entry(low, high, **meta), "ct")
    assert not unit.closed
    assert painting.picture_of(entry(low, high, **meta), "ct").max() == pytest.approx(high / 80)


@pytest.mark.parametrize("meta", [{}, {"windowed": False}, {"windowed": True}, {"window": (40.0, 80.0)}])
def test_values_of_0_to_1_are_a_window_of_0_to_80(meta):
    assert painting.unit_of(entry(0, 1, **meta), "ct") == Unit()
    np.testing.assert_array_equal(painting.picture_of(entry(0, 1, **meta), "ct"), entry(0, 1)["ct"].numpy()[0])


def test_unknown_window_counts_as_the_brain_window():
    assert painting.unit_of(entry(0, 1, window=(float("nan"), float("nan"))), "ct") == Unit()


def test_another_window_is_brought_to_hu():
    picture = painting.picture_of(entry(0, 1, window=(75.0, 215.0)), "ct") * 80
    np.testing.assert_allclose([picture.min(), picture.max()], [75 - 107.5, 75 + 107.5])
    assert painting.unit_of(entry(0, 1, window=(75.0, 215.0)), "mri") == Unit()


@pytest.mark.parametrize(
    ("key", "low", "high", "meta"),
    [
        ("ct", 0, 255, {}),
        ("ct", -1000, 1000, {"windowed": True}),
        ("ct", -1000, 1000, {"window": (40, 80)}),
        ("ct", -1000, float("inf"), {"windowed": False}),
        ("mri", -1000, 1000, {"windowed": False}),
        ("mri", 0, 2, {}),
    ],
)
def test_what_is_neither_is_refused(key, low, high, meta):
    with pytest.raises(InputError, match=f"c: {key}: has values outside") as caught:
        painting.picture_of(entry(low, high, **meta), key)
    assert "\n" not in str(caught.value)


def test_what_did_not_change_keeps_its_bits():
    image = np.random.RandomState(1).uniform(-1000, 1000, (8, 8)).astype(np.float32)
    unit = Unit(0.0, 1 / 80, closed=False)
    before = image.astype(np.float64) / 80
    after = before.copy()
    after[2, 3] += 1
    stored = unit.stored(image, before, after).astype(np.float32)
    assert stored[2, 3] == pytest.approx(image[2, 3] + 80, abs=1e-3)
    stored[2, 3] = image[2, 3]
    np.testing.assert_array_equal(stored, image)
    closed = Unit(-0.5, 2.0)
    np.testing.assert_allclose(closed.stored(np.zeros((1, 2)), np.zeros((1, 2)), np.array([[0.5, 9.0]])), [[0.5, 1.0]])
    np.testing.assert_allclose(closed.confined(np.array([-9.0, 0.1, 9.0])), [-0.5, 0.1, 1.5])


# --- displacement -----------------------------------------------------------------------------------------------------


def test_displace_is_linear_interpolation_at_x_plus_warp():
    image = np.random.RandomState(0).rand(64, 64)
    warp = np.stack([np.full((64, 64), 0.25), np.full((64, 64), -1.5)])
    moved = painting.displace(image, warp)
    rows = 0.75 * image[10, 20:24] + 0.25 * image[11, 20:24]
    assert moved[10, 23] == pytest.approx(0.5 * (rows[1] + rows[2]))
    np.testing.assert_array_equal(painting.displace(image, np.zeros((2, 64, 64))), image)


@pytest.mark.parametrize("smooth", [0.0, 0.8])
def test_displaced_noise_is_as_strong_as_before(smooth):
    """Also where neighbours correlate, as scanners and resampling make them."""
    random = np.random.RandomState(0)
    noise = ndimage.gaussian_filter(random.standard_normal((64, 64)), smooth)
    image = np.where(BRAIN, 0.4 + 0.03 * noise / noise.std(), 0.0)
    inner = ndimage.binary_erosion(BRAIN, iterations=5)
    warp = np.full((2, 64, 64), 2.5)
    plain = painting.displace(image, warp)
    full = painting.retexture(plain, image, warp, BRAIN)
    high = [one - ndimage.gaussian_filter(one, 1.0) for one in (image, plain, full)]
    spread = [one[inner].std() for one in high]
    assert spread[1] < 0.85 * spread[0]
    assert 0.8 * spread[0] < spread[2] < 1.25 * spread[0]
    np.testing.assert_array_equal(full[~BRAIN], plain[~BRAIN])


def test_whole_pixels_and_slices_without_noise_get_no_texture():
    image = tissue(0.4, 0.02)
    whole = np.full((2, 64, 64), 3.0)
    moved = painting.displace(image, whole)
    np.testing.assert_array_equal(painting.retexture(moved, image, whole, BRAIN), moved)
    smooth = np.where(BRAIN, 0.4, 0.0)
    half = np.full((2, 64, 64), 0.5)
    np.testing.assert_array_equal(painting.retexture(smooth, smooth, half, BRAIN), smooth)


# --- painting ---------------------------------------------------------------------------------------------------------


def test_new_matter_has_the_value_of_the_table():
    done = show(tissue(0.3), [part(disc(10))])
    np.testing.assert_allclose(done[disc(10) > 0], 40 / 80)
    np.testing.assert_array_equal(done[disc(10) == 0], tissue(0.3)[disc(10) == 0])
    np.testing.assert_allclose(show(tissue(0.3), [part(disc(10))], "T2")[disc(10) > 0], 0.3 * 1.5)


def test_half_a_share_gives_half_the_way():
    done = show(tissue(0.3), [part(0.5 * disc(10))])
    np.testing.assert_allclose(done[disc(10) > 0], 0.5 * (0.3 + 0.5))


def test_tissue_that_stays_is_shifted():
    done = show(tissue(0.3, 0.01), [part(disc(10), ct=(-8.0, -8.0), replaces=False, flattens=False)])
    np.testing.assert_allclose((done - tissue(0.3, 0.01))[disc(10) > 0], -0.1)


def test_flattening_draws_towards_the_median():
    image = tissue(0.3) + 0.06 * (np.indices((64, 64))[1] > 31) * BRAIN
    apart = show(image, [part(disc(10), ct=(0.0, 0.0), replaces=False, flattens=False)])
    together = show(image, [part(disc(10), ct=(0.0, 0.0), replaces=False)])
    left, right = (disc(10) > 0) & (np.indices((64, 64))[1] < 28), (disc(10) > 0) & (np.indices((64, 64))[1] > 35)
    assert apart[right].mean() - apart[left].mean() == pytest.approx(0.06, abs=1e-9)
    assert together[right].mean() - together[left].mean() == pytest.approx(0.03, abs=0.003)


def test_fluid_is_spared():
    pool = disc(4) > 0
    image = np.where(pool, 0.02, tissue(0.3))
    spared = show(image, [part(disc(12), replaces=False, ct=(-8.0, -8.0), spares_fluid=True)])
    assert np.abs((spared - image)[disc(1.5) > 0]).max() < 0.01
    painted = show(image, [part(disc(12), replaces=True, ct=(60.0, 60.0))])
    assert painted[disc(1.5) > 0].min() > 0.6


@pytest.mark.parametrize(("only", "contrast"), [("mri", None), ("ct", "T2")])
def test_part_of_one_modality(only, contrast):
    image = tissue(0.3)
    np.testing.assert_array_equal(show(image, [part(disc(10), modality=only)], contrast), image)


def test_bone_in_hu_is_replaced_and_not_merely_darkened():
    """An opening in the skull: 1000 HU become the 10 HU of what fills it, not 1000 less the window's change."""
    bone = (disc(30) > 0) & ~BRAIN
    hu = np.where(bone, 1000 / 80, tissue(0.3))
    done = show(hu, [part(bone * 1.0, ct=(10.0, 10.0))])
    np.testing.assert_allclose(done[bone], 10 / 80, atol=0.02)
    metal = show(hu, [part(disc(3), ct=(3000.0, 3000.0))])
    np.testing.assert_allclose(metal[disc(3) > 0], 3000 / 80)


def test_ring_and_spread():
    mask = disc(6) > 0
    ring = painting.around(mask, BRAIN, 4)
    assert not (ring & mask).any()
    assert ring[31, 31 + 8]
    assert not ring[31, 31 + 14]
    np.testing.assert_array_equal(painting.around(BRAIN, BRAIN, 4), BRAIN)
    values = np.random.RandomState(0).normal(5, 2, 4000)
    assert painting.spread_of(values) == pytest.approx(2, rel=0.05)
    assert painting.spread_of(np.ones(5)) == 1 / 255
