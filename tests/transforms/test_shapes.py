"""Lesion shapes: sizes against areas, soft edges against their definition, geometry against moments and angles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.transforms import shapes

SHAPE = (128, 128)
SPACING = 1.8
SEEDS = range(6)


def ellipse(rows: float = 50.0, columns: float = 40.0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    y, x = np.indices(shape)
    return ((y - (shape[0] - 1) / 2) / rows) ** 2 + ((x - (shape[1] - 1) / 2) / columns) ** 2 <= 1


def area_mm2(mask: np.ndarray) -> float:
    return float(mask.sum()) * SPACING**2


def skull_slice(shape: tuple[int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A head with scalp, bone, brain, ventricle and a calcification, and the true inside of the skull."""
    image = np.zeros(shape)
    image[ellipse(58, 48, shape)] = 0.4
    image[ellipse(55, 45, shape)] = 1.0
    brain = ellipse(50, 40, shape)
    image[brain] = 0.35
    image[ellipse(10, 5, shape)] = 0.05
    image[70:73, 50:53] = 1.0
    return image, brain


def test_intracranial_mask_is_the_filled_inside_of_the_skull():
    image, brain = skull_slice()
    found = shapes.intracranial_mask(image)
    overlap = 2 * (found & brain).sum() / (found.sum() + brain.sum())
    assert overlap > 0.99
    assert found[64, 64]
    assert found[71, 51]


def test_intracranial_mask_of_nothing_is_empty():
    assert not shapes.intracranial_mask(np.zeros(SHAPE)).any()
    assert not shapes.intracranial_mask(np.ones(SHAPE)).any()


def test_intracranial_mask_may_touch_the_frame():
    image = np.full((64, 64), 0.4)
    assert shapes.intracranial_mask(image).mean() > 0.95


def test_noise_is_standardised_and_smooth():
    for correlation in (4.0, 12.0):
        noise = shapes.band_limited_noise(np.random.RandomState(0), SHAPE, correlation, SPACING)
        assert noise.mean() == pytest.approx(0, abs=1e-9)
        assert noise.std() == pytest.approx(1, abs=1e-9)
        lag = round(correlation / SPACING)
        # White noise filtered by a Gaussian of sd s has autocorrelation exp(-lag^2 / (4 s^2)).
        seen = float((noise * np.roll(noise, lag, axis=1)).mean())
        assert seen == pytest.approx(np.exp(-((lag * SPACING) ** 2) / (4 * correlation**2)), abs=0.1)


