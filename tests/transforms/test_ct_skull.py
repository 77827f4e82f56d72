"""Hounsfield units brought to [0, 1] and the region that bone encloses, drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ctmri.transforms.ct_skull import inside_skull, to_unit_range

R = np.hypot(*(np.mgrid[:100, :100] - 49.5))
RING = ((R >= 34) & (R < 40)).astype(np.float32)


def test_windowed_channels_are_left_alone():
    channels = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    assert to_unit_range(channels, {"windowed": False}, 0, 0.05) is channels


def test_air_and_bone_meet_their_thresholds():
    hu = np.array([[[-1000, -301, -300, -299, 40, 299, 300, 2000]]], dtype=np.float32)
    unit = to_unit_range(hu, {}, 0, 0.05)[0, 0]
    np.testing.assert_array_equal(unit > 0.05, hu[0, 0] > -300)
    np.testing.assert_array_equal(unit >= 0.99, hu[0, 0] >= 300)
    assert (np.diff(unit) >= 0).all()


@pytest.mark.parametrize(
    ("meta", "changed"),
    [
        ({}, False),
        ({"windowed": True}, False),
        ({"windowed": False}, True),
        ({"windowed": False, "window": (40.0, 80.0)}, False),
        ({"windowed": False, "modality": "mri"}, False),
    ],
)
def test_values_without_air_need_the_word_of_meta(meta: dict, changed: bool):
    clipped = np.array([[[0.0, 35.0, 80.0]]])
    assert (to_unit_range(clipped, meta, 0, 0.05) is not clipped) is changed


def test_only_the_channel_in_hounsfield_units_changes():
    hu, mri = np.array([[-1000.0, 500.0]]), np.array([[0.2, 0.7]])
    np.testing.assert_array_equal(to_unit_range(np.stack([hu, mri]), {}, 0, 0.05)[1], mri)


def test_inside_of_a_closed_ring_is_exact():
    np.testing.assert_array_equal(inside_skull(RING, 40.0, 100), R < 34)


def test_ring_with_a_gap_is_closed_and_without_a_third_is_not():
    """The largest disk, 15 % of the radius of 40 pixels, closes gaps under 12 pixels."""
    rows, columns = np.mgrid[:100, :100]
    gap = RING * ~((np.abs(columns - 50) < 4) & (rows < 50))
    found = inside_skull(gap, 40.0, 100)
    assert 2 * (found & (R < 34)).sum() / (found.sum() + (R < 34).sum()) > 0.98
    assert not inside_skull(RING * (rows > 35), 40.0, 100).any()


def test_too_small_a_region_is_refused():
    assert not inside_skull(RING, 40.0, 5000).any()
    assert not inside_skull(np.zeros((20, 20)), 8.0, 1).any()
