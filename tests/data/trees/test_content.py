"""Headers, planes and votes, against files written here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.trees import content
from monai_ctmri.data.trees.content import Grid, any_pixel, grid_of, on_one_grid, read_plane, vote
from monai_ctmri.errors import InputError


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def picture(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def test_grid_by_header(tmp_path: Path) -> None:
    png = grid_of(picture(tmp_path / "a.png", np.zeros((7, 5), np.uint8)))
    assert png == Grid((7, 5))
    volume = grid_of(nifti(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), np.float32), np.diag([2, 2, 2, 1.0])))
    assert volume is not None
    assert volume.shape == (4, 5, 6)
    assert volume.affine is not None
    assert volume.affine[0, 0] == 2
    np.save(tmp_path / "a.npy", np.zeros((3, 9)))
    assert grid_of(tmp_path / "a.npy") == Grid((3, 9))


def test_no_grid_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert grid_of(tmp_path / "broken.png") is None
    assert grid_of(tmp_path) is None
    assert grid_of(tmp_path / "missing.nii") is None


def test_one_grid() -> None:
    here, shape = np.eye(4), (10, 10, 10)
    near, far, turned = np.eye(4), np.eye(4), np.eye(4)
    near[0, 3], far[0, 3], turned[0, 1] = 0.05, 0.5, 0.02  # a small turn moves the far corner by 0.18 mm
    assert on_one_grid(Grid(shape, here), Grid(shape, near))
    assert not on_one_grid(Grid(shape, here), Grid(shape, far))
    assert not on_one_grid(Grid(shape, here), Grid(shape, turned))
    assert not on_one_grid(Grid(shape, here), Grid((10, 10, 9), here))
    assert on_one_grid(Grid((4, 5)), Grid((4, 5)))
    assert not on_one_grid(Grid((4, 5)), Grid((5, 4)))
    assert not on_one_grid(None, None)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA", "AIL"])
def test_a_volumes_plane_lies_as_a_radiologist_sees_it(tmp_path: Path, axes: str) -> None:
    """Anterior on top, the patient's right on the left, whatever the order of the voxels."""
    array = np.zeros((6, 8, 5), np.float32)  # RAS: x to the right of the patient, y to the front
    array[5, :, 2], array[:, 7, 2] = 3, 9  # right side, front
    image = nib.Nifti1Image(array, np.eye(4))
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(image.as_reoriented(turn), tmp_path / "a.nii.gz")
    plane = read_plane(tmp_path / "a.nii.gz")
    assert plane.shape == (8, 6)
    assert (plane[0] == 9).all()
    assert (plane[1:, 0] == 3).all()
    assert (plane[1:, 1:] == 0).all()


def test_the_plane_of_a_dicom_series_is_its_middle_slice(
    tmp_path: Path, write_series: Callable[..., list[Path]]
) -> None:
    """Axial slices are stored as a radiologist sees them: row 0 anterior, column 0 the patient's right."""
    planes = [np.arange(30.0).reshape(6, 5) + 100 * number for number in range(5)]
    files = write_series(tmp_path / "s", planes, np.array([[0, 0, 3.0 * number] for number in range(5)]))
    for path in (tmp_path / "s", files[0]):
        np.testing.assert_array_equal(read_plane(path), planes[2])
    with pytest.raises(InputError):
        read_plane(tmp_path)


def test_a_colour_picture_turns_grey(tmp_path: Path) -> None:
    colour = np.zeros((4, 5, 4), np.uint8)
    colour[..., :3], colour[..., 3] = (30, 60, 90), 255
    assert (read_plane(picture(tmp_path / "a.png", colour)) == 60).all()


def test_middle_of_a_stack(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3 * 8 * 9, dtype=np.float32).reshape(3, 8, 9))
    assert read_plane(tmp_path / "a.npy")[0, 0] == 72


def test_a_broken_volume_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.nii").write_bytes(b"no volume")
    with pytest.raises(InputError, match=r"b\.nii: not a (complete )?NIfTI"):
        read_plane(tmp_path / "b.nii")


def test_empty_masks(tmp_path: Path) -> None:
    empty, drawn = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    drawn[4, 4] = 1
    assert not any_pixel(picture(tmp_path / "e.png", empty))
    assert any_pixel(picture(tmp_path / "d.png", drawn))
    opaque = np.dstack([empty, empty, empty, empty + 255])
    assert not any_pixel(picture(tmp_path / "o.png", opaque))
    assert not any_pixel(picture(tmp_path / "faint.jpg", empty + 3))
    assert any_pixel(nifti(tmp_path / "d.nii.gz", np.ones((3, 3, 3), np.uint8)))
    assert not any_pixel(nifti(tmp_path / "e.nii.gz", np.zeros((3, 3, 3), np.uint8)))


def written(tmp_path: Path, values: list[int]) -> list[Path]:
    return [picture(tmp_path / f"{i}.png", np.full((4, 4), v, np.uint8)) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "modality"),
    [
        ([1] * 10, "ct"),
        ([1] * 8 + [2] * 2, "ct"),  # 80 %
        ([1] * 7 + [2] * 3, None),
        ([2] * 5 + [0] * 5, "mri"),  # half undecided
        ([2] * 4 + [0] * 6, None),
        ([], None),
    ],
)
def test_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[int], modality: str | None) -> None:
    monkeypatch.setattr(content, "appearance_of", lambda plane, windowed: {1: "ct", 2: "mri"}.get(int(plane[0, 0])))
    assert vote(written(tmp_path, values)).modality == modality


def test_at_most_a_sample_votes_and_the_broken_have_no_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "appearance_of", lambda plane, windowed: "ct")
    assert vote(written(tmp_path, [1] * 50)).asked == 32
    (tmp_path / "0.png").write_bytes(b"")
    few = vote([tmp_path / "0.png", tmp_path / "1.png"])
    assert (few.decided, few.asked) == (1, 2)
