"""K-space against Parseval, shift theorem, point sources and polynomials."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.transforms.k_space import bias_field, from_k_space, ghosts, move, moved_k_space, spike, to_k_space


def picture(rows: int = 64, columns: int = 48) -> np.ndarray:
    """Smooth blobs within wide dark margins."""
    noise = ndimage.gaussian_filter(np.random.RandomState(0).uniform(0, 1, (rows, columns)), 2)
    y, x = np.indices((rows, columns))
    inside = np.hypot((y - rows / 2) / (0.3 * rows), (x - columns / 2) / (0.3 * columns)) < 1
    return ndimage.gaussian_filter(noise * inside, 1.0)


@pytest.mark.parametrize("shape", [(64, 48), (65, 47)])
def test_there_and_back_and_energy(shape: tuple[int, int]):
    image = picture(*shape)
    k = to_k_space(image)
    np.testing.assert_allclose(from_k_space(k), image, atol=1e-12)
    assert (np.abs(k) ** 2).sum() / image.size == pytest.approx((image**2).sum())
    assert k[shape[0] // 2, shape[1] // 2] == pytest.approx(image.sum())


def test_move_shifts_forwards_and_turns_rows_towards_columns():
    image = picture()
    np.testing.assert_allclose(move(image, (0.0, 5.0, -3.0)), np.roll(image, (5, -3), (0, 1)), atol=1e-6)
    square = picture(64, 64)
    quarter = move(square, (90.0, 0.0, 0.0))
    # (row, column) about the middle becomes (-column, row): what lay below lies to the right.
    np.testing.assert_allclose(quarter, np.rot90(square, 1), atol=1e-6)
    back = move(move(square, (20.0, 0.0, 0.0)), (-20.0, 0.0, 0.0))
    assert np.abs(back - square).max() < 0.03 * square.max()
    np.testing.assert_array_equal(move(np.ones((8, 8)), (0.0, 0.0, 3.0), fill=-1.0)[:, :3], -1.0)


def test_only_lines_read_after_a_movement_change():
    image = picture()
    whole = to_k_space(image)
    poses, starts = [(0.0, 3.0, 0.0), (4.0, 1.0, 1.0), (0.0, 0.0, 3.0)], [0, 20, 45]
    moved = moved_k_space(image, poses, starts)
    np.testing.assert_array_equal(moved[20:45], whole[20:45])  # holds the middle: reference pose
    assert (np.abs(moved - whole)[:20].max(axis=1) > 1e-6).all()
    assert (np.abs(moved - whole)[45:].max(axis=1) > 1e-6).all()
    # Shift theorem, for the stretch that was shifted by whole pixels only.
    line = np.arange(64) - 32
    np.testing.assert_allclose(moved[:20], (whole * np.exp(-2j * np.pi * line * 3 / 64)[:, None])[:20], atol=1e-4)
    column = np.arange(48) - 24
    np.testing.assert_allclose(moved[45:], (whole * np.exp(-2j * np.pi * column * 3 / 48))[45:], atol=1e-4)
    # A shift turns phases only.
    assert (np.abs(moved[:20]) ** 2).sum() == pytest.approx((np.abs(whole[:20]) ** 2).sum(), rel=1e-4)


def test_no_movement_no_change():
    image = picture()
    np.testing.assert_allclose(moved_k_space(image, [(0.0, 0.0, 0.0)] * 2, [0, 40]), to_k_space(image), atol=1e-9)


@pytest.mark.parametrize(("rows", "shift"), [(64, 16), (65, 11)])
def test_a_point_has_its_ghosts_at_the_stated_shift(rows: int, shift: int):
    image = np.zeros((rows, 20))
    image[30, 7] = 1.0
    found = ghosts(image, shift, 0.2, phase=0.7)
    expected = image.copy()
    expected[30 - shift, 7] = expected[(30 + shift) % rows, 7] = 0.2
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_ghosts_wrap_around_the_field_of_view_and_add_where_in_phase():
    image = np.zeros((32, 4))
    image[28, 1] = 0.5
    found = ghosts(image, 10, 0.1)
    assert found[(28 + 10) % 32, 1] == pytest.approx(0.05)
    np.testing.assert_allclose(ghosts(np.full((32, 4), 0.5), 10, 0.1), 0.6)  # both ghosts lie on the picture
    np.testing.assert_allclose(ghosts(np.full((32, 4), 0.5), 10, 0.1, np.pi), 0.4)


@pytest.mark.parametrize("at", [(5, -3), (0, 9), (-12, 0)])
@pytest.mark.parametrize("shape", [(64, 48), (63, 47)])
def test_spike_is_one_wave_of_stated_height(at: tuple[int, int], shape: tuple[int, int]):
    image = picture(*shape)
    change = spike(image, at, 0.07) - image
    spectrum = np.abs(to_k_space(change)) / image.size
    middle = np.array(shape) // 2
    for sign in (1, -1):
        place = tuple((middle + sign * np.array(at)) % shape)
        assert spectrum[place] == pytest.approx(0.035, rel=1e-3)
        spectrum[place] = 0
    assert spectrum.max() < 1e-6
    # cos^2 has mean 1/2: the height is that of a wave.
    assert change.std() == pytest.approx(0.07 / np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("strength", [0.2, 0.8])
def test_bias_has_its_strength_in_the_head_and_is_a_low_polynomial(strength: float):
    head = np.zeros((60, 50), bool)
    head[10:50, 8:40] = True
    field = bias_field(np.random.RandomState(1), head, strength)
    low, high = np.percentile(np.log(field[head]), (2.5, 97.5))
    assert high == pytest.approx(np.log1p(strength))
    assert low == pytest.approx(-np.log1p(strength))
    y, x = (np.linspace(-1, 1, n) for n in head.shape)
    basis = np.stack([np.outer(y**i, x**j).ravel() for i in range(4) for j in range(4)], axis=1)
    residual = np.log(field).ravel() - basis @ np.linalg.lstsq(basis, np.log(field).ravel(), rcond=None)[0]
    assert np.abs(residual).max() < 1e-4
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(field, bias_field(np.random.RandomState(2), head, strength), rtol=0.05)
