"""One opening tells everything; whatever is wrong with a file, it is named and nothing is raised."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from monai_ctmri.data.checks.duplicates import perceptual_hash
from monai_ctmri.data.checks.inspection import BINS, Facts, inspect_file, inspect_files
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.splits import LeakError, guard_splits
from monai_ctmri.errors import InputError

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(1).integers(-1000, 1500, (24, 20, 10), dtype=np.int16)


def save(path: Path, array: np.ndarray) -> Path:
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array, AFFINE), path)
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


def problem_of(path: Path, **options: int) -> str | None:
    facts = inspect_file(path, **options)
    if facts.problem is None:
        return None
    assert facts == Facts(path, facts.kind, facts.bytes, facts.problem), "all else is empty"
    assert facts.problem.file == path
    assert facts.problem.measure
    assert str(path.parent) not in facts.problem.measure
    return facts.problem.kind


# --- facts of good files ----------------------------------------------------------------------------------------------


def test_a_grey_picture(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "a.png", pixels)
    facts = inspect_file(path, "ct")
    assert (facts.path, facts.kind, facts.bytes, facts.problem) == (path, "picture", path.stat().st_size, None)
    assert (facts.shape, facts.channels, facts.dtype, facts.bits) == ((40, 30), 1, "uint8", 8)
    assert (facts.spacing, facts.orientation, facts.affine, facts.findings) == (None, None, None, ())
    described = stats.describe(pixels.astype(float), axis=None)
    assert (facts.minimum, facts.maximum) == described.minmax
    assert facts.mean == pytest.approx(described.mean)
    assert facts.std**2 == pytest.approx(described.variance * (pixels.size - 1) / pixels.size)
    ordered = np.sort(pixels, axis=None)
    assert ordered[10] <= facts.p1 <= ordered[13]
    assert ordered[-14] <= facts.p99 <= ordered[-11]
    assert facts.histogram == tuple(int((pixels == value).sum()) for value in range(256))
    assert facts.histogram_range == (0, 255)
    values = struct.pack(f"<{pixels.size}d", *pixels.ravel().tolist())
    assert facts.digest == hashlib.sha256(b"(40, 30)" + values).hexdigest()
    assert facts.phash == perceptual_hash(pixels)
    assert facts.channel_difference == 0
    assert facts.windowed
    assert facts.appearance is not None


def test_a_colour_picture_is_judged_in_grey(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    facts = inspect_file(save(tmp_path / "a.png", colours))
    assert (facts.shape, facts.channels) == ((20, 24), 3)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    assert facts.mean == pytest.approx(luma.mean(), abs=0.5)
    red, green, blue = (colours[..., index].astype(float) for index in range(3))
    differences = [np.abs(red - green).mean(), np.abs(red - blue).mean(), np.abs(green - blue).mean()]
    assert facts.channel_difference == pytest.approx(max(differences) / 255)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("P", 3)])
def test_a_grey_picture_is_the_same_in_every_mode(tmp_path: Path, pixels: np.ndarray, mode: str, channels: int) -> None:
    plain = inspect_file(save(tmp_path / "plain.png", pixels))
    Image.fromarray(pixels).convert(mode).save(tmp_path / "other.png")
    other = inspect_file(tmp_path / "other.png")
    assert other.channels == channels
    assert other.channel_difference == 0
    for name in ("shape", "digest", "phash", "histogram", "mean", "appearance"):
        assert getattr(other, name) == getattr(plain, name), name


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (bool, 1), (np.uint16, 16), (np.int32, 32)])
def test_bits_of_pictures(tmp_path: Path, pixels: np.ndarray, dtype: type, bits: int) -> None:
    values = pixels > 100 if dtype is bool else pixels.astype(dtype)
    path = save(tmp_path / f"a.{'tif' if dtype is np.int32 else 'png'}", values)
    facts = inspect_file(path)
    assert facts.bits == bits
    assert facts.maximum == values.max()
    assert sum(facts.histogram) == values.size
    assert len(facts.histogram) == BINS


def test_a_histogram_of_floats(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 500, (30, 30)).astype(np.float32)
    facts = inspect_file(save(tmp_path / "a.npy", values))
    low, high = facts.histogram_range
    assert (low, high) == (pytest.approx(values.min()), pytest.approx(values.max()))
    middle = low + (high - low) * 128 / 256
    assert sum(facts.histogram[:128]) == (values < middle).sum()
    assert (facts.kind, facts.bits, facts.windowed) == ("array", 32, False)


def test_an_array_of_grey_levels_counts_as_windowed(tmp_path: Path, pixels: np.ndarray) -> None:
    assert inspect_file(save(tmp_path / "a.npy", pixels / 255.0)).windowed


@pytest.mark.parametrize("name", ["constant.png", "constant.npy"])
def test_a_constant_picture(tmp_path: Path, name: str) -> None:
    facts = inspect_file(save(tmp_path / name, np.full((9, 9), 7, np.uint8 if "png" in name else np.float32)))
    assert facts.problem is None
    assert (facts.digest, facts.phash, facts.std, facts.minimum, facts.maximum) == (None, None, 0, 7, 7)
    assert sum(facts.histogram) == 81


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume(tmp_path: Path, voxels: np.ndarray, suffix: str) -> None:
    facts = inspect_file(save(tmp_path / f"a{suffix}", voxels), "ct")
    assert (facts.kind, facts.problem, facts.shape) == ("volume", None, (24, 20, 10))
    assert facts.spacing == pytest.approx((2, 3, 5))
    assert facts.orientation == "LAS"
    assert np.allclose(facts.affine, AFFINE)
    assert (facts.dtype, facts.bits, facts.windowed) == ("int16", 16, False)
    assert (facts.minimum, facts.maximum) == (voxels.min(), voxels.max())
    assert facts.std == pytest.approx(voxels.std(), rel=1e-6)
    values = struct.pack(f"<{voxels.size}d", *voxels.ravel().tolist())
    assert facts.digest == hashlib.sha256(b"(24, 20, 10)" + values).hexdigest()
    assert facts.appearance is not None
    # LAS: x runs to the left already, as in the picture; y runs to anterior, which is the top.
    plane = voxels[:, ::-1, 5].T.astype(np.float32)
    assert facts.phash == perceptual_hash(np.clip(plane, *np.percentile(plane, (1, 99))))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL"])
def test_the_middle_slice_does_not_depend_on_the_order_of_axes(tmp_path: Path, voxels: np.ndarray, axes: str) -> None:
    image = nib.Nifti1Image(voxels[:, :, :9], AFFINE)  # an odd number: one slice is in the middle either way
    nib.save(image, tmp_path / "a.nii")
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
    nib.save(image.as_reoriented(turn), tmp_path / "b.nii")
    first, second = inspect_file(tmp_path / "a.nii"), inspect_file(tmp_path / "b.nii")
    assert second.orientation == axes
    assert first.phash == second.phash


def test_facts_share_the_leak_guards_idea_of_equal(tmp_path: Path, pixels: np.ndarray) -> None:
    a, b = save(tmp_path / "a.png", pixels), save(tmp_path / "b.nii.gz", pixels.astype(np.float32)[..., None])
    assert inspect_file(a).digest == inspect_file(b).digest
    cases = [Case("a", "s1", ct=a, split="train"), Case("b", "s2", ct=b, split="test")]
    with pytest.raises(LeakError):
        guard_splits(Manifest(cases))


def test_facts_are_small_and_survive_pickling(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (700, 700), dtype=np.uint8)
    facts = inspect_file(save(tmp_path / "a.png", big))
    content = pickle.dumps(facts)
    assert len(content) < 4096
    assert repr(pickle.loads(content)) == repr(facts)


# --- bad files --------------------------------------------------------------------------------------------------------

CUTTABLE = ["a.png", "a.jpg", "a.tif", "a.npy", "a.nii", "a.nii.gz", "b.npy", "a.mha", "a.nrrd"]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("name", CUTTABLE)
def test_cut_files_are_truncated(tmp_path: Path, name: str, share: float, pixels: np.ndarray) -> None:
    big = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    path = tmp_path / name
    if path.suffix in (".mha", ".nrrd"):
        itk = pytest.importorskip("itk")
        itk.imwrite(itk.image_from_array(np.stack([big] * 3)), str(path))
    else:
        save(path, np.stack([big] * 3, axis=-1) if name in ("a.nii", "a.nii.gz", "b.npy") else big)
    assert problem_of(path) is None
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    header_left = path.suffix not in (".mha", ".nrrd") or share >= 0.2
    assert problem_of(path) in (("truncated",) if header_left else ("truncated", "unreadable"))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.npy", "a.nii", "a.mha", "a.nrrd", "a.dcm"])
def test_noise_is_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x07 no image " * 200)
    assert problem_of(tmp_path / name) == "unreadable"


@pytest.mark.parametrize("name", ["missing.png", "missing.nii", "missing.dcm", "a.txt", "nothing"])
def test_what_is_no_image_is_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert problem_of(tmp_path / name) == "unreadable"


def test_a_folder_without_a_series_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert problem_of(tmp_path) == "unreadable"


@pytest.mark.parametrize("shape", [(0, 5), (7,), (2, 3, 4, 5)])
def test_arrays_of_other_shapes_are_unreadable(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert problem_of(save(tmp_path / "a.npy", np.zeros(shape))) == "unreadable"


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "a.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    assert problem_of(tmp_path / "a.npy") == "unreadable"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["a.npy", "a.nii.gz", "a.tif"])
def test_not_finite(tmp_path: Path, name: str, bad: float) -> None:
    values = np.ones((6, 5), np.float32)
    values[2, 3] = bad
    assert problem_of(save(tmp_path / name, values[..., None] if "nii" in name else values)) == "not_finite"


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.nii.gz"])
def test_more_voxels_than_allowed(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    path = save(tmp_path / name, pixels[..., None] if "nii" in name else pixels)
    assert problem_of(path, max_voxels=pixels.size) is None
    assert problem_of(path, max_voxels=pixels.size - 1) == "too_large"


def test_a_header_that_claims_a_giant_picture_is_too_large(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert problem_of(tmp_path / "a.png") == "too_large"


def test_damaged_voxels_are_noticed(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.nii.gz"
    plain = save(tmp_path / "a.nii", voxels).read_bytes()
    content = bytearray(gzip.compress(plain, 1))
    content[-6] ^= 0xFF  # in the checksum
    path.write_bytes(content)
    assert problem_of(path) in ("unreadable", "truncated")


def test_nothing_is_warned_about(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "a.png", pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inspect_file(path).problem is None


def test_an_unknown_modality_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'pet'"):
        inspect_file(tmp_path / "a.png", "pet")


# --- many files -------------------------------------------------------------------------------------------------------


class Bomb(str):
    """A modality that ends the process in which it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (3,)


