"""Lesions in volumes: a ball of the right size where it should be, on any orientation, and nothing else touched."""

from __future__ import annotations

import json
import pickle
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, set_track_meta
from scipy import ndimage

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.errors import InputError
from monai_ctmri.transforms import volume_lesions
from monai_ctmri.transforms.anomalies import InjectWrongPaird, assert_families_unseen
from monai_ctmri.transforms.tumour_anomalies import InjectTumourd
from monai_ctmri.transforms.vascular_anomalies import InjectChronicInfarctd, InjectHemorrhaged, InjectInfarctd
from monai_ctmri.transforms.volume_lesions import InjectIntoVolumed
from monai_ctmri.transforms.volumes import LoadVolumed

SPACING = 3.75
KINDS = [
    InjectHemorrhaged,
    partial(InjectHemorrhaged, mass_effect_mm=4.0),
    InjectInfarctd,
    InjectChronicInfarctd,
    InjectTumourd,
]
IDS = ["hemorrhage", "pushing", "infarct", "chronic", "tumour"]


@pytest.fixture(scope="module")
def head():
    """A phantom head: CT in HU and T2 of arbitrary unit, both (X, Y, Z) in RAS order, with the affine."""
    drawn = draw_subject(2, PhantomSettings(size=64, form="volumes"))
    ras = [np.ascontiguousarray(v[:, ::-1, ::-1].transpose(2, 1, 0)) for v in (drawn.ct, 731 * drawn.mri)]
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = -118.125, -118.125, drawn.levels_mm[0]
    return ras[0].astype(np.float32), ras[1].astype(np.float32), affine


def case(head, codes: str = "RAS", keys=("ct", "mri")):
    data = {"case": "v", "subject": "v", "mri_contrast": "T2"}
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    for key, array in zip(("ct", "mri"), head[:2], strict=True):
        turned = nib.orientations.apply_orientation(array, turn)
        affine = head[2] @ nib.orientations.inv_ornt_aff(turn, array.shape)
        meta = {"windowed": False, "filename_or_obj": f"{key}.nii.gz"}
        if key in keys:
            tensor = torch.as_tensor(np.ascontiguousarray(turned[None]))
            data[key] = MetaTensor(tensor, affine=torch.as_tensor(affine), meta=meta)
    return data


def injected(make, data, seed: int = 0, volume_options=None, **options):
    transform = InjectIntoVolumed(make(**options), **(volume_options or {}))
    transform.set_random_state(seed=seed)
    return transform(data)


def array(d, key: str) -> np.ndarray:
    return np.asarray(d[key])[0].astype(np.float64)


@pytest.mark.parametrize("make", KINDS, ids=IDS)
def test_only_what_the_lesion_reaches_changes(make, head):
    data = case(head)
    out = injected(make, data, size_mm=(40, 40))
    mask = array(out, "mask") > 0.5
    assert out["label"] == 1
    assert out["mask"].dtype == torch.float32
    body = np.flatnonzero(mask.any(axis=(0, 1)))
    other = np.ones(mask.shape[2], dtype=bool)
    other[body[0] - 1 : body[-1] + 2] = False
    pushing = "warped" in out["anomaly"]
    reach = (60 if pushing else 2 * SPACING) / SPACING
    far = ndimage.distance_transform_edt(~mask.any(axis=2)) > reach
    for key in ("ct", "mri"):
        before, after = np.asarray(data[key])[0], np.asarray(out[key])[0]
        np.testing.assert_array_equal(after[:, :, other], before[:, :, other])
        np.testing.assert_array_equal(after[far], before[far])
        assert (after[mask] != before[mask]).mean() > 0.9
        assert out[key].meta["filename_or_obj"] == f"{key}.nii.gz"
        np.testing.assert_allclose(out[key].affine, data[key].affine)
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
    np.testing.assert_allclose(out["mask"].affine, data["ct"].affine)


@pytest.mark.parametrize("size", [24.0, 40.0])
def test_body_of_a_hemorrhage_is_a_ball(size, head):
    """Volume pi/6 size^3, and every slice the area of the ball's."""
    out = injected(InjectHemorrhaged, case(head), 1, size_mm=(size, size))
    record, mask = out["anomaly"], array(out, "mask") > 0.5
    assert record["volume_mm3"] == pytest.approx(np.pi / 6 * size**3, rel=0.12)
    assert record["volume_mm3"] == pytest.approx(mask.sum() * SPACING**3)
    areas = mask.sum(axis=(0, 1)) * SPACING**2
    middle = record["slice_index"]
    for away in range(int(size / 2 / SPACING) + 1):
        wished = np.pi / 4 * size**2 * (1 - (2 * away * SPACING / size) ** 2)
        assert areas[middle + away] == pytest.approx(wished, abs=0.06 * np.pi / 4 * size**2)
    assert record["slices"] == np.count_nonzero(areas)
    assert record["height_mm"] == size


