"""Mid-sagittal alignment as a transform: grids, metadata, inverse, in slices and in volumes of any orientation."""

from __future__ import annotations

import pickle

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
    with pytest.raises(InputError, match="midline"):
        MidsagittalAlign()(np.zeros((1, 4, 4, 4)), midline=(0.0, 0.0))


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


def test_volume_is_symmetric_once_aligned_and_comes_back():
    volume, affine, _, _ = head_volume(yaw=7, roll=-5, right=6)
    image = MetaTensor(torch.as_tensor(volume), affine=torch.as_tensor(affine))
    align = MidsagittalAlign()
    out = align(image)
    assert out.shape == image.shape
    before, after = (float((one - one.flip(1)).abs().mean()) for one in (image.as_tensor(), out.as_tensor()))
    assert after < 0.25 * before
    assert out.meta["midsagittal_confidence"] > 0.5
    back = align.inverse(out)
    assert (back - image).abs().mean() < 0.02
    np.testing.assert_allclose(np.asarray(back.affine), affine, atol=1e-6)
    assert not any(name.startswith("midsagittal") for name in back.meta)


@pytest.mark.parametrize("oblique", [0.0, 18.0])
def test_stored_orientation_does_not_matter(oblique):
    """The same head stored with axes swapped, flipped and oblique comes to lie with its plane amid the lateral axis."""
    volume, affine, _, _ = head_volume(yaw=4, roll=3, right=-5)
    stored = np.flip(volume.transpose(0, 3, 1, 2), axis=2)
    to_first = np.zeros((4, 4))
    to_first[0, 1], to_first[1, 2], to_first[2, 0], to_first[3, 3] = -1, 1, 1, 1
    to_first[0, 3] = volume.shape[1] - 1
    turn = np.eye(4)
    c, s = np.cos(np.deg2rad(oblique)), np.sin(np.deg2rad(oblique))
    turn[:2, :2] = [[c, -s], [s, c]]
    image = MetaTensor(torch.as_tensor(stored.copy()), affine=torch.as_tensor(turn @ affine @ to_first))
    out = MidsagittalAlign()(image)
    before, after = (float((one - one.flip(2)).abs().mean()) for one in (image.as_tensor(), out.as_tensor()))
    assert after < 0.4 * before


def test_a_doubtful_line_is_used_and_said(caplog):
    noise = np.random.RandomState(0).rand(1, 64, 64).astype(np.float32)
    with caplog.at_level("WARNING", logger="monai_ctmri.transforms.symmetry"):
        out = MidsagittalAlign()(noise)
    assert out.shape == noise.shape
    assert "doubtful" in caplog.text
    caplog.clear()
    MidsagittalAlign()(phantom(5.0))
    assert not caplog.text
