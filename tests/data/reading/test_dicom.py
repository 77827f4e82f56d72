"""DICOM series: found, refused, read and resampled, against pydicom and analytic heads."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest

from monai_ctmri.data.reading.dicom import find_series, read_series, read_series_header, series_at
from monai_ctmri.data.reading.volumes import read_header, read_volume
from monai_ctmri.errors import InputError

OBLIQUE = (0.8, 0.6, 0.0, -0.6 * np.cos(0.3), 0.8 * np.cos(0.3), np.sin(0.3))


def normal_of(orientation: tuple[float, ...]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def head(points: np.ndarray) -> np.ndarray:
    """A smooth head in HU at LPS mm: brain 40, falling to air -1000, with one bright and one dark spot."""
    r = np.linalg.norm(points / [70, 80, 60], axis=-1)
    spot = np.exp(-(np.linalg.norm(points - [20, 10, -5], axis=-1) ** 2) / 2 / 18**2)
    dark = np.exp(-(np.linalg.norm(points - [-25, -20, 15], axis=-1) ** 2) / 2 / 20**2)
    return 40 - 1040 / (1 + np.exp(-(r - 1) * 8)) + 60 * spot - 30 * dark


def pixel_points(position: np.ndarray, orientation, spacing, size) -> np.ndarray:
    row, column = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    return position + column[..., None] * spacing[1] * along_row + row[..., None] * spacing[0] * along_column


def random_planes(count: int, shape: tuple[int, int] = (6, 5)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(-1000, 1500, (count, *shape)).astype(float))


def heights(*values: float) -> np.ndarray:
    return np.array([[-3.0, -4.0, value] for value in values])


def by_pydicom(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Array (column, row, slice) and RAS affine by the formula of PS3.3 C.7.6.2.1.1, from files in this order."""
    sets = [pydicom.dcmread(path) for path in paths]
    planes = [d.pixel_array.T * float(d.get("RescaleSlope", 1)) + float(d.get("RescaleIntercept", 0)) for d in sets]
    orientation = np.array(sets[0].ImageOrientationPatient, dtype=float)
    first, last = (np.array(each.ImagePositionPatient, dtype=float) for each in (sets[0], sets[-1]))
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * float(sets[0].PixelSpacing[1])
    affine[:3, 1] = orientation[3:] * float(sets[0].PixelSpacing[0])
    affine[:3, 2] = (last - first) / (len(sets) - 1)
    affine[:3, 3] = first
    return np.stack(planes, axis=-1), np.diag([-1, -1, 1, 1]) @ affine


# --------------------------------------------------------------------------------------------------------- finding


def test_files_are_sorted_by_position(tmp_path: Path, write_series):
    names = ["c.dcm", "a", "b.IMA", "d.12"]
    write_series(tmp_path, random_planes(4), heights(6, 0, 9, 3), names=names, spacing=(0.5, 0.25))
    (series,) = find_series(tmp_path)
    assert [path.name for path in series.files] == ["a", "d.12", "c.dcm", "b.IMA"]
    assert series.spacing == pytest.approx((0.5, 0.25, 3.0))
    assert (series.modality, series.patient, series.description, series.problems) == ("ct", "p1", "made", ())
    assert series.frame_of_reference


def test_series_are_told_apart_and_folders_searched(tmp_path: Path, write_series):
    write_series(tmp_path / "a", random_planes(2), heights(0, 2))
    write_series(tmp_path / "b", random_planes(3), heights(0, 2, 4), modality="MR", rescale=None)
    (tmp_path / "a" / "notes.txt").write_text("nothing")
    assert find_series(tmp_path) == []
    assert [(each.modality, len(each.files)) for each in find_series(tmp_path, recursive=True)] == [
        ("ct", 2),
        ("mri", 3),
    ]


@pytest.mark.parametrize("marked", [True, False])
def test_localisers_in_the_same_series(tmp_path: Path, write_series, marked: bool):
    write_series(tmp_path, random_planes(3), heights(0, 2, 4), series="1.2.3")
    options = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]} if marked else {}
    scout = write_series(
        tmp_path,
        random_planes(1, (9, 9)),
        heights(0),
        series="1.2.3",
        names=["s"],
        orientation=(0, 1, 0, 0, 0, -1),
        **options,
    )
    found = find_series(tmp_path)
    assert sorted(len(each.files) for each in found) == [1, 3]
    assert all(not each.problems for each in found)
    assert series_at(scout[0]).files == tuple(scout)
    if marked:
        assert len(series_at(tmp_path).files) == 3
    else:
        with pytest.raises(InputError, match="2 image series"):
            series_at(tmp_path)


