"""Slices and masks from files: orientation against hand-made affines, marks, and one-line errors."""

from __future__ import annotations

import gzip
import itertools
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from PIL import Image

from monai_ctmri.errors import InputError, find_input_error
from monai_ctmri.transforms import LoadMask, LoadMaskd, LoadSlice, LoadSliced

# row 0 is anterior and column 0 the patient's right; every value differs, so that no flip or transposition can hide
PICTURE = np.arange(20, dtype=np.float32).reshape(4, 5)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def world_of(row: float, column: float) -> np.ndarray:
    """RAS millimetres of a pixel of PICTURE: 2 mm a row towards posterior, 3 mm a column towards the patient's left."""
    return np.array([30.0 - 3.0 * column, 50.0 - 2.0 * row, 7.0])


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.fromarray(PICTURE.astype(np.uint8)).save(path)
    return path


def test_picture_keeps_rows_and_columns(grey: Path):
    image = LoadSlice("ct")(grey)
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.numpy(), PICTURE[None])
    assert image.meta["windowed"] is True
    assert image.meta["modality"] == "ct"
    assert image.meta["filename_or_obj"] == str(grey)
    np.testing.assert_array_equal(image.affine, np.eye(4))


def test_string_path_and_no_modality(grey: Path):
    assert LoadSlice()(str(grey)).meta["modality"] == ""


@pytest.mark.parametrize("suffix", ["tiff", "tif", "PNG"])
def test_lossless_kinds_agree(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PICTURE.astype(np.uint8)).save(path)
    np.testing.assert_array_equal(LoadSlice()(path).numpy(), PICTURE[None])


def test_what_verification_refuses_is_refused(tmp_path: Path):
    Image.fromarray(PICTURE.astype(np.uint8)).save(tmp_path / "a.bmp")
    with pytest.raises(InputError, match="kind not known here"):
        LoadSlice()(tmp_path / "a.bmp")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("flat", [False, True])
def test_other_volumes_lie_as_nifti_does(tmp_path: Path, suffix: str, flat: bool):
    """The same voxels and the same place written by ITK (LPS) and by nibabel (RAS) give one picture and one affine."""
    import itk

    voxels = PICTURE.T[::-1, :, None]  # stored from left to right, in LPS: x falls
    image = itk.image_from_array(np.ascontiguousarray(voxels[:, :, 0].T if flat else voxels.transpose(2, 1, 0)))
    image.SetSpacing([3.0, 2.0, 5.0][: 2 if flat else 3])
    direction = np.diag([-1.0, 1.0, 1.0])
    image.SetDirection(itk.matrix_from_array(direction[:2, :2] if flat else direction))
    image.SetOrigin([12.0, -50.0, 7.0][: 2 if flat else 3])
    itk.imwrite(image, str(tmp_path / f"a{suffix}"))
    affine = np.array([[3.0, 0, 0, -12], [0, -2, 0, 50], [0, 0, 1 if flat else 5, 0 if flat else 7], [0, 0, 0, 1]])
    one, other = LoadSlice()(tmp_path / f"a{suffix}"), LoadSlice()(save_nifti(tmp_path / "a.nii.gz", voxels, affine))
    np.testing.assert_array_equal(one.numpy(), PICTURE[None])
    np.testing.assert_array_equal(other.numpy(), PICTURE[None])
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)
    assert one.meta.keys() == other.meta.keys()
    assert one.meta["windowed"] is False


def test_a_volume_in_another_format_is_no_slice(tmp_path: Path):
    import itk

    itk.imwrite(itk.image_from_array(np.zeros((3, 4, 5), np.float32)), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match="a volume, not one slice"):
        LoadSlice()(tmp_path / "a.mha")


