"""Mass effect and loss of volume: direction, size, a fixed skull and no folds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.lesion_painting import displace
from monai_ctmri.transforms.lesion_warps import checked_mass_effect, radial_warp

SIZE = 128
ROWS, COLUMNS = np.indices((SIZE, SIZE))


def disc(row: float, column: float, radius: float) -> np.ndarray:
    return np.hypot(ROWS - row, COLUMNS - column) <= radius


BRAIN = disc(63.5, 63.5, 55)
CORE = disc(60, 85, 10)


@pytest.mark.parametrize("spacing", [0.9, 1.8])
@pytest.mark.parametrize("outward", [2.0, 5.0, -3.0])
def test_movement_at_the_border_of_the_core_is_what_was_asked(spacing, outward):
    warp = radial_warp(CORE, BRAIN, outward, spacing)
    size = np.hypot(*warp) * spacing
    assert size.max() == pytest.approx(abs(outward), rel=0.05)
    far = np.hypot(ROWS - 60, COLUMNS - 85) * spacing > 10 * spacing + 46
    assert not warp[:, far].any()


def test_a_landmark_is_pushed_away_and_drawn_near():
    for outward in (5.0, -5.0):
        landmark = disc(60, 68, 3) * 1.0
        moved = displace(landmark, radial_warp(CORE, BRAIN, outward, 1.0))
        shift = ndimage.center_of_mass(moved)[1] - 68
        assert np.sign(shift) == -np.sign(outward)
        assert 2.5 < abs(shift) < 5


def test_ventricle_is_squeezed_by_mass_and_widened_by_loss():
    """A long space beside the core gets narrower when pushed against the far side and wider when drawn in."""
    ventricle = ((np.abs(COLUMNS - 64) < 8) & (np.abs(ROWS - 60) < 14)) * 1.0
    mass = displace(ventricle, radial_warp(CORE, BRAIN, 5.0, 1.0))[60].sum()
    loss = displace(ventricle, radial_warp(CORE, BRAIN, -5.0, 1.0))[60].sum()
    assert mass < 0.97 * ventricle[60].sum() < ventricle[60].sum() < 0.97 * loss


@pytest.mark.parametrize("outward", [-15.0, -6.0, 6.0, 15.0])
@pytest.mark.parametrize("core", [disc(60, 85, 4), CORE, disc(60, 105, 14)])
def test_nothing_folds(outward, core):
    warp = radial_warp(core & BRAIN, BRAIN, outward, 1.0)
    (rr, rc), (cr, cc) = np.gradient(warp[0]), np.gradient(warp[1])
    assert ((1 + rr) * (1 + cc) - rc * cr).min() > 0


def test_movement_is_limited_by_the_radius():
    warp = radial_warp(disc(60, 64, 5), BRAIN, 15.0, 1.0)
    assert np.hypot(*warp).max() <= 0.6 * 5.2


def test_skull_stands_still():
    near = disc(60, 108, 8) & BRAIN
    warp = radial_warp(near, BRAIN, 5.0, 1.0)
    assert not warp[:, ~BRAIN].any()
    edge = BRAIN & ~ndimage.binary_erosion(BRAIN)
    assert np.hypot(*warp)[edge].max() < 0.35


def test_nothing_to_move():
    assert not radial_warp(np.zeros_like(BRAIN), BRAIN, 5.0, 1.0).any()
    assert not radial_warp(CORE, BRAIN, 0.0, 1.0).any()


@pytest.mark.parametrize("value", [-1, 15.1, float("nan")])
def test_bad_movement_is_named(value):
    with pytest.raises(InputError, match="volume_loss_mm"):
        checked_mass_effect(value, "volume_loss_mm")
    assert checked_mass_effect(4) == 4.0