def test_other_objects_are_skipped(tmp_path: Path, write_series):
    write_series(tmp_path, random_planes(2), heights(0, 2))
    write_series(
        tmp_path, random_planes(1), heights(0), names=["seg.dcm"], change=lambda d, _: setattr(d, "Modality", "SEG")
    )
    assert [len(each.files) for each in find_series(tmp_path)] == [2]


def test_multi_frame_is_said_to_be_unsupported(tmp_path: Path, write_series):
    (path,) = write_series(tmp_path, random_planes(1), heights(0), NumberOfFrames=2)
    (series,) = find_series(tmp_path)
    assert series.problems[0].kind == "incomplete_series"
    with pytest.raises(InputError, match=r"multi-frame|truncated"):
        read_series(series, allow_resample=True)
    assert series.files == (path,)


def test_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="absent: cannot be listed"):
        find_series(tmp_path / "absent")


# ------------------------------------------------------------------------------------------------------ even series


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), OBLIQUE])
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("step", [3.0, -3.0])
def test_even_series_equal_pydicom(tmp_path: Path, write_series, orientation, modality: str, step: float):
    places = np.array([7.0, -8, 9]) + step * np.arange(4)[:, None] * normal_of(orientation)
    planes = random_planes(4)
    paths = write_series(tmp_path, planes, places, orientation=orientation, modality=modality, rescale=(2.0, -1000.0))
    volume = read_volume(tmp_path)
    array, affine = by_pydicom(paths if step > 0 else paths[::-1])
    np.testing.assert_allclose(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    assert volume.array.dtype == np.float32
    assert volume.modality == {"CT": "ct", "MR": "mri"}[modality]
    header = read_header(tmp_path)
    assert header.shape == volume.shape
    np.testing.assert_allclose(header.affine, volume.affine, atol=1e-5)
    assert header.dtype == np.int16


def test_a_file_stands_for_its_series(tmp_path: Path, write_series):
    one = write_series(tmp_path, random_planes(3), heights(0, 2, 4))
    write_series(tmp_path, random_planes(2), heights(0, 2), names=["x", "y"])
    assert read_volume(one[1]).shape == (5, 6, 3)
    assert read_volume(one[1]).path == one[1]
    assert read_volume(tmp_path / "y").shape == (5, 6, 2)
    with pytest.raises(InputError, match="2 image series in one folder"):
        read_volume(tmp_path)


def test_single_slice_takes_no_thickness_for_spacing(tmp_path: Path, write_series):
    (path,) = write_series(tmp_path, random_planes(1), heights(5), SliceThickness=7)
    volume = read_volume(path)
    assert volume.shape == (5, 6, 1)
    np.testing.assert_allclose(volume.affine, [[-1.5, 0, 0, 3], [0, -2, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])


def test_padding_becomes_air_in_ct_and_zero_in_mr(tmp_path: Path, write_series):
    plane = np.array([[-3000.0, -1500, -1024], [40, 500, 0], [700, 7, 8]])
    places, limits = heights(0, 2), {"PixelPaddingValue": 500, "PixelPaddingRangeLimit": 700}
    write_series(tmp_path / "ct", [plane] * 2, places, rescale=(1.0, 0.0), **limits)
    expected = np.array([[-1024, -1024, -1024], [40, -1024, 0], [-1024, 7, 8]])
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array[:, :, 1].T, expected)
    write_series(tmp_path / "mr", [plane] * 2, places, modality="MR", rescale=None, **limits)
    expected = np.array([[-3000, -1500, -1024], [40, 0, 0], [0, 7, 8]])
    np.testing.assert_array_equal(read_volume(tmp_path / "mr").array[:, :, 1].T, expected)


def test_modality_and_hu_findings(tmp_path: Path, write_series):
    write_series(tmp_path, random_planes(2), heights(0, 2), modality="MR", rescale=None)
    assert [each.kind for each in read_volume(tmp_path, "ct").findings] == ["wrong_modality"]
    write_series(tmp_path / "raw", [plane + 5000 for plane in random_planes(2)], heights(0, 2))
    volume = read_volume(tmp_path / "raw")
    assert [(each.kind, each.severity) for each in volume.findings] == [("implausible_hu", "error")]
    assert volume.array.max() > 5000


# ------------------------------------------------------------------------------------------------- refused, resampled


def leaning(degrees: float, distances: list[float], orientation: tuple[float, ...]) -> np.ndarray:
    """Positions whose steps lean by an angle towards the columns' direction; distances along the normal."""
    along, normal = np.array(orientation[3:]), normal_of(orientation)
    places = np.concatenate([[0], np.cumsum(distances)]) - sum(distances) / 2
    centre = -55 * np.array(orientation[:3]) - 65 * along
    return centre + places[:, None] * (normal + np.tan(np.deg2rad(degrees)) * along)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
@pytest.mark.parametrize(
    ("degrees", "distances", "reasons"),
    [
        (18.5, [3.0] * 20, ["tilted"]),
        (0.0, [2.0] * 15 + [3.5] * 12, ["uneven_spacing"]),
        (-15.0, [2.0] * 15 + [1.1] + [3.5] * 12, ["tilted", "uneven_spacing"]),
        (0.0, [2.5] * 12 + [5.0] + [2.5] * 12, ["incomplete_series"]),
    ],
)
def test_resampled_series_equal_the_head_they_were_drawn_from(
    tmp_path: Path, write_series, orientation, degrees: float, distances: list[float], reasons: list[str]
):
    spacing, size = (2.0, 1.8), (68, 64)
    places = leaning(degrees, distances, orientation)
    planes = [head(pixel_points(place, orientation, spacing, size)) for place in places]
    order = np.random.default_rng(1).permutation(len(planes))
    write_series(tmp_path, [planes[i] for i in order], places[order], orientation=orientation, spacing=spacing)

    with pytest.raises(InputError) as caught:
        read_volume(tmp_path)
    for word in (*reasons, "--allow-resample"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    if degrees:
        assert f"{abs(degrees):.1f} degrees" in str(caught.value)

    volume = read_volume(tmp_path, allow_resample=True)
    assert [each.kind for each in volume.findings] == ["resampled"]
    x, y, z = np.meshgrid(*map(np.arange, volume.shape), indexing="ij")
    ras = np.stack([x, y, z], axis=-1) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    truth = head(ras * [-1, -1, 1])
    inside = volume.array > -1024
    assert inside.mean() > 0.7
    # Linear interpolation errs by at most h^2 / 8 times the second derivative; the head's edge is the steepest.
    assert np.abs(volume.array - truth)[inside].max() < 16
    assert np.abs(volume.array - truth)[inside & (truth > 0)].max() < 4
    matrix = volume.affine[:3, :3]
    np.testing.assert_allclose(matrix.T @ matrix, np.diag([1.8**2, 2.0**2, np.median(distances) ** 2]), atol=1e-3)


def test_copies_are_dropped_when_resampling_is_allowed(tmp_path: Path, write_series):
    paths = write_series(tmp_path, random_planes(3), heights(0, 2, 4), rescale=(1.0, 0.0))
    expected = read_volume(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(paths[1].read_bytes())
    with pytest.raises(InputError, match="copies of one image"):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, allow_resample=True)
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)


def test_rescale_of_each_file(tmp_path: Path, write_series):
    planes = random_planes(3)

    def change(dataset, number: int) -> None:
        dataset.RescaleSlope = number + 1

    paths = write_series(tmp_path, planes, heights(0, 2, 4), rescale=(1.0, 0.0), change=change)
    with pytest.raises(InputError, match="rescale"):
        read_volume(tmp_path)
    expected, _ = by_pydicom(paths)
    np.testing.assert_allclose(read_volume(tmp_path, allow_resample=True).array, np.maximum(expected, -1024))


def test_hopeless_series_say_so(tmp_path: Path, write_series):
    write_series(tmp_path, random_planes(4), heights(0, 2, 2, 4))
    with pytest.raises(InputError, match=r"different images at one position.*does not help"):
        read_volume(tmp_path, allow_resample=True)


# ------------------------------------------------------------------------------------------------------ broken input


def test_too_large_is_refused_before_decoding(tmp_path: Path, write_series):
    write_series(tmp_path, random_planes(3), heights(0, 2, 4))
    for call in (read_volume, read_header):
        with pytest.raises(InputError, match="too large"):
            call(tmp_path, max_voxels=89)
    assert read_volume(tmp_path, max_voxels=90).shape == (5, 6, 3)
    leaning_series = write_series(tmp_path / "b", random_planes(2), np.array([[0.0, 0, 0], [1e8, 0, 1]]))
    with pytest.raises(InputError, match="too large"):
        read_volume(leaning_series[0], allow_resample=True)


def test_truncated_file_is_named(tmp_path: Path, write_series):
    paths = write_series(tmp_path, random_planes(3), heights(0, 2, 4))
    paths[1].write_bytes(paths[1].read_bytes()[:-9])
    with pytest.raises(InputError, match=r"001\.dcm: truncated"):
        read_volume(tmp_path)


def test_pixels_that_cannot_be_decoded(tmp_path: Path, write_series, capfd: pytest.CaptureFixture):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    def compress(dataset, number: int) -> None:
        if number == 1:
            dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
            dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51 no such picture"])
            dataset["PixelData"].is_undefined_length = True

    write_series(tmp_path, random_planes(3), heights(0, 2, 4), change=compress)
    with pytest.raises(InputError, match=r"001\.dcm: its pixels cannot be decoded \(JPEG 2000.*uncompressed"):
        read_volume(tmp_path)
    assert capfd.readouterr().out == ""


def test_rle_is_decoded(tmp_path: Path, write_series):
    from pydicom.uid import RLELossless

    planes = random_planes(2, (64, 48))
    paths = write_series(tmp_path, planes, heights(0, 2))
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_volume(tmp_path).array, np.stack(planes, -1).transpose(1, 0, 2))