def test_same_state_same_shapes_and_global_state_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (shapes.finger_level(np.random.RandomState(4), SHAPE, (60, 60), 40, SPACING) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("margin", [0.0, 20.0, 1e6])
def test_centre_keeps_its_margin(margin):
    brain = ellipse()
    depth = ndimage.distance_transform_edt(brain) * SPACING
    for seed in SEEDS:
        row, column = shapes.sample_centre(np.random.RandomState(seed), brain, margin, SPACING)
        assert brain[int(row), int(column)]
        assert depth[int(row), int(column)] >= min(margin, 0.7 * depth.max())


@pytest.mark.parametrize("size", [5.0, 12.0, 30.0, 60.0])
def test_level_for_area_holds_the_area(size):
    brain = ellipse()
    target = np.pi / 4 * size**2
    for seed in SEEDS:
        level = shapes.blob_level(np.random.RandomState(seed), SHAPE, (60, 70), size, SPACING)
        inside = (shapes.level_for_area(level, brain, target, SPACING) > 0) & brain
        assert area_mm2(inside) == pytest.approx(target, abs=SPACING**2)


def test_level_for_area_never_gives_less_than_a_pixel_nor_more_than_there_is():
    level = shapes.blob_level(np.random.RandomState(0), SHAPE, (60, 70), 10, SPACING)
    brain = ellipse()
    assert ((shapes.level_for_area(level, brain, 0.01, SPACING) > 0) & brain).sum() == 1
    assert ((shapes.level_for_area(level, brain, 1e9, SPACING) > 0) & brain).sum() == brain.sum() - 1
    lone = np.zeros(SHAPE, dtype=bool)
    lone[5, 5] = True
    assert ((shapes.level_for_area(level, lone, 9.0, SPACING) > 0) & lone).sum() == 1


def test_equivalent_diameter_of_a_disc():
    y, x = np.indices(SHAPE)
    disc = np.hypot(y - 64, x - 64) * SPACING <= 20
    assert shapes.equivalent_diameter_mm(disc, SPACING) == pytest.approx(40, abs=0.7)
    assert shapes.equivalent_diameter_mm(np.zeros(SHAPE, bool), SPACING) == 0


@pytest.mark.parametrize("spacing", [0.9, 1.8])
@pytest.mark.parametrize("softness", [0.0, 0.5, 1.5])
def test_soft_edge_keeps_its_promises(softness, spacing):
    brain = ellipse()
    for seed in SEEDS:
        level = shapes.blob_level(np.random.RandomState(seed), SHAPE, (20, 40), 30, spacing)
        profile, mask = shapes.soft_edge(level, brain, softness, spacing)
        assert profile.min() >= 0
        assert profile.max() <= 1
        np.testing.assert_array_equal(mask, profile > 0.5)
        assert not profile[~brain].any()
        far = ndimage.distance_transform_edt(~mask) > shapes.EDGE_REACH_PX
        assert not profile[far].any()
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1


def test_soft_edge_of_a_straight_border_is_the_raised_cosine():
    columns = np.indices(SHAPE)[1]
    spacing, softness = 1.0, 1.0
    level = (columns - 63.5) * spacing
    profile, mask = shapes.soft_edge(level, np.ones(SHAPE, bool), softness, spacing)
    assert mask[:, 64:].all()
    assert not mask[:, :64].any()
    expected = 0.5 + 0.5 * np.sin(np.pi / 2 * np.clip((np.arange(128) - 63.5) / 2.0, -1, 1))
    np.testing.assert_allclose(profile[64], expected, atol=1e-9)


def test_softer_edges_are_wider():
    level = shapes.blob_level(np.random.RandomState(1), SHAPE, (64, 64), 40, SPACING)
    widths = []
    for softness in (0.3, 1.0, 1.8):
        profile, _ = shapes.soft_edge(level, np.ones(SHAPE, bool), softness, SPACING)
        widths.append(((profile > 0.02) & (profile < 0.98)).sum())
    assert widths[0] < widths[1] < widths[2]


def test_soft_edge_of_nothing():
    profile, mask = shapes.soft_edge(np.full(SHAPE, -5.0), np.ones(SHAPE, bool), 1.0, SPACING)
    assert not profile.any()
    assert not mask.any()


def test_blobs_sit_at_their_centre_are_irregular_and_differ():
    masks = []
    for seed in SEEDS:
        level = shapes.blob_level(np.random.RandomState(seed), SHAPE, (50, 70), 40, SPACING)
        mask = shapes.level_for_area(level, np.ones(SHAPE, bool), np.pi / 4 * 1600, SPACING) > 0
        middle = ndimage.center_of_mass(mask)
        assert np.hypot(middle[0] - 50, middle[1] - 70) * SPACING < 8
        masks.append(mask)
    y, x = np.indices(SHAPE)
    disc = np.hypot(y - 50, x - 70) * SPACING <= 20
    for mask in masks:
        assert 0.55 < 2 * (mask & disc).sum() / (mask.sum() + disc.sum()) < 0.96
    assert len({mask.tobytes() for mask in masks}) == len(masks)


@pytest.mark.parametrize("bearing", [60.0, -100.0, 155.0, -20.0])
@pytest.mark.parametrize("size", [25.0, 50.0])
def test_wedge_points_inwards_and_stands_on_the_cortex(bearing, size):
    brain = ellipse()
    target = np.pi / 4 * size**2
    depth = ndimage.distance_transform_edt(brain)
    y, x = np.indices(SHAPE) - 63.5
    for seed in SEEDS:
        level = shapes.wedge_level(np.random.RandomState(seed), brain, bearing, target, SPACING)
        wedge = (level > 0) & brain
        assert area_mm2(wedge) == pytest.approx(target, rel=0.08)
        assert (np.sign(x[wedge]) == np.sign(bearing)).all()
        assert (depth[wedge] <= 1).sum() >= 5
        seen = np.rad2deg(np.arctan2(x[wedge].mean(), -y[wedge].mean()))
        assert abs((seen - bearing + 180) % 360 - 180) < 15
        # Along its axis it opens: the outer half holds more than the inner half.
        axis = np.array([-np.cos(np.deg2rad(bearing)), np.sin(np.deg2rad(bearing))])
        along = y[wedge] * axis[0] + x[wedge] * axis[1]
        assert (along > (along.min() + along.max()) / 2).mean() > 0.6


def solidity(mask: np.ndarray) -> float:
    from skimage.measure import regionprops

    return float(regionprops(mask.astype(int))[0].solidity)


def test_fingers_reach_out_of_a_round_base():
    for seed in SEEDS:
        fingers = shapes.finger_level(np.random.RandomState(seed), SHAPE, (64, 64), 50, SPACING)
        mask = shapes.soft_edge(
            shapes.level_for_area(fingers, np.ones(SHAPE, bool), np.pi / 4 * 2500, SPACING),
            np.ones(SHAPE, bool),
            0.5,
            SPACING,
        )[1]
        blob = shapes.blob_level(np.random.RandomState(seed), SHAPE, (64, 64), 50, SPACING)
        plain = shapes.level_for_area(blob, np.ones(SHAPE, bool), np.pi / 4 * 2500, SPACING) > 0
        assert mask[64, 64]
        assert area_mm2(mask) == pytest.approx(np.pi / 4 * 2500, rel=0.1)
        assert solidity(mask) < 0.85
        assert solidity(mask) < solidity(ndimage.binary_opening(plain))
        y, x = np.nonzero(mask)
        assert np.hypot(y - 64, x - 64).max() * SPACING > 1.3 * 25
