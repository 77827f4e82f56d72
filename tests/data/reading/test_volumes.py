"""Reading and writing volumes: places in space, grids, findings, and files that cannot be used."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_ctmri.data.reading.volumes import Volume, VolumeHeader, read_header, read_volume, same_grid, write_volume
from monai_ctmri.errors import InputError

VALUES = np.random.default_rng(0).normal(0, 100, (5, 6, 7)).astype(np.float32)


def turned(flips: tuple[int, int, int] = (1, 1, 1), axes: tuple[int, int, int] = (0, 1, 2), degrees: float = 20.0):
    """Oblique affine with unequal spacing, flipped and permuted axes."""
    turn = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag(np.array(flips) * [0.9, 1.1, 3.0])[:, axes]
    affine[:3, 3] = [-12.5, 30.0, 7.25]
    return affine


GRIDS = [np.eye(4), turned(), turned((-1, 1, 1)), turned((-1, -1, 1)), turned((1, -1, -1), (2, 0, 1))]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", GRIDS)
def test_nifti_as_nibabel_sees_it(tmp_path: Path, affine: np.ndarray, suffix: str):
    path = tmp_path / f"a{suffix}"
    nib.save(nib.Nifti1Image(VALUES, affine), path)
    volume, header = read_volume(path, "mri"), read_header(path)
    np.testing.assert_array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(header.affine, volume.affine)
    assert header.spacing == pytest.approx(tuple(np.linalg.norm(affine[:3, :3], axis=0)))
    assert (volume.path, volume.modality, volume.findings) == (path, "mri", ())
    assert volume.array.dtype == np.float32
    assert header.dtype == np.float32


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("affine", GRIDS)
@pytest.mark.parametrize("compression", [True, False])
def test_itk_formats_lie_where_the_nifti_lies(tmp_path: Path, affine: np.ndarray, suffix: str, compression: bool):
    """A point's world place is the same in a NIfTI and in what ITK makes of it."""
    import itk

    path, lps = tmp_path / f"a{suffix}", np.diag([-1.0, -1, 1, 1]) @ affine
    image = itk.image_from_array(np.ascontiguousarray(VALUES.transpose(2, 1, 0)))
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(lps[:3, :3] / lengths))
    itk.imwrite(image, str(path), compression=compression)
    volume, header = read_volume(path), read_header(path)
    np.testing.assert_array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    np.testing.assert_allclose(header.affine, affine, atol=1e-5)
    theirs = LoadImage(reader="ITKReader")(path)
    np.testing.assert_allclose(theirs.affine, volume.affine, atol=1e-5)
    np.testing.assert_array_equal(theirs, volume.array)


def test_scaling_is_applied(tmp_path: Path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").array.ravel(), 2.0 * np.arange(60) - 1024)


def test_hu_are_checked_for_ct_alone(tmp_path: Path):
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(VALUES + 5000, np.eye(4)), path)
    assert read_volume(path).findings == ()
    assert read_volume(path, "mri").findings == ()
    (finding,) = read_volume(path, "ct").findings
    assert (finding.kind, finding.severity, finding.file) == ("implausible_hu", "error", path)
    with pytest.raises(InputError, match="modality"):
        read_volume(path, "pet")


# ----------------------------------------------------------------------------------------------------- what is refused


def bad_files(folder: Path) -> list[Path]:
    whole = folder / "whole.nii.gz"
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), whole)
    content = whole.read_bytes()
    plain = gzip.decompress(content)
    (folder / "cut.nii.gz").write_bytes(content[:-200])
    (folder / "cut_trailer.nii.gz").write_bytes(content[:-3])
    damaged = bytearray(content)
    damaged[-6] ^= 255  # the checksum
    (folder / "checksum.nii.gz").write_bytes(bytes(damaged))
    (folder / "cut.nii").write_bytes(plain[:-1])
    for suffix in (".nii", ".nii.gz", ".mha", ".nrrd", ".dcm"):
        (folder / f"empty{suffix}").write_bytes(b"")
        (folder / f"text{suffix}").write_text("not an image\n" * 50)
        (folder / f"folder{suffix}").mkdir()
        os.symlink(folder / f"loop{suffix}", folder / f"loop{suffix}")
        os.symlink(folder / "nowhere", folder / f"dangling{suffix}")
        os.mkfifo(folder / f"pipe{suffix}")
    noise = np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    for suffix in (".nii", ".nii.gz", ".mha", ".nrrd", ".dcm"):
        (folder / f"noise{suffix}").write_bytes(noise)
    (folder / "picture.png").write_bytes(b"\x89PNG")
    nan = VALUES.copy()
    nan[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(nan, np.eye(4)), folder / "nan.nii")
    nib.save(nib.Nifti1Image(np.where(np.isnan(nan), np.inf, nan), np.eye(4)), folder / "inf.nii.gz")
    return [path for path in folder.iterdir() if path != whole]