def files(folder: Path) -> list[tuple[Path, str | None]]:
    rng = np.random.default_rng(0)
    found: list[tuple[Path, str | None]] = []
    for index in range(6):
        found.append((save(folder / f"{index}.png", rng.integers(0, 256, (20, 20), dtype=np.uint8)), "mri"))
    found[2][0].write_bytes(found[2][0].read_bytes()[:80])
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_files_are_inspected_in_order(tmp_path: Path, workers: int) -> None:
    items = files(tmp_path)
    calls: list[tuple[int, int]] = []
    facts = inspect_files(items, workers, lambda *numbers: calls.append(numbers))
    # As text, since a number that is not there is NaN, which equals nothing.
    assert repr(facts) == repr([inspect_file(*item) for item in items])
    assert [one.problem is not None for one in facts] == [index == 2 for index in range(6)]
    assert calls == [(done, 6) for done in range(1, 7)]


def test_a_crash_costs_one_file(tmp_path: Path) -> None:
    items = files(tmp_path)
    items[4] = (items[4][0], Bomb("ct"))
    facts = inspect_files(items, 2)
    assert facts[4].problem is not None
    assert (facts[4].path, facts[4].problem.kind) == (items[4][0], "unreadable")
    assert "process" in facts[4].problem.measure
    for index in (0, 1, 2, 3, 5):
        assert repr(facts[index]) == repr(inspect_file(*items[index]))


