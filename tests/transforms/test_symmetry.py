"""Mid-sagittal alignment against known motions, and the mirror difference against brute force."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import symmetry
from monai_ctmri.transforms.symmetry import (
    MidsagittalAlign,
    MidsagittalAlignd,
    MirrorDifference,
    MirrorDifferenced,
    align_midsagittal,
    find_midline,
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


@pytest.mark.parametrize(("angle", "right"), list(product((-12.0, -4.3, 0.0, 8.0, 14.0), (-9.0, 0.0, 5.5))))
def test_known_motion_is_recovered(angle, right):
    found_angle, found_shift = find_midline(phantom(angle, right))
    assert found_angle == pytest.approx(angle, abs=1.0)
    assert found_shift == pytest.approx(-right, abs=1.0)


@pytest.mark.parametrize("shape", [(96, 128), (129, 101), (256, 256)])
def test_other_grids(shape):
    angle, shift = find_midline(phantom(6.0, 4.0, shape))
    assert angle == pytest.approx(6.0, abs=1.0)
    assert shift == pytest.approx(-4.0, abs=1.0)


def test_clockwise_means_what_the_docstring_says():
    # scipy turns a picture counter-clockwise for positive angles: the aligner has to turn back.
    turned = ndimage.rotate(phantom()[0], 7.0, reshape=False, order=1)[None]
    assert find_midline(turned)[0] == pytest.approx(-7.0, abs=1.0)


def test_scanner_table_and_scale_do_not_matter():
    image = phantom(5.0, 3.0)
    with_table = image.copy()
    with_table[0, 122:126, 10:70] = 1.0
    assert find_midline(with_table) == pytest.approx(find_midline(image), abs=0.3)
    assert find_midline(image * 700 - 100) == pytest.approx(find_midline(image), abs=0.3)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_constant_image(value):
    assert find_midline(np.full((2, 32, 32), value)) == (0.0, 0.0)


def test_aligned_phantom_is_the_centred_phantom():
    aligned, angle, shift = align_midsagittal(phantom(9.0, -6.0))
    assert angle == pytest.approx(9.0, abs=1.0)
    assert shift == pytest.approx(6.0, abs=1.0)
    assert np.abs(aligned - phantom()).mean() < 0.01
    assert aligned.dtype == np.float32


@pytest.mark.parametrize("make", NDARRAYS)
def test_align_keeps_input_and_records_midline(make):
    raw = np.concatenate([phantom(8.0, 4.0), 0.5 * phantom(8.0, 4.0)])
    image = make(raw.copy())
    out = MidsagittalAlign()(image)
    assert isinstance(out, MetaTensor)
    np.testing.assert_array_equal(np.asarray(image), raw)
    assert out.shape == (2, 128, 128)
    np.testing.assert_allclose(out[1].numpy(), 0.5 * out[0].numpy(), atol=1e-5)
    assert out.meta["midsagittal_angle"] == pytest.approx(8.0, abs=1.0)
    assert out.meta["midsagittal_shift"] == pytest.approx(-4.0, abs=1.0)
    assert type(out.meta["midsagittal_angle"]) is float


def test_inverse_returns_to_the_grid_and_affine_of_the_input():
    affine = torch.diag(torch.tensor([1.8, 1.8, 3.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.as_tensor(phantom(8.0, 4.0)), affine=affine)
    align = MidsagittalAlign()
    aligned = align(image)
    assert not torch.allclose(aligned.affine, affine)
    back = align.inverse(aligned)
    assert (back - image).abs().mean() < 0.01
    assert torch.allclose(back.affine, affine)
    assert not back.applied_operations
    assert "midsagittal_angle" not in back.meta


def test_affine_tells_where_a_voxel_came_from():
    image = MetaTensor(torch.zeros(1, 128, 128), affine=torch.eye(4, dtype=torch.float64))
    image[0, 40, 80] = 1.0
    blurred = MetaTensor(torch.as_tensor(ndimage.gaussian_filter(image.numpy(), (0, 2, 2))), affine=image.affine)
    out = MidsagittalAlign()(blurred, midline=(10.0, 5.0))
    row, column = ndimage.center_of_mass(out[0].numpy())
    came_from = out.affine.numpy() @ np.array([row, column, 0, 1])
    np.testing.assert_allclose(came_from[:2], [40, 80], atol=0.1)


def test_dictionary_shares_one_midline_and_inverts():
    turned = phantom(8.0, 3.0)
    mask = (turned > 0.5).astype(np.float32)
    data = {"ct": turned, "mri": 1 - turned, "mask": mask, "subject": "s"}
    align = Compose([MidsagittalAlignd(("ct", "mri", "mask"), mode=("bilinear", "bilinear", "nearest"))])
    out = align(data)
    assert out["subject"] == "s"
    np.testing.assert_array_equal(data["ct"], turned)
    for key in ("mri", "mask"):
        assert out[key].meta["midsagittal_angle"] == out["ct"].meta["midsagittal_angle"]
    assert set(np.unique(out["mask"].numpy())) == {0.0, 1.0}
    back = align.inverse(out)
    assert np.abs(back["ct"].numpy() - turned).mean() < 0.01
    assert np.abs(back["mask"].numpy() - mask).mean() < 0.03


def test_dictionary_reference_and_missing_keys():
    data = {"ct": phantom(0.0), "mri": phantom(10.0)}
    out = MidsagittalAlignd(("ct", "mri"), reference_key="mri")(data)
    assert out["ct"].meta["midsagittal_angle"] == pytest.approx(10.0, abs=1.0)
    alone = MidsagittalAlignd(("ct", "mri"), allow_missing_keys=True)({"mri": phantom(10.0)})
    assert alone["mri"].meta["midsagittal_angle"] == pytest.approx(10.0, abs=1.0)
    assert MidsagittalAlignd("ct", allow_missing_keys=True)({"x": 1}) == {"x": 1}
    with pytest.raises(KeyError):
        MidsagittalAlignd(("ct", "mri"))({"ct": phantom()})
    with pytest.raises(InputError, match="reference_key"):
        MidsagittalAlignd("ct", reference_key="flair")(data)
    with pytest.raises(InputError, match="grid"):
        MidsagittalAlignd(("ct", "mri"))({"ct": phantom(), "mri": phantom(shape=(64, 64))})


def test_bad_input():
    with pytest.raises(InputError, match="mode"):
        MidsagittalAlign("cubic")
    with pytest.raises(InputError, match="shape"):
        MidsagittalAlign()(np.zeros((4, 4)))
    with pytest.raises(InputError, match="tolerance"):
        MirrorDifference(-1)


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


def test_aliases_pickle_and_names():
    assert symmetry.MidsagittalAlignD is symmetry.MidsagittalAlignDict is MidsagittalAlignd
    assert symmetry.MirrorDifferenceD is symmetry.MirrorDifferenceDict is MirrorDifferenced
    copied = pickle.loads(pickle.dumps(Compose([MidsagittalAlignd("ct"), MirrorDifferenced("ct")])))
    assert copied({"ct": phantom(5.0)})["ct"].shape == (1, 128, 128)
    assert set(symmetry.__all__) <= set(dir(symmetry))


@pytest.mark.parametrize("name", ["16012", "16014", "21012"])
def test_real_pairs_are_more_symmetric_once_aligned(real_data, name):
    pictures = [Image.open(real_data / "pairs" / room / f"{name}.png").convert("L") for room in ("ct", "mri")]
    pair = np.stack([np.asarray(picture.resize((128, 128)), dtype=np.float32) / 255 for picture in pictures])
    turned = np.stack([ndimage.rotate(channel, 8, reshape=False, order=1) for channel in pair])
    assert find_midline(turned)[0] == pytest.approx(find_midline(pair)[0] - 8, abs=1.0)
    aligned = align_midsagittal(turned)[0]
    difference = MirrorDifference(1)
    for channel in range(2):
        head, straight = turned[0] > 0.1, aligned[0] > 0.1
        before = difference(turned)[channel].numpy()[head].mean()
        after = difference(aligned)[channel].numpy()[straight].mean()
        assert after < 0.75 * before