def test_jpeg(tmp_path: Path):
    smooth = np.tile(np.linspace(0, 255, 32), (24, 1)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(LoadSlice()(tmp_path / "a.jpg").numpy()[0], smooth, atol=6)


def test_colour_becomes_luma(tmp_path: Path):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    expected = colour @ np.array([0.299, 0.587, 0.114])
    image = LoadSlice()(tmp_path / "colour.png")
    assert image.shape == (1, 6, 7)
    np.testing.assert_allclose(image.numpy()[0], expected, atol=1.0)
    assert image.meta["windowed"] is True


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK"])
def test_other_colour_modes_give_one_grey_channel(tmp_path: Path, mode: str):
    grey_levels = np.full((5, 6), 100, dtype=np.uint8)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(grey_levels).convert("RGB" if mode == "CMYK" else "L").convert(mode).save(path)
    np.testing.assert_allclose(LoadSlice()(path).numpy()[0], grey_levels, atol=1.0)


def test_sixteen_bit_picture_keeps_its_values(tmp_path: Path):
    deep = (PICTURE * 3000).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    image = LoadSlice()(tmp_path / "deep.png")
    np.testing.assert_array_equal(image.numpy()[0], deep)
    assert image.meta["windowed"] is False


@pytest.mark.parametrize(
    ("dtype", "windowed"), [(np.uint8, True), (np.int16, False), (np.float64, False), (">f4", False)]
)
@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (4, 5, 1)])
def test_npy(tmp_path: Path, dtype: type, windowed: bool, shape: tuple[int, ...]):
    np.save(tmp_path / "a.npy", PICTURE.astype(dtype).reshape(shape))
    image = LoadSlice()(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.numpy(), PICTURE[None])
    assert image.dtype == torch.float32
    assert image.meta["windowed"] is windowed