def test_values_in_hu(head):
    out = injected(InjectHemorrhaged, case(head), 1, size_mm=(40, 40))
    mask = array(out, "mask") > 0.5
    core = ndimage.binary_erosion(mask, iterations=2)
    assert 50 <= array(out, "ct")[core].mean() <= 80
    assert array(out, "ct").max() == array(case(head), "ct").max() > 500
    old = injected(InjectChronicInfarctd, case(head), 1, size_mm=(50, 50))
    core = ndimage.binary_erosion(array(old, "mask") > 0.5, iterations=3)
    assert 0 <= array(old, "ct")[core].mean() <= 15


def test_mri_keeps_its_unit(head):
    data = case(head)
    out = injected(InjectHemorrhaged, data, 1, size_mm=(40, 40))
    core = ndimage.binary_erosion(array(out, "mask") > 0.5, iterations=2)
    around = ndimage.binary_dilation(array(out, "mask") > 0.5, iterations=3) & ~(array(out, "mask") > 0.5)
    tissue = np.median(array(data, "mri")[around])
    assert 100 < tissue < 731
    assert 0.3 < array(out, "mri")[core].mean() / tissue < 0.65


@pytest.mark.parametrize("codes", ["LAI", "SPR"])
def test_any_orientation_gives_the_same_lesion(codes, head):
    plain = injected(InjectTumourd, case(head), 3, size_mm=(40, 45))
    turned = injected(InjectTumourd, case(head, codes), 3, size_mm=(40, 45))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(tuple(codes)), nib.orientations.axcodes2ornt("RAS")
    )
    if "I" in codes:
        assert turned["anomaly"]["slice_index"] != plain["anomaly"]["slice_index"]
    for key in ("ct", "mri", "mask"):
        back = nib.orientations.apply_orientation(np.asarray(turned[key])[0], turn)
        np.testing.assert_array_equal(back, np.asarray(plain[key])[0])
    np.testing.assert_allclose(turned["anomaly"]["centre_mm"], plain["anomaly"]["centre_mm"], atol=1e-3)


def test_centre_and_record(head):
    data = case(head)
    out = injected(InjectHemorrhaged, data, 5, size_mm=(30, 30), location=(0.4, 0.75))
    record, mask = out["anomaly"], array(out, "mask") > 0.5
    points = np.argwhere(mask) @ head[2][:3, :3].T + head[2][:3, 3]
    np.testing.assert_allclose(record["centre_mm"], points.mean(axis=0), atol=1e-3)
    # (0.4, 0.75): before the middle and to the picture's right, which is the patient's left (R negative).
    assert record["centre_mm"][0] < -15
    assert json.loads(json.dumps(record)) == record
    assert {"kind", "family", "size_mm", "contrast", "contrast_to_noise", "source"} <= set(record)
    assert record["kind"] == "hemorrhage"
    middles = [np.array(ndimage.center_of_mass(mask[:, :, z])) for z in np.flatnonzero(mask.sum(axis=(0, 1)) > 8)]
    assert np.ptp(middles, axis=0).max() * SPACING < 6


@pytest.mark.parametrize("make", KINDS[1:4], ids=IDS[1:4])
def test_contrast_zero_changes_no_voxel(make, head):
    data = case(head)
    out = injected(make, data, contrast=0.0)
    for key in ("ct", "mri"):
        np.testing.assert_array_equal(np.asarray(out[key]), np.asarray(data[key]))
    assert array(out, "mask").any()
    assert out["anomaly"].get("warped", False) is False


@pytest.mark.parametrize("key", ["ct", "mri"])
def test_one_modality(key, head):
    out = injected(InjectHemorrhaged, case(head, keys=(key,)), size_mm=(35, 35))
    assert list(out["anomaly"]["contrast_to_noise_of"]) == [key]
    assert array(out, "mask").sum() > 50
    both = case(head)
    shown = injected(InjectHemorrhaged, both, volume_options={"keys": (key,)}, size_mm=(35, 35))
    other = {"ct": "mri", "mri": "ct"}[key]
    np.testing.assert_array_equal(np.asarray(shown[other]), np.asarray(both[other]))