def test_bad_files_end_in_one_line_that_names_them(tmp_path: Path, capfd: pytest.CaptureFixture):
    bad = [*bad_files(tmp_path), tmp_path / "missing.nii", tmp_path / ("long" * 100 + ".nii")]
    assert len(bad) > 35
    for path in bad:
        with pytest.raises(InputError) as caught:
            read_volume(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), message
        assert "\n" not in message
        assert ";" in message
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cut.nii", "truncated: 1 bytes"),
        ("cut_trailer.nii.gz", "not a complete"),
        ("checksum.nii.gz", "not a complete"),
        ("empty.nii", "empty"),
        ("folder.nii", "folder"),
        ("pipe.nii", "device"),
        ("nan.nii", "not finite"),
        ("inf.nii.gz", "not finite"),
        ("picture.png", "not a kind of volume"),
        ("dangling.mha", "no such file"),
        ("absent.nrrd", "no such file"),
    ],
)
def test_errors_say_what_is_wrong(tmp_path: Path, name: str, words: str):
    bad_files(tmp_path)
    with pytest.raises(InputError, match=words):
        read_volume(tmp_path / name)


def test_more_voxels_than_allowed(tmp_path: Path):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii", max_voxels=VALUES.size).shape == VALUES.shape
    for read in (read_header, read_volume):
        with pytest.raises(InputError, match="too large"):
            read(tmp_path / "a.nii", max_voxels=VALUES.size - 1)


# --------------------------------------------------------------------------------------------------------- same grid


def volume(affine: np.ndarray, shape: tuple[int, int, int] = (100, 100, 50)) -> VolumeHeader:
    return VolumeHeader(shape, affine, np.dtype("i2"))


def test_same_grid_of_volumes_and_headers(tmp_path: Path):
    other = Volume(np.zeros((100, 100, 50), dtype=np.float32), turned(), tmp_path)
    assert same_grid(volume(turned()), other)
    assert same_grid(other, volume(turned() + 1e-6))


def test_other_shape_is_another_grid():
    assert not same_grid(volume(np.eye(4)), volume(np.eye(4), (100, 100, 51)))


@pytest.mark.parametrize(("shift", "same"), [(0.09, True), (0.11, False)])
def test_shift(shift: float, same: bool):
    moved = np.eye(4)
    moved[1, 3] = shift
    assert same_grid(volume(np.eye(4)), volume(moved)) is same
    assert same_grid(volume(np.eye(4)), volume(moved), tolerance_mm=1.0)


def test_small_turn_adds_up_at_the_far_corner():
    """0.1 degrees are 0.17 mm at 100 voxels of 1 mm from the first corner, and 0.017 mm at 10."""
    turn = np.deg2rad(0.1)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert not same_grid(volume(np.eye(4)), volume(affine))
    assert same_grid(volume(np.eye(4), (10, 10, 10)), volume(affine, (10, 10, 10)))


def test_flipped_grids_differ_though_they_cover_one_place():
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 99
    assert not same_grid(volume(np.eye(4)), volume(flipped))


# ----------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("affine", GRIDS)
@pytest.mark.parametrize(
    ("dtype", "stored"), [("f8", "f4"), ("f4", "f4"), ("i4", "i2"), ("u1", "i2"), ("i2", "i2"), ("?", "i2")]
)
def test_written_volumes_come_back(tmp_path: Path, affine: np.ndarray, dtype: str, stored: str):
    values = (VALUES > 0) if dtype == "?" else np.abs(VALUES).clip(0, 200).astype(dtype)
    path = tmp_path / "new" / "a.nii.gz"
    write_volume(path, values, affine)
    image = nib.load(path)
    assert image.get_data_dtype() == np.dtype(stored)
    for form in (image.header.get_sform(), image.header.get_qform()):
        np.testing.assert_allclose(form, affine, atol=1e-4)
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(read_volume(path).array, values, rtol=1e-6)
    assert [each.name for each in path.parent.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize(
    ("name", "values", "affine", "words"),
    [
        ("a.mha", VALUES, np.eye(4), "NIfTI"),
        ("a.nii", VALUES[0], np.eye(4), "no volume"),
        ("a.nii", VALUES.astype(complex), np.eye(4), "no volume"),
        ("a.nii", VALUES * np.nan, np.eye(4), "do not fit"),
        ("a.nii", np.full((2, 2, 2), 40000), np.eye(4), "do not fit int16"),
        ("a.nii", VALUES, np.diag([1.0, 0, 1, 1]), "affine"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, values: np.ndarray, affine: np.ndarray, words: str):
    with pytest.raises(InputError, match=words):
        write_volume(tmp_path / name, values, affine)
    assert list(tmp_path.iterdir()) == []