@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_nifti_comes_to_picture_orientation(
    tmp_path: Path, flips: tuple[bool, bool], swap: bool, trailing: bool, degrees: float
):
    """Store PICTURE on every axial grid, with the affine that says so; it must come back as it was."""
    array, index = PICTURE.T, np.eye(4)[[1, 0, 2, 3]]  # stored as (column, row); index: stored -> (row, column)
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            reverse = np.eye(4)
            reverse[axis, axis], reverse[axis, 3] = -1, array.shape[axis] - 1
            index = index @ reverse
    if swap:
        array, index = array.T, index @ np.eye(4)[[1, 0, 2, 3]]
    picture_to_world = np.eye(4)
    picture_to_world[:3, 3] = world_of(0, 0)
    picture_to_world[:3, 0] = world_of(1, 0) - world_of(0, 0)
    picture_to_world[:3, 1] = world_of(0, 1) - world_of(0, 0)
    turn = np.deg2rad(degrees)
    tilt = np.eye(4)  # about the left-right axis, as gantry tilt is
    tilt[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = tilt @ picture_to_world @ index
    path = save_nifti(tmp_path / "a.nii.gz", array[..., None] if trailing else array, affine)

    image = LoadSlice("ct")(path)

    np.testing.assert_array_equal(image.numpy(), PICTURE[None])
    assert image.meta["windowed"] is False
    for row, column in [(0, 0), (3, 0), (0, 4), (2, 1)]:
        expected = tilt @ [*world_of(row, column), 1]
        np.testing.assert_allclose(image.affine.numpy() @ [row, column, 0, 1], expected, atol=1e-5)
    np.testing.assert_allclose(image.meta["original_affine"], affine, atol=1e-5)
    assert tuple(image.meta["original_shape"]) == array.shape


def test_nifti_scaling_is_applied(tmp_path: Path):
    stored = nib.Nifti1Image((PICTURE.T[..., None]).astype(np.int16), np.diag([-1, -1, 1, 1]))
    stored.header.set_slope_inter(2.0, -1024.0)
    nib.save(stored, tmp_path / "hu.nii")
    np.testing.assert_allclose(LoadSlice("ct")(tmp_path / "hu.nii").numpy()[0], 2 * PICTURE - 1024)


def test_head_of_a_real_volume_looks_forward(real_data: Path, tmp_path: Path):
    """The nose side of the head of a real CT is narrower, and must be at the top whatever the file's orientation."""
    volume = nib.load(real_data / "volumes" / "ct_head_ge_upper14_hu.nii.gz")
    middle = volume.slicer[:, :, 7:8]
    upright = LoadSlice("ct")(save_nifti(tmp_path / "a.nii.gz", middle.get_fdata().astype(np.float32), middle.affine))
    for codes in ("RAS", "LAS", "LPS", "PRS"):
        change = nib.orientations.ornt_transform(
            nib.io_orientation(middle.affine), nib.orientations.axcodes2ornt(codes)
        )
        turned = middle.as_reoriented(change)
        path = save_nifti(tmp_path / f"{codes}.nii.gz", turned.get_fdata().astype(np.float32), turned.affine)
        np.testing.assert_array_equal(LoadSlice("ct")(path).numpy(), upright.numpy())
    assert upright.min() <= -900
    assert upright.max() > 300


# ---------------------------------------------------------------------------------------------- what cannot be used


def _bad_files(folder: Path) -> dict[str, Path]:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(folder / "whole.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(folder / "whole.jpg")
    np.save(folder / "whole.npy", PICTURE)
    save_nifti(folder / "whole.nii", PICTURE[..., None])
    save_nifti(folder / "whole.nii.gz", np.random.default_rng(0).random((64, 64, 1)))
    for whole in list(folder.iterdir()):
        content = whole.read_bytes()
        (folder / f"truncated{''.join(whole.suffixes)}").write_bytes(content[: len(content) * 2 // 3])
    for suffix in ("png", "jpg", "npy", "nii", "tif"):
        (folder / f"text.{suffix}").write_text("not an image\n")
        (folder / f"empty.{suffix}").write_bytes(b"")
    (folder / "text.nii.gz").write_bytes(gzip.compress(b"not an image"))
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "pickle.npy").write_bytes(pickle.dumps(PICTURE))
    np.save(folder / "volume.npy", np.zeros((3, 4, 5)))
    np.save(folder / "line.npy", np.zeros(5))
    np.save(folder / "nothing.npy", np.zeros((0, 5)))
    np.save(folder / "complex.npy", np.zeros((4, 5), dtype=complex))
    np.save(folder / "words.npy", np.full((4, 5), "a"))
    np.save(folder / "nan.npy", np.full((4, 5), np.nan))
    save_nifti(folder / "volume.nii.gz", np.zeros((4, 5, 6), dtype=np.float32))
    save_nifti(folder / "coronal.nii.gz", np.zeros((4, 1, 6), dtype=np.float32))
    save_nifti(folder / "turned.nii.gz", np.zeros((4, 5), dtype=np.float32), np.eye(4)[[0, 2, 1, 3]])
    save_nifti(folder / "infinite.nii.gz", np.full((4, 5, 1), np.inf, dtype=np.float32))
    frames = [Image.fromarray(np.full((4, 5), level, dtype=np.uint8)) for level in (1, 2)]
    frames[0].save(folder / "frames.tif", save_all=True, append_images=frames[1:])
    (folder / "scan.dcm").write_bytes(b"DICM")
    (folder / "folder.png").mkdir()
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 1))
    header.set_data_dtype(np.float64)
    (folder / "huge.nii").write_bytes(header.binaryblock + b"\0" * 4)
    return {path.name: path for path in folder.iterdir() if not path.name.startswith("whole")}


@pytest.mark.parametrize("load", [LoadSlice("ct"), LoadMask()], ids=["slice", "mask"])
def test_bad_files_end_in_one_line_that_names_them(tmp_path: Path, load: LoadSlice | LoadMask):
    bad = {**_bad_files(tmp_path), "missing.png": tmp_path / "missing.png", "missing.nii.gz": tmp_path / "no.nii.gz"}
    assert len(bad) > 25
    for path in bad.values():
        with pytest.raises(InputError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), message
        assert "\n" not in message
        assert message.count(";") >= 1, message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("volume.npy", "a volume, not one slice"),
        ("volume.nii.gz", "a volume, not one slice"),
        ("coronal.nii.gz", "not an axial one"),
        ("turned.nii.gz", "not an axial one"),
        ("frames.tif", "2 frames"),
        ("nan.npy", "not finite"),
        ("complex.npy", "complex128"),
        ("scan.dcm", "kind not known"),
        ("huge.nii", "a side above"),
        ("missing.png", "no such file"),
    ],
)
def test_errors_say_what_is_wrong(tmp_path: Path, name: str, words: str):
    _bad_files(tmp_path)
    with pytest.raises(InputError, match=words):
        LoadSlice()(tmp_path / name)


