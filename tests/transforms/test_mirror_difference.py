"""Mirror differences against brute force and against pictures whose asymmetry is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.mirror_difference import (
    MirrorDifference,
    MirrorDifferenced,
    MirrorRange,
    MirrorRanged,
    lateral_axis,
)

NDARRAYS = (np.asarray, torch.as_tensor, lambda a: MetaTensor(torch.as_tensor(a)))


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


@pytest.mark.parametrize("make", NDARRAYS)
def test_symmetric_image_has_no_difference(make):
    out = MirrorDifference(0)(make(phantom()))
    assert isinstance(out, MetaTensor)
    assert out.shape == (1, 128, 128)
    assert float(out.max()) < 1e-6


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2])
def test_difference_equals_brute_force(tolerance):
    image = np.random.RandomState(0).rand(2, 9, 8).astype(np.float32)
    expected = np.full_like(image, np.inf)
    for c, y, x in np.ndindex(*image.shape):
        for down, right in product(range(-2, 3), repeat=2):
            if down**2 + right**2 <= tolerance**2:
                row, column = np.clip(y + down, 0, 8), np.clip(x + right, 0, 7)
                expected[c, y, x] = min(expected[c, y, x], abs(image[c, y, x] - image[c, row, 7 - column]))
    np.testing.assert_allclose(MirrorDifference(tolerance)(image).numpy(), expected, atol=1e-7)


def test_one_sided_blob_stands_out_and_tolerance_forgives_a_pixel():
    image = phantom()
    image[0, 60:72, 80:92] += 0.3
    difference = MirrorDifference(1)(image)[0].numpy()
    assert difference[62:70, 82:90].min() > 0.25
    assert difference[20:40].max() < 1e-6
    moved = np.roll(phantom(), 1, axis=2)
    assert MirrorDifference(2)(moved).mean() < 0.3 * MirrorDifference(0)(moved).mean()


def test_difference_dictionary():
    data = {"ct": phantom(), "mri": phantom(0, 3)}
    out = MirrorDifferenced(("ct", "mri"), tolerance=0, new_key_prefix="mirror_")(data)
    np.testing.assert_array_equal(out["mri"], data["mri"])
    assert float(out["mirror_ct"].max()) < 1e-6
    assert float(out["mirror_mri"].max()) > 0.1
    replaced = MirrorDifferenced("ct")(data)
    assert float(replaced["ct"].max()) < 1e-6
    assert data["ct"].max() > 0.3


def test_whole_numbers_are_accepted():
    out = MirrorDifference(0)((phantom() * 100).astype(np.uint8))
    assert out.is_floating_point()


def test_difference_bad_input():
    with pytest.raises(InputError, match="tolerance"):
        MirrorDifference(-1)
    with pytest.raises(InputError, match="shape"):
        MirrorDifference()(np.zeros((4, 4)))


def plain_range(**options):
    return MirrorRange(**{"pixel_spacing_mm": 1.0, "median_mm": 0, **options})


@pytest.mark.parametrize("sign", ["both", "brighter", "darker"])
@pytest.mark.parametrize("tolerance", [0, 1, 2.3])
def test_range_equals_brute_force(tolerance, sign):
    image = np.random.RandomState(0).rand(2, 9, 8)
    expected = np.zeros_like(image)
    for c, y, x in np.ndindex(*image.shape):
        near = [
            image[c, np.clip(y + down, 0, 8), 7 - np.clip(x + right, 0, 7)]
            for down, right in product(range(-2, 3), repeat=2)
            if down**2 + right**2 <= tolerance**2
        ]
        brighter, darker = max(image[c, y, x] - max(near), 0), max(min(near) - image[c, y, x], 0)
        expected[c, y, x] = {"both": brighter + darker, "brighter": brighter, "darker": darker}[sign]
    np.testing.assert_allclose(plain_range(tolerance_mm=tolerance, sign=sign)(image).numpy(), expected, atol=1e-7)


def test_tolerance_is_in_millimetres_along_each_axis():
    """A pixel of 1 x 3 mm: 3 mm reach three rows up and one column across."""
    image = np.zeros((1, 15, 15))
    image[0, 7, 10] = 1.0
    for row, column, forgiven in ((10, 4, True), (11, 4, False), (7, 5, True), (7, 6, False)):
        other = image.copy()
        other[0, row, column] = 1.0
        found = plain_range(tolerance_mm=3.0, pixel_spacing_mm=(1.0, 3.0))(other)[0, 7, 10]
        assert (float(found) == 0) is forgiven, (row, column)


def test_a_side_moved_by_less_than_the_tolerance_gives_nothing():
    random = np.random.RandomState(1).rand(1, 40, 20).astype(np.float32)
    whole = np.concatenate([random, random[..., ::-1]], axis=-1)
    moved = whole.copy()
    moved[:, 2:, 20:] = whole[:, :-2, 20:]
    inner = (slice(None), slice(5, -5), slice(5, -5))
    assert float(plain_range(tolerance_mm=2.0)(moved)[inner].max()) == 0
    assert float(plain_range(tolerance_mm=1.0)(moved)[inner].max()) > 0.1


def test_median_takes_single_pixels_away():
    image = np.zeros((1, 32, 32), dtype=np.float32)
    image[0, 5, 5] = 1.0
    image[0, 15:22, 4:11] = 1.0
    out = plain_range(tolerance_mm=0, median_mm=3)(image)[0]
    assert float(out[5, 5]) == 0
    assert float(out[18, 7]) == 1


def test_mask_says_which_side_is_to_blame():
    """A dark hole on one side: without a mask its healthy twin counts as brighter, within one the hole alone counts."""
    image = np.full((1, 32, 32), 0.5, dtype=np.float32)
    image[0, 10:18, 4:10] = 0.0
    mask = np.ones((1, 32, 32), dtype=np.float32)
    both = plain_range(tolerance_mm=0)
    assert float(both(image)[0, 14, 25]) == pytest.approx(0.5)
    assert float(both(image, mask)[0, 14, 25]) == 0
    assert float(both(image, mask)[0, 14, 6]) == pytest.approx(0.5)
    assert float(plain_range(tolerance_mm=0, sign="brighter")(image, mask).max()) == 0
    mask[0, 14, 25] = 0
    assert float(both(image, mask)[0, 14, 6]) == 0


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA", "AIR"])
def test_volume_of_any_orientation_is_mirrored_left_to_right(codes):
    import nibabel

    image = np.zeros((16, 12, 10))
    image[3, 6, 5] = image[3, 7, 5] = 1.0
    image[12, 7, 5] = 1.0
    stored = nibabel.Nifti1Image(image, np.diag([2.0, 2.0, 2.0, 1.0]))
    from_ras = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    stored = stored.as_reoriented(from_ras)
    tensor = MetaTensor(torch.as_tensor(stored.get_fdata()[None].copy()), affine=torch.as_tensor(stored.affine))
    assert 3 + lateral_axis(tensor) == "".join(codes).replace("L", "R").index("R")
    assert float(MirrorRange(0.0, median_mm=0)(tensor).sum()) == 2.0
    assert float(MirrorRange(2.0, median_mm=0)(tensor).max()) == 0.0


@pytest.mark.parametrize("make", NDARRAYS)
def test_range_keeps_type_and_input(make):
    raw = phantom(0, 4)
    image = make(raw.copy())
    out = MirrorRange(pixel_spacing_mm=1.875)(image)
    assert isinstance(out, MetaTensor)
    assert out.shape == raw.shape
    np.testing.assert_array_equal(np.asarray(image), raw)
    assert plain_range()((raw * 100).astype(np.uint8)).is_floating_point()


def test_range_dictionary():
    data = {"ct": phantom(), "mri": phantom(0, 6), "brain": (phantom() > 0.2).astype(np.float32)}
    out = MirrorRanged(("ct", "mri"), 0.0, pixel_spacing_mm=1.0, mask_key="brain", new_key_prefix="mirror_")(data)
    assert float(out["mirror_ct"].max()) < 1e-6
    assert float(out["mirror_mri"].max()) > 0.1
    assert float(out["mirror_mri"][data["brain"] == 0].max()) == 0
    np.testing.assert_array_equal(out["mri"], data["mri"])
    assert float(MirrorRanged("ct", pixel_spacing_mm=1.0)(data)["ct"].max()) < 1e-6
    with pytest.raises(InputError, match="brain"):
        MirrorRanged("ct", mask_key="brain")({"ct": phantom()})


def test_range_bad_input():
    for options in ({"tolerance_mm": -1}, {"median_mm": float("nan")}, {"sign": "odd"}):
        with pytest.raises(InputError, match=next(iter(options))):
            MirrorRange(**options)
    with pytest.raises(InputError, match="pixel_spacing_mm"):
        MirrorRange()(phantom())
    with pytest.raises(InputError, match="shape"):
        plain_range()(np.zeros((4, 4)))
    with pytest.raises(InputError, match="mask"):
        plain_range()(phantom(), np.ones((1, 4, 4)))
