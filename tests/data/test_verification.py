"""Every way a file can be wrong is named; every good file passes."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.verification import MAX_VOXELS, SUFFIXES, read_pixels, verify_files
from monai_ctmri.errors import InputError

SHAPE = (14, 10)
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, affine: np.ndarray = RAS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(pixels, affine), path)
    elif path.suffix in (".mha", ".nrrd"):
        import itk

        itk.imwrite(itk.image_from_array(np.ascontiguousarray(pixels.T)), str(path))
    elif path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def verify(*files: Path, **options: object) -> dict[str, tuple[int, int]]:
    cases = (Case(f"case{index}", f"s{index}", file) for index, file in enumerate(files))
    return verify_files(Manifest(cases), **options)  # type: ignore[arg-type]


def refused(file: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        verify(file, **options)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "; " in message
    assert "\n" not in message
    return message


# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG", ".JPG", ".TIFF"])
def test_every_supported_kind_passes(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    nifti = suffix.startswith((".nii", ".mha", ".nrrd"))
    file = save(tmp_path / f"a{suffix}", pixels.T if nifti else pixels)
    assert verify(file) == {"case0": SHAPE}
    decoded = read_pixels(file)
    if suffix.lower() not in (".jpg", ".jpeg"):
        np.testing.assert_array_equal(decoded.T if nifti else decoded, pixels)


def test_pictures_of_any_colour_mode(tmp_path: Path, pixels: np.ndarray) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
        assert verify(tmp_path / "a.png") == {"case0": SHAPE}, mode
    for dtype in (np.uint16, np.int32, np.float32):
        np.testing.assert_array_equal(
            read_pixels(save(tmp_path / "a.tif", pixels.astype(dtype) * 200)), pixels.astype(dtype) * 200
        )
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "a.jpg")
    assert read_pixels(tmp_path / "a.jpg").shape == (*SHAPE, 3)
    assert verify(tmp_path / "a.jpg") == {"case0": SHAPE}


def test_palette_gives_grey_values_not_indices(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 200, 200, 7, 7, 7])
    picture.putdata([0, 1])
    picture.save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png").tolist() == [[[200] * 3, [7] * 3]]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float32, np.float64, ">i4"])
def test_arrays_of_any_real_type(tmp_path: Path, pixels: np.ndarray, dtype: object) -> None:
    array = pixels.astype(dtype)  # type: ignore[call-overload]
    np.testing.assert_array_equal(read_pixels(save(tmp_path / "a.npy", array)), array)


@pytest.mark.parametrize("suffix", [".npy", ".nii", ".nii.gz"])
def test_axes_of_length_one_do_not_count(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    file = save(tmp_path / f"a{suffix}", pixels[:, :, None])
    np.testing.assert_array_equal(read_pixels(file), pixels)
    assert list(verify(file).values()) == [SHAPE[::-1] if suffix != ".npy" else SHAPE]
    assert verify(save(tmp_path / f"b{suffix}", pixels[:, :, None, None])) == verify(file)


def test_channel_first_arrays_pass(tmp_path: Path, pixels: np.ndarray) -> None:
    assert verify(save(tmp_path / "a.npy", pixels[None])) == {"case0": SHAPE}
    assert verify(save(tmp_path / "b.npy", pixels[None, :1])) == {"case0": (1, 10)}


@pytest.mark.parametrize(
    ("codes", "expected"),
    [("RAS", (10, 14)), ("LPS", (10, 14)), ("LAS", (10, 14)), ("ARS", (14, 10)), ("PLI", (14, 10))],
)
def test_nifti_size_follows_the_affine(tmp_path: Path, codes: str, expected: tuple[int, int]) -> None:
    """H is along anterior-posterior: voxel axis 1 for RAS, voxel axis 0 for ARS."""
    ornt = nib.orientations.axcodes2ornt(codes)
    affine = nib.orientations.inv_ornt_aff(ornt, (14, 10, 1))
    assert "".join(nib.aff2axcodes(affine)) == codes
    assert verify(save(tmp_path / "a.nii", np.zeros((14, 10, 1), np.float32), affine)) == {"case0": expected}


def test_nifti_values_are_scaled(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.array([[0.0, 10.0], [20.0, 40.0]]), RAS)
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_pixels(tmp_path / "a.nii"), [[0, 10], [20, 40]], atol=1e-2)


def test_empty_manifest_and_progress(tmp_path: Path, pixels: np.ndarray) -> None:
    assert verify_files(Manifest([])) == {}
    steps: list[tuple[int, int]] = []
    file = save(tmp_path / "a.png", pixels)
    verify(file, file, file, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_missing_folder_suffix(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "a.png")
    assert "no such file" in refused(tmp_path / ("x" * 5000 + ".png"))
    (tmp_path / "b.png").mkdir()
    assert "a folder" in refused(tmp_path / "b.png")
    for name in ("a.dcm", "a", "a.gz", "a.npz", "a.nii.bz2", ".png"):
        assert "unsupported kind of file" in refused(tmp_path / name)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    assert "no such file" in refused(tmp_path / "dangling.png")
    with pytest.raises(InputError, match="no such file"):
        read_pixels(tmp_path / "a\0.png")


def test_no_permission(tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = save(tmp_path / "a.npy", pixels)
    monkeypatch.setattr(np, "load", deny)
    assert "no permission" in refused(file)


CUT = ("an empty file", "not a MetaImage header", "not an NRRD header", "bytes of its voxels are missing")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_cut_off_files(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    message = refused(cut(save(tmp_path / f"a{suffix}", noise), share))
    assert any(words in message for words in (f"not a complete {suffix} file", *CUT))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_under_an_image_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text("<html>404 not found</html>\n" * 100)
    message = refused(tmp_path / f"a{suffix}")
    assert any(words in message for words in (f"not a complete {suffix} file", "not a NIfTI header", *CUT))


def test_a_picture_of_another_kind_is_not_decoded(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.gif")
    os.rename(tmp_path / "a.gif", tmp_path / "a.png")
    assert "not a complete .png" in refused(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
@pytest.mark.parametrize("place", [0.4, 0.6])
def test_damage_that_a_checksum_tells(tmp_path: Path, suffix: str, place: float) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    content = bytearray(save(tmp_path / f"a{suffix}", noise).read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert f"not a complete {suffix} file" in refused(tmp_path / f"a{suffix}")


def test_a_gzip_file_without_its_checksum(tmp_path: Path, pixels: np.ndarray) -> None:
    file = save(tmp_path / "a.nii.gz", pixels)
    file.write_bytes(file.read_bytes()[:-8])
    assert "not a complete .nii.gz file" in refused(file)


class Trap:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple:
        return (os._exit, (1,))


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    array = np.empty((2, 2), object)
    array[:] = [[Trap(), 1], [2, 3]]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    assert "not a complete .npy file" in refused(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(), (5,), (0, 4), (4, 0)])
def test_arrays_that_hold_no_slice(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "holds no slice" in refused(save(tmp_path / "a.npy", np.zeros(shape)))


def test_a_volume_in_another_format_is_no_slice(tmp_path: Path) -> None:
    for suffix in (".mha", ".nrrd"):
        file = save(tmp_path / f"a{suffix}", np.zeros((8, 9, 3), np.float32))
        assert "(8, 9, 3), not one slice; this pipeline takes axial slices" in refused(file)
        assert read_pixels(file, slices_only=False).shape == (8, 9, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    assert "a device, not a file" in refused(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".npy", ".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(8, 8, 2), (2, 8, 8), (8, 8, 2, 3), (8, 8, 3)])
def test_volumes_are_refused_with_a_clear_line(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    file = save(tmp_path / f"a{suffix}", np.zeros(shape, np.float32))
    assert "takes axial slices" in refused(file)
    assert str(shape) in refused(file)
    assert read_pixels(file, slices_only=False).shape == shape


def test_stacks_of_pictures_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    for name in ("a.tif", "a.png"):
        picture.save(tmp_path / name, save_all=True, append_images=[Image.fromarray(pixels.copy() + 1)])
        assert "a stack of 2 pictures; this pipeline takes axial slices" in refused(tmp_path / name)


def test_slices_that_are_not_axial(tmp_path: Path) -> None:
    coronal = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    assert "not axial" in refused(save(tmp_path / "a.nii", np.zeros((8, 9, 1), np.float32), coronal))
    assert "not axial" in refused(save(tmp_path / "b.nii", np.zeros((1, 8, 9), np.float32)))
    assert "not one slice" in refused(save(tmp_path / "c.nii", np.zeros((8, 1, 1, 9), np.float32)))
    # Stored as (X, Z, Y) with one Z: axial all the same.
    assert verify(save(tmp_path / "d.nii", np.zeros((8, 1, 9), np.float32), coronal)) == {"case0": (9, 8)}


@pytest.mark.parametrize("dtype", ["complex64", "<U3", "datetime64[s]", [("r", "u1"), ("g", "u1")]])
def test_arrays_of_other_than_real_numbers(tmp_path: Path, dtype: object) -> None:
    assert "not real numbers" in refused(save(tmp_path / "a.npy", np.zeros((4, 4), dtype)))  # type: ignore[call-overload]


def test_nifti_of_other_than_real_numbers(tmp_path: Path) -> None:
    assert "not real numbers" in refused(save(tmp_path / "a.nii", np.ones((4, 4), np.complex64)))
    colours = np.zeros((4, 4, 1), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    assert "not real numbers" in refused(save(tmp_path / "b.nii", colours))


def test_an_archive_named_npy(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=np.zeros((2, 2)))
    assert "an archive of arrays" in refused(tmp_path / "a.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".npy", ".nii.gz", ".tif"])
def test_values_that_are_not_finite(tmp_path: Path, suffix: str, value: float) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[3, 4] = value
    assert "not finite" in refused(save(tmp_path / f"a{suffix}", array))


def test_values_that_are_not_finite_in_single_precision(tmp_path: Path) -> None:
    assert "not finite" in refused(save(tmp_path / "a.npy", np.full(SHAPE, -1e39)))
    assert verify(save(tmp_path / "b.npy", np.full(SHAPE, -3e38)))


@pytest.mark.parametrize("suffix", [".png", ".npy", ".nii"])
def test_limit_of_size(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    file = save(tmp_path / f"a{suffix}", pixels)
    assert verify(file, max_voxels=140)
    assert "exceeds 139 voxels" in refused(file, max_voxels=139)
    assert MAX_VOXELS == 512**3


def test_headers_that_claim_huge_sizes_cost_nothing(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_data_dtype(np.float64)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "a.nii.gz", "wb") as file:
        file.write(header.binaryblock + bytes(100))
    assert "exceeds" in refused(tmp_path / "a.nii.gz")

    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (300000, 300000), }".ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64))
    assert "not a complete .npy file" in refused(tmp_path / "a.npy")


# --- cases ------------------------------------------------------------------------------------------------------------


def test_sizes_within_a_case_must_agree(tmp_path: Path, pixels: np.ndarray) -> None:
    ct, mri = save(tmp_path / "ct.png", pixels), save(tmp_path / "mri.png", pixels[:, :8])
    mask = save(tmp_path / "mask.png", pixels[:8])
    with pytest.raises(InputError) as error:
        verify_files(Manifest([Case("a", "s", ct, mri)]))
    assert str(error.value).startswith(f"{mri}: mri is 14 x 8 pixels, ct of case 'a' is 14 x 10; ")
    with pytest.raises(InputError) as error:
        verify_files(Manifest([Case("a", "s", None, mri, mask=mask)]))
    assert str(error.value).startswith(f"{mask}: mask is 8 x 10 pixels, mri of case 'a' is 14 x 8; ")
    with pytest.raises(InputError, match=r"mask is 8 x 10 .*ct of case 'a' is 14 x 10"):
        verify_files(Manifest([Case("a", "s", ct, ct, mask=mask)]))


def test_a_picture_and_a_nifti_of_one_case_are_compared_in_one_orientation(tmp_path: Path, pixels: np.ndarray) -> None:
    ct, mri = save(tmp_path / "ct.png", pixels), save(tmp_path / "mri.nii.gz", pixels.T)
    assert verify_files(Manifest([Case("a", "s", ct, mri)])) == {"a": SHAPE}
    save(tmp_path / "mri.nii.gz", pixels)
    with pytest.raises(InputError, match="mri is 10 x 14 pixels"):
        verify_files(Manifest([Case("a", "s", ct, mri)]))


def test_all_problems_are_counted_and_the_first_is_named(tmp_path: Path, pixels: np.ndarray) -> None:
    good, small = save(tmp_path / "good.png", pixels), save(tmp_path / "small.png", pixels[:5])
    cases = [
        Case("a", "s", good, good),
        Case("b", "s", tmp_path / "gone.png", good, mask=small),  # the mask differs from the MRI
        Case("c", "s", tmp_path / "gone.png"),  # the same missing file is one problem
        Case("d", "s", tmp_path / "other.txt"),
    ]
    steps: list[int] = []
    with pytest.raises(InputError) as error:
        verify_files(Manifest(cases), progress=lambda done, _: steps.append(done))
    assert str(error.value).startswith(f"{tmp_path / 'gone.png'}: no such file; ")
    assert str(error.value).endswith(" (and 2 more)")
    assert steps == [1, 2, 3, 4]
    with pytest.raises(InputError) as error:
        verify_files(Manifest(cases[3:]))
    assert "more)" not in str(error.value)


def test_real_pairs_pass(real_data: Path) -> None:
    manifest = Manifest.read(real_data / "pairs")
    assert verify_files(manifest) == {case.name: (256, 256) for case in manifest}


def test_real_single_modality_sets_pass(real_data: Path) -> None:
    flair = Manifest.read(real_data / "lgg_flair")[:40]
    assert set(verify_files(flair).values()) == {(256, 256)}
    hemorrhage = Manifest.read(real_data / "ct_hemorrhage")[::5]
    sizes = verify_files(hemorrhage)
    for case in hemorrhage:
        with Image.open(case.ct) as picture:  # type: ignore[arg-type]
            assert sizes[case.name] == picture.size[::-1]


def test_real_volumes_are_refused_as_volumes(real_data: Path) -> None:
    assert "takes axial slices" in refused(real_data / "volumes" / "stroke_T2.nii.gz")
