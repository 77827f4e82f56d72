"""The head's outline: scale, size, frames, noise, and heads that reach the border."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ctmri.data.looking.outline import GRID, brightness, cut_off_share, find_head, rays, shrink


def disc(size=256, radius=80.0, centre=(128.0, 128.0), value=0.8, columns=None):
    rows, cols = np.mgrid[:size, : columns or size]
    return np.where((rows - centre[0]) ** 2 + (cols - centre[1]) ** 2 <= radius**2, value, 0.0).astype(np.float32)


def test_hounsfield_units_get_the_brain_window():
    plane = np.array([[-1000.0, 0.0], [40.0, 900.0]])
    expected = [[0.0, 0.0], [0.5, 1.0]]
    np.testing.assert_allclose(brightness(plane, windowed=False, modality="ct"), expected)
    np.testing.assert_allclose(brightness(plane, windowed=False, modality=None), expected)  # only air is at -1000


def test_mri_runs_between_percentiles():
    plane = np.arange(1001, dtype=float).reshape(7, 143)
    bright = brightness(plane, windowed=False, modality="mri")
    assert bright.min() == 0.0
    assert bright.max() == 1.0
    assert bright.ravel()[500] == pytest.approx((500 - 10) / (995 - 10), abs=1e-4)


def test_grey_levels_keep_their_shape_whatever_their_scale():
    plane = np.random.default_rng(0).random((9, 11)).astype(np.float32)
    for scaled in (plane, 255 * plane, 65535 * plane + 100):
        bright = brightness(scaled, windowed=True, modality=None)
        np.testing.assert_allclose(bright, (plane - plane.min()) / np.ptp(plane), atol=1e-4)


@pytest.mark.parametrize("shape", [(512, 512), (300, 200), (150, 180), (128, 128), (64, 40), (8, 8), (700, 3), (1, 1)])
def test_shrink_gives_one_size_and_keeps_the_mean(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    small = shrink((rows + columns).astype(np.float32))
    assert max(small.shape) == GRID
    assert small.mean() == pytest.approx((rows + columns).mean(), abs=0.02)


def test_shrink_takes_block_means():
    plane = np.random.default_rng(1).random((512, 256)).astype(np.float32)
    np.testing.assert_allclose(shrink(plane), plane.reshape(128, 4, 64, 4).mean(axis=(1, 3)), rtol=1e-5)


def test_the_head_is_found_at_its_place_and_size():
    head = find_head(disc(centre=(120.0, 140.0)))
    assert head is not None
    assert head.radius == pytest.approx(40, rel=0.03)
    assert head.centre == pytest.approx((60, 70), abs=0.6)
    assert head.grey.max() == 1.0


def test_holes_are_part_of_the_head_and_headrests_are_not():
    plane = disc() - disc(radius=60)
    plane[240:244] = 1.0
    head = find_head(plane)
    assert head is not None
    assert head.mask.sum() == pytest.approx(np.pi * 40**2, rel=0.05)


def test_grey_air_inside_a_black_frame_is_not_the_head():
    noise = np.random.default_rng(2).normal(0.15, 0.01, (256, 256)).astype(np.float32)
    plane = np.where(disc() > 0, 0.8, noise).astype(np.float32)
    plane[:6] = plane[-6:] = 0
    plane[:, :6] = plane[:, -6:] = 0
    head = find_head(plane)
    assert head is not None
    assert head.mask.sum() == pytest.approx(np.pi * 40**2, rel=0.1)


@pytest.mark.parametrize("frame", [0, 5])
def test_noise_is_no_head(frame):
    plane = np.random.default_rng(3).random((256, 256)).astype(np.float32)
    if frame:
        plane[:frame] = plane[:, :frame] = 0
    assert find_head(plane) is None


@pytest.mark.parametrize("shape", [(64, 64), (8, 8), (1, 1), (3, 500)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_one_value_everywhere_is_no_head(shape, value):
    assert find_head(np.full(shape, value, dtype=np.float32)) is None


def test_rays_run_from_the_outline_inwards():
    rows, columns = np.mgrid[:256, :256]
    distance = np.hypot(rows - 128, columns - 128)
    head = find_head(disc())
    profiles = rays(head, shrink((distance / 160).astype(np.float32)))
    assert profiles.shape == (96, 60)
    expected = (1 - np.arange(60) * 0.01) * 0.5
    np.testing.assert_allclose(profiles.mean(axis=0), expected, atol=0.02)


def test_air_all_around_or_a_touch_is_not_cut_off():
    assert cut_off_share(find_head(disc())) == 0
    plane = disc()[48:209, 48:209]
    assert plane[0].any()
    assert plane[:, -1].any()
    assert cut_off_share(find_head(plane)) < 0.02


def test_the_share_is_the_chord_over_the_outline():
    # Cut through the centre: the chord 2 r of an outline of pi r + 2 r, less what a mere touch would take of it.
    share = cut_off_share(find_head(disc()[128:]))
    assert 0.2 < share < 2 / (np.pi + 2)


def test_deeper_cuts_count_more_on_every_side():
    shares = [cut_off_share(find_head(disc()[:, 48 + cut :])) for cut in (0, 30, 50, 80)]
    assert shares == sorted(shares)
    assert shares[0] < 0.02 < shares[1]
    plane = disc()[:, 100:]
    sides = [cut_off_share(find_head(np.ascontiguousarray(np.rot90(plane, turn)))) for turn in range(4)]
    assert max(sides) - min(sides) < 0.03
