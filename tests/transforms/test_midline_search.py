"""The mirror that is found against motions that are known, and its confidence against pictures that have none."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.transforms.midline_search import find_midline, find_midplane


def phantom(angle: float = 0.0, right: float = 0.0, shape: tuple[int, int] = (128, 128)) -> np.ndarray:
    """A symmetric head (1, H, W) drawn analytically: turned clockwise by ``angle`` after moving right by ``right``.

    The aligner has to turn it back counter-clockwise by ``angle`` and move it left by ``right``.
    """
    rows, columns = np.indices(shape, dtype=np.float64)
    y, x = rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    # Coordinates in the head: undo the clockwise turn, then the move.
    across, down = c * x + s * y - right, -s * x + c * y
    unit = min(shape) / 128

    def inside(dy, dx, ry, rx):
        distance = np.hypot((down - dy * unit) / (ry * unit), (np.abs(across) - dx * unit) / (rx * unit))
        return 1 / (1 + np.exp((distance - 1) * 25))

    head = inside(0, 0, 48, 38) - 0.6 * inside(0, 0, 44, 34)
    return (head + 0.3 * inside(-6, 9, 14, 4) - 0.2 * inside(25, 14, 6, 5)).astype(np.float32)[None]


@pytest.mark.parametrize(("angle", "right"), list(product((-12.0, -4.3, 0.0, 8.0, 14.0), (-9.0, 0.0, 5.5))))
def test_known_motion_is_recovered(angle, right):
    found_angle, found_shift, _ = find_midline(phantom(angle, right))
    assert found_angle == pytest.approx(angle, abs=0.5)
    assert found_shift == pytest.approx(-right, abs=0.5)


@pytest.mark.parametrize("shape", [(96, 128), (129, 101), (256, 256)])
def test_other_grids(shape):
    angle, shift, _ = find_midline(phantom(6.0, 4.0, shape))
    assert angle == pytest.approx(6.0, abs=0.5)
    assert shift == pytest.approx(-4.0, abs=0.5)


def test_clockwise_means_what_the_docstring_says():
    # scipy turns a picture counter-clockwise for positive angles: the aligner has to turn back.
    turned = ndimage.rotate(phantom()[0], 7.0, reshape=False, order=1)[None]
    assert find_midline(turned)[0] == pytest.approx(-7.0, abs=0.5)


def test_scanner_table_and_scale_do_not_matter():
    image = phantom(5.0, 3.0)
    with_table = image.copy()
    with_table[0, 122:126, 10:70] = 1.0
    expected = pytest.approx(find_midline(image)[:2], abs=0.3)
    assert find_midline(with_table)[:2] == expected
    assert find_midline(image * 700 - 100)[:2] == expected


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_constant_image(value):
    assert find_midline(np.full((2, 32, 32), value)) == (0.0, 0.0, 0.0)


def head_volume(shape=(48, 56, 44), spacing=4.0, yaw=0.0, roll=0.0, right=0.0):
    """A symmetric head (1, X, Y, Z) in RAS and its affine: moved to the right (mm), then rolled and turned (degrees).

    Also returns the true normal of its mid-sagittal plane and the plane's distance from the world's origin.
    """
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [-spacing * (n - 1) / 2 for n in shape]
    x, y, z = (affine[i, i] * np.indices(shape)[i] + affine[i, 3] for i in range(3))
    a, b = np.deg2rad([yaw, roll])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    )
    across, ahead, up = np.einsum("ij,j...->i...", turn.T, np.stack([x, y, z]))
    across = np.abs(across - right)

    def inside(centre, radii):
        parts = [(q - c) / r for q, c, r in zip((across, ahead, up), centre, radii, strict=True)]
        return 1 / (1 + np.exp(12 * (np.sqrt(sum(part**2 for part in parts)) - 1)))

    head = inside((0, 0, 0), (70, 90, 75)) - 0.5 * inside((0, 0, 0), (62, 82, 67))
    head = head + 0.4 * inside((16, 10, 8), (9, 30, 14)) - 0.2 * inside((35, -30, -10), (14, 16, 16))
    return head.astype(np.float32)[None], affine, turn[:, 0], right


def textured(angle=0.0, right=0.0, size=128):
    """A half of random blobs and its mirror image, turned clockwise by an angle after moving right."""
    blobs = ndimage.gaussian_filter(np.random.RandomState(3).rand(size, size), 4)
    blobs = (blobs - blobs.min()) / np.ptp(blobs)
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    across, down = np.abs(c * columns + s * rows - right), -s * columns + c * rows
    inside = np.hypot(down / 52, across / 40) < 1
    middle = (size - 1) / 2
    return (inside * (0.3 + ndimage.map_coordinates(blobs, [down + middle, across + middle], order=1)))[None]


@pytest.mark.parametrize(("angle", "right"), [(0.0, 0.0), (7.3, 4.0), (-11.0, -6.5)])
def test_mirrored_random_half_is_found_within_half_a_degree_and_pixel(angle, right):
    found = find_midline(textured(angle, right))
    assert found.angle == pytest.approx(angle, abs=0.5)
    assert found.shift == pytest.approx(-right, abs=0.5)
    assert found.confidence > 0.8


def spoilt(kind):
    """The head at 6 degrees and 3 pixels with something that only one side has."""
    image = textured(6.0, 3.0)
    rows, columns = np.indices(image.shape[1:])
    if kind == "lesion":
        image[0][np.hypot(rows - 60, columns - 88) < 11] = 1.3
    elif kind == "swelling":
        near = ndimage.binary_dilation(image[0] > 0, iterations=6) & (image[0] == 0)
        image[0][near & (columns > 64) & (np.abs(rows - 60) < 25)] = 0.6
    elif kind == "text":
        image[0, 2:9, 4:50] = 1.5 * np.random.RandomState(0).rand(7, 46)
    elif kind == "blanked":
        image[0, :, : np.flatnonzero(image[0].any(axis=0))[0] + 9] = 0
    return image


@pytest.mark.parametrize("kind", ["lesion", "swelling", "text", "blanked"])
def test_one_sided_things_do_not_pull_the_line(kind):
    found = find_midline(spoilt(kind))
    assert found.angle == pytest.approx(6.0, abs=1.0)
    assert found.shift == pytest.approx(-3.0, abs=1.0)


def test_confidence_orders_good_over_bad():
    random = np.random.RandomState(1)
    whole = textured(6.0, 3.0)
    good = find_midline(whole).confidence
    # The same head at the border of the field of view, a third of it outside.
    outside = np.zeros_like(whole)
    outside[..., :85] = np.roll(whole, -48, axis=-1)[..., :85]
    asymmetric = ndimage.gaussian_filter(random.rand(1, 128, 128), (0, 4, 4)) * (whole > 0)
    bad = {
        "noise": find_midline(random.rand(1, 128, 128)).confidence,
        "ramp": find_midline(np.mgrid[:128, :128][1][None] / 127.0).confidence,
        "cut": find_midline(outside).confidence,
        "no mirror image within": find_midline(asymmetric).confidence,
    }
    assert good > 0.8
    assert max(bad.values()) < 0.5, bad
    assert all(0 <= value <= 1 for value in bad.values())


def test_channels_count_the_same_and_a_blank_one_not_at_all():
    image = textured(5.0, 2.0)
    alone = find_midline(image)
    assert find_midline(np.concatenate([image, np.zeros_like(image)])) == alone
    assert find_midline(np.concatenate([100 * image, image]))[:2] == pytest.approx(alone[:2], abs=0.1)


@pytest.mark.parametrize(("yaw", "roll", "right"), [(0.0, 0.0, 0.0), (8.0, -6.0, 7.0), (-11.0, 4.0, -9.0)])
def test_plane_is_found_within_a_degree_and_a_millimetre(yaw, roll, right):
    volume, affine, normal, offset = head_volume(yaw=yaw, roll=roll, right=right)
    found = find_midplane(volume, affine)
    assert np.rad2deg(np.arccos(min(1.0, float(np.dot(found.normal, normal))))) < 1.0
    assert found.offset_mm == pytest.approx(offset, abs=1.0)
    assert found.confidence > 0.5


def test_plane_of_flipped_swapped_and_oblique_storage_is_the_same_place():
    volume, affine, normal, offset = head_volume(yaw=4.0, roll=3.0, right=-5.0)
    flipped = affine @ np.array([[-1, 0, 0, volume.shape[1] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    swapped = affine[:, [2, 1, 0, 3]]
    c, s = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    cases = {
        "flipped": (volume[:, ::-1], flipped, normal),
        "swapped": (volume.transpose(0, 3, 2, 1), swapped, normal),
        "oblique": (volume, turn @ affine, turn[:3, :3] @ normal),
    }
    for name, (stored, where, expected) in cases.items():
        found = find_midplane(stored, where)
        assert np.rad2deg(np.arccos(min(1.0, float(np.dot(found.normal, expected))))) < 1.0, name
        assert found.offset_mm == pytest.approx(offset, abs=1.0), name


def test_constant_volume_has_no_plane():
    found = find_midplane(np.ones((1, 12, 10, 8)), np.diag([2.0, 2.0, 2.0, 1.0]))
    assert found.confidence == 0
    assert found.normal == pytest.approx((1.0, 0.0, 0.0))
    assert found.offset_mm == pytest.approx(11.0)