def test_no_file_no_facts() -> None:
    assert inspect_files([], 4) == []


# --- real images ------------------------------------------------------------------------------------------------------


def test_a_tilted_series_is_named_so(real_data: Path) -> None:
    folder = real_data / "dicom" / "ct_head_ge"
    facts = inspect_file(folder, "ct")
    assert facts.problem is not None
    assert (facts.problem.kind, facts.problem.file) == ("tilted", folder)
    assert "18.5" in facts.problem.measure
    assert [finding.kind for finding in facts.findings] == ["uneven_spacing"]


def test_a_real_series_and_its_files_are_one(real_data: Path) -> None:
    folder = real_data / "dicom" / "mr_brain_vs_seg_001"
    facts = inspect_file(folder, "mri")
    assert (facts.problem, facts.shape, facts.findings) == (None, (512, 512, 20), ())
    assert facts.spacing == pytest.approx((0.41015625, 0.41015625, 6.0))
    assert facts.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert facts.appearance is not None
    assert facts.appearance.modality == "mri"


@pytest.mark.parametrize(
    ("name", "orientation", "found"),
    [("ct_head_ge_upper14_hu", "LPS", []), ("ct_template_scct", "LAS", ["implausible_hu"])],
)
def test_real_ct_volumes(real_data: Path, name: str, orientation: str, found: list[str]) -> None:
    facts = inspect_file(real_data / "volumes" / f"{name}.nii.gz", "ct")
    assert facts.problem is None
    assert facts.orientation == orientation
    assert not facts.windowed
    assert [finding.kind for finding in facts.findings] == found