def test_empty_folder_and_no_image(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(InputError, match="no DICOM image series"):
        read_volume(tmp_path)
    (tmp_path / "a.dcm").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.dcm: no readable DICOM image"), caplog.at_level(logging.ERROR):
        read_volume(tmp_path / "a.dcm")


def test_series_survive_pickling(tmp_path: Path, write_series):
    import pickle

    write_series(tmp_path, random_planes(2), heights(0, 2))
    (series,) = find_series(tmp_path)
    assert pickle.loads(pickle.dumps(series)) == series
    assert read_series_header(series).shape == (5, 6, 2)


# --------------------------------------------------------------------------------------------------------- real data


def test_real_ct_is_refused_with_angle_and_distances(real_data: Path):
    with pytest.raises(InputError, match=r"18\.5 degrees.*4\.22 mm.*7\.38 mm.*--allow-resample"):
        read_volume(real_data / "dicom" / "ct_head_ge")


def test_real_ct_resampled_holds_its_slices(real_data: Path):
    """Planes that fall onto a slice hold that slice, moved along its columns."""
    folder = real_data / "dicom" / "ct_head_ge"
    (series,) = find_series(folder)
    volume = read_series(series, allow_resample=True)
    assert [each.kind for each in volume.findings] == ["resampled"]
    assert volume.array.min() == -1024
    normal = volume.affine[:3, 2] / np.linalg.norm(volume.affine[:3, 2])
    assert np.rad2deg(np.arccos(normal[2])) == pytest.approx(18.5, abs=0.1)
    for number in (0, 6, 13):
        dataset = pydicom.dcmread(series.files[number])
        place = np.array(dataset.ImagePositionPatient, dtype=float) * [-1, -1, 1]
        x, y, z = np.linalg.solve(volume.affine[:3, :3], place - volume.affine[:3, 3])
        assert x == pytest.approx(0, abs=1e-3)
        assert z == pytest.approx(number, abs=0.01)
        expected = np.maximum(dataset.pixel_array.T.astype(np.float32), -1024)
        below, share = int(np.floor(y)), y - np.floor(y)
        found = volume.array[:, below + 1 : below + 512, round(z)]
        wanted = share * expected[:, :-1] + (1 - share) * expected[:, 1:]
        inside = (found > -1000) & (wanted > -1000)
        assert np.median(np.abs(found - wanted)[inside]) < 0.5


def test_real_mr_uses_positions_not_thickness(real_data: Path):
    folder = real_data / "dicom" / "mr_brain_vs_seg_001"
    volume = read_volume(folder)
    array, affine = by_pydicom(sorted(folder.iterdir()))
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    assert volume.affine[2, 2] == pytest.approx(6.0)
