"""Displacement fields against formulas: what a known warp does, where it may fold, how much it widens."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import warps
from monai_ctmri.transforms.lesion_painting import displace

SIZE, SPACING = 120, 1.5


def disc(radius_px: float, row: float = 59.5, column: float = 59.5) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE))
    return np.hypot(y - row, x - column) <= radius_px


HEAD = disc(50)


def test_displaced_moves_by_whole_pixels():
    image = np.random.RandomState(0).standard_normal((20, 20))
    warp = np.zeros((2, 20, 20))
    warp[0], warp[1] = 2, -3
    np.testing.assert_allclose(warps.displaced(image, warp)[5:15, 5:15], image[7:17, 2:12])


def test_it_is_the_convention_of_lesions():
    image = np.random.RandomState(1).standard_normal((SIZE, SIZE))
    warp = warps.shift_warp(HEAD, (59.5, 59.5), (0.0, 9.0), SPACING)
    np.testing.assert_allclose(warps.displaced(image, warp), displace(image, warp), atol=1e-12)


def test_composed_warp_is_one_after_the_other():
    y, x = np.indices((SIZE, SIZE), dtype=float)
    image = np.sin(y / 15) + np.cos(x / 12)
    first = warps.shift_warp(HEAD, (59.5, 59.5), (0.0, 6.0), SPACING)
    then = warps.shift_warp(HEAD, (50.0, 65.0), (6.0, 0.0), SPACING)
    both = warps.displaced(image, warps.compose(first, then))
    np.testing.assert_allclose(both, warps.displaced(warps.displaced(image, first), then), atol=0.01)


def test_determinant_of_known_maps():
    y, x = np.indices((30, 30), dtype=float)
    assert warps.jacobian_determinant(np.zeros((2, 30, 30))) == pytest.approx(1.0)
    scaled = np.stack([0.5 * y, -0.2 * x])
    assert warps.jacobian_determinant(scaled) == pytest.approx(1.5 * 0.8)
    turned = np.stack([(np.cos(0.3) - 1) * y - np.sin(0.3) * x, np.sin(0.3) * y + (np.cos(0.3) - 1) * x])
    assert warps.jacobian_determinant(turned) == pytest.approx(1.0)
    mirrored = np.stack([np.zeros_like(y), -2 * x])
    assert warps.jacobian_determinant(mirrored) == pytest.approx(-1.0)


def test_folds_are_taken_out_or_refused():
    fine = warps.shift_warp(HEAD, (59.5, 59.5), (0.0, 10.0), SPACING)
    np.testing.assert_array_equal(warps.without_folds(fine), fine)
    least = warps.jacobian_determinant(fine).min()
    folding = fine * 1.2 / (1 - least)
    assert warps.jacobian_determinant(folding).min() < 0
    weakened = warps.without_folds(folding)
    assert warps.jacobian_determinant(weakened).min() > warps.LEAST_JACOBIAN
    assert np.abs(weakened).max() < np.abs(folding).max()
    with pytest.raises(InputError, match="fold"):
        warps.without_folds(10 * folding, "this")


def test_depth_is_the_distance_to_the_border():
    depth = warps.depth_mm(HEAD, SPACING)
    assert depth[59, 59] == pytest.approx(50 * SPACING, abs=1.5 * SPACING)
    assert depth[59, 20] == pytest.approx((50 - 39.5) * SPACING, abs=SPACING)
    assert not depth[~HEAD].any()
    touching = warps.depth_mm(np.ones((9, 9), dtype=bool), 2.0)
    assert touching[4, 4] == pytest.approx(9.0)
    assert touching[0, 4] == pytest.approx(1.0)


@pytest.mark.parametrize("thickness", [4.0, 10.0, 20.0])
def test_push_makes_room_and_dies_away(thickness):
    warp = warps.push_warp(HEAD, np.full(HEAD.shape, thickness), SPACING)
    assert warps.jacobian_determinant(warp).min() > 0
    assert not warp[:, ~HEAD].any()
    depth = warps.depth_mm(HEAD, SPACING)
    # Where tissue under the layer comes from: near the border, 15 % of the thickness or 2 mm deep.
    came_from = warps.displaced(depth, warp)
    under = (np.abs(depth - thickness) < SPACING) & HEAD
    assert np.median(came_from[under]) < 0.45 * thickness + SPACING
    deep = depth > min(4.7 * thickness, 0.95 * depth.max())
    assert np.hypot(*warp)[deep].max() * SPACING < 0.15 * thickness
    # Backward displacement points outwards: the tissue itself goes inwards.
    y, x = np.indices(HEAD.shape) - 59.5
    outwards = (warp[0] * y + warp[1] * x)[under]
    assert (outwards > 0).all()


def test_push_of_no_layer_is_nothing():
    assert not np.abs(warps.push_warp(HEAD, np.zeros(HEAD.shape), SPACING)).max() > 1e-3


@pytest.mark.parametrize("shift", [3.0, 9.0, 15.0])
def test_shift_is_exact_and_keeps_the_border(shift):
    warp = warps.shift_warp(HEAD, (59.5, 59.5), (0.0, shift), SPACING)
    assert np.hypot(*warp).max() * SPACING == pytest.approx(shift)
    assert not warp[0].any()
    assert not warp[:, ~HEAD].any()
    assert warps.jacobian_determinant(warp).min() > 0.25
    line = np.zeros(HEAD.shape)
    line[:, 59:61] = 1.0
    moved = warps.displaced(line, warp)[58:62]
    assert ndimage.center_of_mass(moved)[1] - 59.5 == pytest.approx(shift / SPACING, abs=0.5)


def test_shift_follows_its_centre():
    warp = warps.shift_warp(HEAD, (40.0, 75.0), (4.0, 0.0), SPACING)
    row, column = np.unravel_index(np.hypot(*warp).argmax(), HEAD.shape)
    assert abs(row - 40 - 4 / SPACING) <= 2
    assert abs(column - 75) <= 2


@pytest.mark.parametrize("growth", [0.1, 0.3, 0.6])
def test_dilation_reaches_its_growth_without_folds(growth):
    fluid = ndimage.gaussian_filter(disc(8, 59.5, 48).astype(float) + disc(6, 59.5, 72), 0.7)
    warp, reached = warps.dilation_warp(fluid, growth, np.ones(HEAD.shape), 20.0, SPACING)
    assert reached == pytest.approx(growth, abs=0.02)
    assert warps.displaced(fluid, warp).sum() / fluid.sum() - 1 == pytest.approx(reached)
    assert warps.jacobian_determinant(warp).min() > 0
    assert np.hypot(*warp)[~disc(45)].max() < 0.05


def test_dilation_stops_at_the_largest_displacement_and_where_nothing_may_move():
    fluid = disc(8).astype(float)
    warp, reached = warps.dilation_warp(fluid, 0.6, np.ones(HEAD.shape), 1.0, SPACING)
    assert np.hypot(*warp).max() * SPACING <= 1.0
    assert 0 < reached < 0.6
    half = (np.indices(HEAD.shape)[1] > 59.5).astype(float)
    warp, _ = warps.dilation_warp(fluid, 0.2, half, 20.0, SPACING)
    assert np.abs(warp[:, :, :55]).max() < 1e-9
    warp, reached = warps.dilation_warp(np.zeros(HEAD.shape), 0.2, half, 20.0, SPACING)
    assert reached == 0
    assert not warp.any()
