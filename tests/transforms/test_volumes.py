"""Volumes as tensors: geometry against MONAI's own reader, marks, missing entries and one-line errors."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, set_track_meta
from monai.transforms import LoadImage

from monai_ctmri.errors import InputError, find_input_error
from monai_ctmri.transforms.volumes import LoadVolume, LoadVolumeD, LoadVolumed, LoadVolumeDict

VALUES = np.random.default_rng(0).normal(0, 100, (5, 6, 7)).astype(np.float32)
AFFINE = np.array([[-0.9, 0.1, 0, 12], [0.1, 0.9, -0.3, -7], [0, 0.2, 3, 5], [0, 0, 0, 1.0]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nib.save(nib.Nifti1Image(VALUES, AFFINE), tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


def test_values_and_meta(path: Path):
    image = LoadVolume("mri")(path)
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.numpy(), VALUES[None])
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(image.meta["original_affine"], AFFINE, atol=1e-6)
    assert image.meta["filename_or_obj"] == str(path)
    assert image.meta["modality"] == "mri"
    assert image.meta["windowed"] is False
    assert str(image.meta["space"]) == "RAS"
    assert tuple(image.meta["spatial_shape"]) == VALUES.shape


def test_same_as_monais_reader(path: Path):
    theirs = LoadImage(ensure_channel_first=True)(path)
    ours = LoadVolume()(str(path))
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_allclose(ours.affine, theirs.affine)
    assert ours.meta["modality"] == ""


def test_meta_is_the_tensors_own(path: Path):
    one = LoadVolume()(path)
    one.meta["original_affine"][:] = 0
    one.affine[:] = 0
    np.testing.assert_allclose(LoadVolume()(path).affine, AFFINE, atol=1e-6)


def test_plain_tensor_without_tracking(path: Path):
    set_track_meta(False)
    try:
        assert type(LoadVolume()(path)) is torch.Tensor
    finally:
        set_track_meta(True)


def test_doubtful_hu_are_logged(path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        LoadVolume("mri")(path)
        assert not caplog.records
        LoadVolume("ct")(path)
    assert "implausible_hu" in caplog.text
    assert str(path) in caplog.text


def test_dictionary_loads_what_is_there(path: Path):
    case = {"ct": None, "mri": path, "subject": "a"}
    loaded = LoadVolumed()(case)
    assert set(loaded) == {"mri", "subject"}
    assert loaded["mri"].meta["modality"] == "mri"
    assert case == {"ct": None, "mri": path, "subject": "a"}
    assert "mri" not in LoadVolumed()({"mri": ""})


def test_required_key_raises(path: Path):
    with pytest.raises(KeyError):
        LoadVolumed(allow_missing_keys=False)({"ct": None, "mri": path})


def test_modality_names(path: Path):
    loaded = LoadVolumed(("first", "second"), modality=("mri", None))({"first": path, "second": path})
    assert [loaded[key].meta["modality"] for key in ("first", "second")] == ["mri", ""]
    assert LoadVolumed(("image",))({"image": path})["image"].meta["modality"] == ""
    with pytest.raises(ValueError, match="length"):
        LoadVolumed(("first", "second"), modality=("ct",) * 3)


def test_aliases():
    assert LoadVolumeD is LoadVolumed
    assert LoadVolumeDict is LoadVolumed


@pytest.mark.parametrize("made", [LoadVolume("mri"), LoadVolumed("mri")])
def test_pickled_copies_work(path: Path, made: LoadVolume | LoadVolumed):
    given = {"mri": path} if isinstance(made, LoadVolumed) else path
    one, other = made(given), pickle.loads(pickle.dumps(made))(given)
    one, other = (each["mri"] if isinstance(each, dict) else each for each in (one, other))
    np.testing.assert_array_equal(one, other)


def test_batches_of_mixed_kinds(path: Path, tmp_path: Path):
    import itk

    itk.imwrite(itk.image_from_array(np.ascontiguousarray(VALUES.T)), str(tmp_path / "b.mha"))
    cases = [{"mri": path}, {"mri": tmp_path / "b.mha"}]
    batch = next(iter(DataLoader(Dataset(cases, LoadVolumed()), batch_size=2, num_workers=0)))
    np.testing.assert_array_equal(batch["mri"].numpy(), np.stack([VALUES[None]] * 2))


def test_input_error_is_found_behind_monai(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        LoadVolume()(tmp_path / "no.nii")
    with pytest.raises(RuntimeError) as caught:
        Dataset([{"ct": tmp_path / "no.nii"}], [LoadVolumed()])[0]
    assert "no such file" in str(find_input_error(caught.value))


def test_real_series_needs_leave_to_resample(real_data: Path):
    folder = real_data / "dicom" / "ct_head_ge"
    with pytest.raises(InputError, match="--allow-resample"):
        LoadVolume()(folder)
    image = LoadVolume(allow_resample=True)(folder / "05.dcm")
    assert image.meta["modality"] == "ct"
    assert image.min() == -1024