def test_pickle_is_never_run(tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        LoadSlice()(tmp_path / "trap.npy")
    assert not (tmp_path / "ran").exists()


# ------------------------------------------------------------------------------------------------------------- masks


def test_mask_is_binary(tmp_path: Path):
    values = np.array([[0, 1, 2], [128, 255, 0]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    mask = LoadMask()(tmp_path / "m.png")
    assert mask.dtype == torch.float32
    assert isinstance(mask, MetaTensor)
    np.testing.assert_array_equal(mask.numpy(), (values > 0)[None])


def test_mask_from_bilevel_boolean_and_nifti(tmp_path: Path):
    truth = PICTURE % 3 == 0
    Image.fromarray(truth).save(tmp_path / "m.png")
    np.save(tmp_path / "m.npy", truth)
    save_nifti(tmp_path / "m.nii.gz", truth.T[..., None].astype(np.uint8), np.diag([-1, -1, 1, 1]))
    for name in ("m.png", "m.npy", "m.nii.gz"):
        np.testing.assert_array_equal(LoadMask()(tmp_path / name).numpy()[0], truth)


def test_jpeg_mask_ignores_ringing(tmp_path: Path):
    truth = np.zeros((32, 32), dtype=bool)
    truth[5:19, 9:22] = True
    Image.fromarray((truth * 255).astype(np.uint8)).save(tmp_path / "m.jpg", quality=60)
    assert (np.asarray(Image.open(tmp_path / "m.jpg")) > 0).sum() > truth.sum()
    np.testing.assert_array_equal(LoadMask()(tmp_path / "m.jpg").numpy()[0], truth)


# ------------------------------------------------------------------------------------------------------ dictionaries


def test_dictionary_loads_what_is_there(grey: Path):
    case = {"ct": grey, "mri": None, "subject": "a"}
    loaded = LoadSliced(("ct", "mri"))(case)
    assert set(loaded) == {"ct", "subject"}
    assert loaded["ct"].meta["modality"] == "ct"
    assert case == {"ct": grey, "mri": None, "subject": "a"}


def test_empty_string_is_missing_too(grey: Path):
    assert "ct" not in LoadSliced(("ct", "mri"))({"ct": "", "mri": grey})
    assert "mask" not in LoadMaskd()({"mask": "", "ct": grey})


def test_required_key_raises(grey: Path):
    with pytest.raises(KeyError):
        LoadSliced(("ct", "mri"), allow_missing_keys=False)({"ct": grey, "mri": None})


def test_modality_names(grey: Path):
    loaded = LoadSliced(("first", "second"), modality=("ct", "mri"))({"first": grey, "second": grey})
    assert [loaded[key].meta["modality"] for key in ("first", "second")] == ["ct", "mri"]
    with pytest.raises(ValueError, match="length"):
        LoadSliced(("first", "second"), modality=("ct",) * 3)


def test_pictures_arrays_and_niftis_share_a_batch(grey: Path, tmp_path: Path):
    np.save(tmp_path / "a.npy", PICTURE)
    nifti = save_nifti(tmp_path / "a.nii.gz", PICTURE.T[..., None], np.diag([-1, -1, 1, 1]))
    cases = [{"ct": path} for path in (grey, tmp_path / "a.npy", nifti)]
    batch = next(iter(DataLoader(Dataset(cases, LoadSliced("ct")), batch_size=3, num_workers=0)))
    np.testing.assert_array_equal(batch["ct"].numpy(), np.stack([PICTURE[None]] * 3))
    assert batch["ct"].meta["windowed"].tolist() == [True, False, False]


def test_input_error_is_found_behind_monai(tmp_path: Path):
    with pytest.raises(RuntimeError) as caught:
        Dataset([{"ct": tmp_path / "no.png"}], [LoadSliced("ct")])[0]
    found = find_input_error(caught.value)
    assert found is not None
    assert "no such file" in str(found)


def test_real_pairs_load(real_data: Path):
    pairs = real_data / "pairs"
    case = LoadSliced(("ct", "mri"))({"ct": pairs / "ct" / "16010.png", "mri": pairs / "mri" / "16010.png"})
    for key in ("ct", "mri"):
        expected = np.asarray(Image.open(pairs / key / "16010.png"), dtype=np.float32)
        np.testing.assert_array_equal(case[key].numpy()[0], expected)