def test_seed_pickle_repeat_and_the_lesion_that_was_given(head):
    data = case(head)
    lesion = InjectHemorrhaged(size_mm=(30, 40))
    lesion.set_random_state(seed=1)
    state = lesion.R.get_state()[1].copy()
    one, other = InjectIntoVolumed(lesion), InjectIntoVolumed(lesion)
    one.set_random_state(seed=7)
    other.set_random_state(seed=8)
    copied = pickle.loads(pickle.dumps(one))
    first = one(data)
    assert torch.equal(first["ct"], copied(data)["ct"])
    assert torch.equal(first["ct"], one(data, randomize=False)["ct"])
    assert not torch.equal(first["mask"], other(data)["mask"])
    assert not torch.equal(first["mask"], one(data)["mask"])
    np.testing.assert_array_equal(state, lesion.R.get_state()[1])
    assert lesion.location is None
    assert lesion.size_mm == (30, 40)
    np.testing.assert_array_equal(data["ct"], case(head)["ct"])


def test_height_can_be_given(head):
    flat = injected(InjectHemorrhaged, case(head), 1, {"height_mm": 12.0}, size_mm=(40, 40))
    assert np.count_nonzero(array(flat, "mask").any(axis=(0, 1))) == 3
    assert flat["anomaly"]["height_mm"] == 12


def test_probability_zero_and_plain_tensors(head):
    data = case(head)
    assert InjectIntoVolumed(InjectHemorrhaged(), prob=0.0)(data)["ct"] is data["ct"]
    square = {key: np.asarray(value) if isinstance(value, torch.Tensor) else value for key, value in data.items()}
    transform = InjectIntoVolumed(InjectHemorrhaged(size_mm=(12, 14)), levels_mm=(8, 30))
    transform.set_random_state(seed=0)
    set_track_meta(False)
    try:
        out = transform(square)
    finally:
        set_track_meta(True)
    assert type(out["ct"]) is torch.Tensor
    assert out["mask"].shape == out["ct"].shape


def test_guard_sees_the_family(head):
    assert InjectIntoVolumed(InjectHemorrhaged()).family == "B"
    with pytest.raises(InputError, match="family B"):
        assert_families_unseen(InjectIntoVolumed(InjectHemorrhaged()))


def test_refusals(head):
    data = case(head)
    with pytest.raises(InputError, match="draws none"):
        InjectIntoVolumed(InjectWrongPaird([data]))
    with pytest.raises(InputError, match="height_mm"):
        InjectIntoVolumed(InjectHemorrhaged(), height_mm=0)
    with pytest.raises(InputError, match="randomize"):
        InjectIntoVolumed(InjectHemorrhaged())(data, randomize=False)
    moved = data["mri"].clone()
    moved.affine[0, 3] += 5
    oblong = {**data, "ct": MetaTensor(data["ct"].as_tensor(), affine=torch.diag(torch.tensor([3.0, 6, 3, 1])))}
    del oblong["mri"]
    for broken, message in (
        ({**data, "mri": moved}, "different grids"),
        ({**data, "mri": data["mri"][..., 1:]}, "different grids"),
        ({**data, "ct": data["ct"][0]}, "shape"),
        ({**data, "ct": data["ct"] * float("nan")}, "not finite"),
        ({**data, "image": data["ct"]}, "concatenated"),
        ({"case": "v", "ct": None}, "none of"),
        (oblong, "not square"),
        ({**data, "ct": torch.zeros_like(data["ct"]), "mri": torch.zeros_like(data["mri"])}, "no slice"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            injected(InjectHemorrhaged, broken)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="levels_mm"):
        injected(InjectHemorrhaged, data, volume_options={"levels_mm": (500.0, 600.0)})


def test_aliases():
    assert volume_lesions.InjectIntoVolumeD is volume_lesions.InjectIntoVolumeDict is InjectIntoVolumed


@pytest.mark.parametrize("make", [partial(InjectHemorrhaged, mass_effect_mm=5), InjectTumourd], ids=["blood", "tumour"])
def test_a_real_head_in_hu(make, real_data):
    data = LoadVolumed()({"ct": str(real_data / "volumes" / "ct_head_ge_upper14_hu.nii.gz"), "case": "ge"})
    out = injected(make, data, 4, size_mm=(40, 40))
    before, after, mask = array(data, "ct"), array(out, "ct"), array(out, "mask") > 0.5
    assert out["anomaly"]["volume_mm3"] == pytest.approx(np.pi / 6 * 40**3, rel=0.15)
    # It lies in tissue: hardly any bone or air was painted over.
    assert ((before[mask] > -20) & (before[mask] < 110)).mean() > 0.97
    if out["anomaly"]["kind"] == "hemorrhage":
        assert 50 <= after[ndimage.binary_erosion(mask, np.ones((5, 5, 1)))].mean() <= 80
    assert (after == before).mean() > 0.95
    assert after.max() == before.max()
