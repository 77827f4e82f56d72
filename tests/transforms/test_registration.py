"""The transforms: onto the reference's grid and back to the image's own, with the registration in the metadata."""

from __future__ import annotations

import logging
import pickle
from functools import lru_cache

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.data.meta_obj import set_track_meta
from monai.transforms import Compose, Invertd, SpatialResample
from scipy.spatial.transform import Rotation

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.itk_registration import Registration, register_volumes
from monai_ctmri.transforms.registration import (
    RegisterToReference,
    RegisterToReferenceD,
    RegisterToReferenced,
    RegisterToReferenceDict,
)

COARSE: dict[str, float] = {"spacing_mm": 8.0}
TRUE = np.eye(4)
TRUE[:3, :3] = Rotation.from_euler("xyz", (5, -4, 7), degrees=True).as_matrix()
TRUE[:3, 3] = 9, -7, 5


@lru_cache
def pair(axes: str = "LAS") -> dict[str, MetaTensor]:
    """CT, MR and tissue (1, X, Y, Z) of one head; MR and tissue are stored along ``axes`` on an oblique moved grid."""
    settings = PhantomSettings(size=48, contrast="T1", form="volumes")
    subject = draw_subject(1, settings)
    affine = np.diag([settings.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [-117.5, -117.5, subject.levels_mm[0]]
    ct, mri, tissue = (
        np.ascontiguousarray(each[:, ::-1, ::-1].transpose(2, 1, 0)).astype(np.float32)
        for each in (subject.ct, subject.mri, subject.tissue)
    )
    flip = np.eye(4)
    flipped = [axis for axis, (letter, ras) in enumerate(zip(axes, "RAS", strict=True)) if letter != ras]
    for axis in flipped:
        flip[axis, axis], flip[axis, 3] = -1, mri.shape[axis] - 1
    moved = torch.as_tensor(TRUE @ affine @ flip)
    stored = {"mri": mri, "mask": tissue}
    return {
        "ct": MetaTensor(ct[None], affine=torch.as_tensor(affine), meta={"filename_or_obj": "ct.nii.gz"}),
        **{
            key: MetaTensor(np.flip(each, flipped)[None].copy(), affine=moved, meta={"filename_or_obj": f"{key}.nii"})
            for key, each in stored.items()
        },
    }


def truth() -> Registration:
    return Registration(TRUE, "rigid", 1.3, 1.1, 1.0, 9.0, 12.0, True, "", 0.0)


def aligned_mri() -> np.ndarray:
    """The MR as it was drawn, on the grid of the CT."""
    return np.flip(pair()["mri"].numpy()[0], 0)


def test_moving_image_comes_to_the_grid_of_the_reference():
    data = pair()
    out = RegisterToReference(**COARSE)(data["mri"], data["ct"])
    assert isinstance(out, MetaTensor)
    assert out.dtype == torch.float32
    assert out.shape == data["ct"].shape
    assert torch.equal(out.affine, data["ct"].affine)
    assert out.meta["filename_or_obj"] == "mri.nii"
    before = SpatialResample(padding_mode="zeros")(data["mri"], data["ct"].affine, data["ct"].shape[1:]).numpy()[0]
    drawn = aligned_mri()
    inner = (slice(4, -4), slice(4, -4), slice(4, -6))
    matches = [np.corrcoef(each[inner].ravel(), drawn[inner].ravel())[0, 1] for each in (before, out.numpy()[0])]
    assert matches[0] < 0.85
    assert matches[1] > 0.95
    summary = out.meta["registration"]
    assert (summary["kind"], summary["accepted"], summary["reason"]) == ("rigid", 1.0, "")
    assert summary["quality"] > summary["quality_before"]


def test_ct_to_mri_works_as_well():
    data = pair()
    out = RegisterToReference(**COARSE)(data["ct"], data["mri"])
    assert out.shape == data["mri"].shape
    assert out.meta["registration"]["accepted"] == 1.0
    # What the CT does not see is air, not water.
    assert float(out.min()) == pytest.approx(float(data["ct"].min()), abs=5)
    head = data["mask"].numpy() > 0
    assert np.median(out.numpy()[head]) > 0
    assert np.median(out.numpy()[~head]) < -900


def test_given_mapping_is_followed_exactly():
    """With the true mapping every voxel of the MR falls on one of the CT: nothing is left to interpolate."""
    data = pair()
    out = RegisterToReference(mode="nearest")(data["mri"], data["ct"], truth())
    np.testing.assert_allclose(out.numpy()[0], aligned_mri(), atol=1e-6)


@pytest.mark.parametrize("axes", ["LAS", "LPS", "RAS"])
def test_invertd_restores_grid_and_content(axes):
    data = pair(axes)
    transform = Compose([RegisterToReferenced(keys=("mri", "mask"), mode=("bilinear", "nearest"), **COARSE)])
    done = transform(dict(data))
    done["anomaly_map"] = done["mask"].clone()
    back = Invertd("anomaly_map", transform, orig_keys="mri", nearest_interp=False)(done)["anomaly_map"]
    original = data["mri"]
    assert back.shape == original.shape
    assert torch.equal(back.affine, original.affine)
    assert back.applied_operations == []
    assert "registration" not in back.meta
    inner = (0, slice(4, -4), slice(4, -4), slice(6, -6))
    head, found = data["mask"].numpy()[inner] > 0, back.numpy()[inner] > 0.5
    assert 2 * (head & found).sum() / (head.sum() + found.sum()) > 0.95


def test_inverse_undoes_every_key():
    data = pair()
    transform = RegisterToReferenced(keys=("mri", "mask"), mode=("bilinear", "nearest"), **COARSE)
    back = transform.inverse(transform(data))
    for key in ("mri", "mask"):
        assert back[key].shape == data[key].shape
        assert torch.equal(back[key].affine, data[key].affine)
        assert back[key].applied_operations == []
    labels = set(np.unique(back["mask"]).tolist())
    assert labels <= set(np.unique(data["mask"]).tolist())


def test_earlier_operations_are_kept():
    data = pair()
    moving = data["mri"].clone()
    moving.applied_operations = [{"class": "Earlier"}]
    out = RegisterToReference()(moving, data["ct"], truth())
    assert [each["class"] for each in out.applied_operations] == ["Earlier", "RegisterToReference"]


def test_mask_follows_the_image_and_the_reference_stays():
    data = pair()
    out = RegisterToReferenced(keys=("mri", "mask"), mode=("bilinear", "nearest"), **COARSE)(data)
    assert out["ct"] is data["ct"]
    assert out["mask"].meta["registration"] == out["mri"].meta["registration"] == out["registration"]
    assert out["mri"].shape == out["mask"].shape == data["ct"].shape
    bone = out["mask"].numpy() == 4
    assert np.median(data["ct"].numpy()[bone]) > 300


def test_input_is_not_changed():
    data = dict(pair())
    before = {key: (each.clone(), each.affine.clone(), dict(each.meta)) for key, each in data.items()}
    RegisterToReferenced(**COARSE)(data)
    assert set(data) == set(before)
    for key, (values, affine, meta) in before.items():
        assert torch.equal(data[key], values)
        assert torch.equal(data[key].affine, affine)
        assert set(data[key].meta) == set(meta)
        assert data[key].applied_operations == []


def test_nothing_in_common_is_reported_and_resampled_by_the_headers(caplog):
    data = dict(pair())
    noise = MetaTensor(torch.rand(data["mri"].shape, generator=torch.Generator().manual_seed(0)))
    noise.affine = data["mri"].affine
    data["mri"] = noise
    with caplog.at_level(logging.WARNING, logger="monai_ctmri"):
        out = RegisterToReferenced(**COARSE)(data)
    assert out["registration"]["accepted"] == 0.0
    assert out["registration"]["kind"] == "identity"
    assert out["registration"]["reason"]
    assert out["registration"]["reason"] in caplog.text
    expected = SpatialResample(padding_mode="zeros")(noise, data["ct"].affine, data["ct"].shape[1:])
    inner = np.s_[:, 8:-8, 8:-8, 8:-8]
    np.testing.assert_allclose(out["mri"].numpy()[inner], expected.numpy()[inner], atol=1e-3)


def test_summary_collates_with_the_metadata():
    data = pair()
    transform = RegisterToReferenced(**COARSE)
    out = transform({key: data[key] for key in ("ct", "mri")})
    batch = list_data_collate([out, out])
    assert batch["mri"].shape[0] == 2
    assert batch["registration"]["quality"].tolist() == [out["registration"]["quality"]] * 2
    first = decollate_batch(batch)[0]
    back = transform.inverse(first)["mri"]
    assert back.shape == data["mri"].shape
    assert torch.allclose(back.affine, data["mri"].affine)


def test_pickled_copy_and_second_call_give_the_same():
    data = pair()
    made = RegisterToReferenced(seed=5, **COARSE)
    one, other = (each(data)["mri"] for each in (made, pickle.loads(pickle.dumps(made))))
    assert torch.equal(one, other)
    assert one.meta["registration"] == other.meta["registration"]


@pytest.mark.parametrize("wrap", [np.array, torch.tensor, MetaTensor])
def test_pictures_of_any_array(wrap):
    data = pair("RAS")
    ct, mri = (data[key].numpy()[..., 16] for key in ("ct", "mri"))
    out = RegisterToReference(spacing_mm=1.0)(wrap(mri), wrap(ct))
    assert isinstance(out, MetaTensor)
    assert out.shape == ct.shape
    assert torch.isfinite(out).all()
    assert out.applied_operations[0]["orig_size"] == mri.shape[1:]


def test_plain_tensor_without_metadata_tracking():
    data = pair()
    expected = RegisterToReference(**COARSE)(data["mri"], data["ct"])
    set_track_meta(False)
    try:
        out = RegisterToReference(**COARSE)(data["mri"], data["ct"])
        plain = RegisterToReference(**COARSE)(data["ct"].as_tensor(), data["ct"].as_tensor())
    finally:
        set_track_meta(True)
    np.testing.assert_array_equal(np.asarray(out), expected.numpy())
    assert type(plain) is torch.Tensor


def test_channels_move_together():
    data = pair()
    two = MetaTensor(torch.cat([data["mri"], 2 * data["mri"]]), affine=data["mri"].affine)
    out = RegisterToReference()(two, data["ct"], truth())
    assert out.shape == (2, *data["ct"].shape[1:])
    torch.testing.assert_close(out[1], 2 * out[0])


def test_quality_without_an_entry_of_its_own():
    data = pair()
    out = RegisterToReferenced(quality_key=None, **COARSE)(data)
    assert set(out) == set(data)
    assert out["mri"].meta["registration"]["accepted"] == 1.0


@pytest.mark.parametrize("missing", ["ct", "mri"])
def test_missing_entry(missing):
    data = {key: each for key, each in pair().items() if key != missing}
    with pytest.raises(KeyError):
        RegisterToReferenced()(data)
    assert RegisterToReferenced(allow_missing_keys=True)(data) == data


def test_same_as_the_search_on_arrays():
    data = pair()
    found = RegisterToReference(seed=2, **COARSE).register(data["mri"], data["ct"])
    arrays = [part for key in ("ct", "mri") for part in (data[key].numpy()[0], data[key].affine.numpy())]
    np.testing.assert_array_equal(found.matrix, register_volumes(*arrays, seed=2, spacing_mm=8.0).matrix)


def test_aliases():
    assert RegisterToReferenced is RegisterToReferenceD is RegisterToReferenceDict


@pytest.mark.parametrize("options", [{"kind": "elastic"}, {"mode": "cubic"}, {"spacing_mm": 0}, {"spacing_mm": -1.0}])
def test_bad_options(options):
    for each in (RegisterToReference, RegisterToReferenced):
        with pytest.raises(InputError, match=f"^{next(iter(options))}: "):
            each(**options)


def test_reference_among_the_keys():
    with pytest.raises(InputError, match=r"^reference_key: 'ct' is among the keys"):
        RegisterToReferenced(keys=("ct", "mri"))


@pytest.mark.parametrize("shape", [(8, 8), (1, 2, 8, 8, 8)])
def test_bad_shape(shape):
    with pytest.raises(InputError, match=r"^image: got shape"):
        RegisterToReference()(torch.zeros(shape), torch.zeros(1, 8, 8, 8))


def test_volume_against_picture():
    with pytest.raises(InputError, match="got 2 and 3 axes"):
        RegisterToReference()(torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 8))
