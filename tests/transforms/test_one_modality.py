"""A lesion in one modality is the lesion of its own transform there, and nothing elsewhere."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import (
    InjectHemorrhaged,
    InjectInfarctd,
    abnormal_twins,
    assert_families_unseen,
)
from monai_ctmri.transforms.one_modality import InjectOneModalityd, one_modality

SIZE, SPACING = 96, 2.0
OTHER = {"ct": "mri", "mri": "ct"}
y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
RADIUS = np.hypot(y / 40, x / 32) * 40


def case(hounsfield: bool = False, **entries) -> dict:
    noise = np.random.RandomState(0).standard_normal((2, SIZE, SIZE))
    ct = np.where(RADIUS < 35, 30.0, np.where(RADIUS < 40, 1100.0, -1000.0)) + 2 * noise[0]
    mri = np.where(RADIUS < 35, 0.4, np.where(RADIUS < 40, 0.02, 0.0)) + 0.01 * noise[1] * (RADIUS < 35)
    ct = ct if hounsfield else np.clip(ct / 80, 0, 1)
    held = {key: torch.tensor(each[None], dtype=torch.float32) for key, each in (("ct", ct), ("mri", mri))}
    if hounsfield:
        held["ct"] = MetaTensor(held["ct"], meta={"windowed": False})
    return {"case": "c", "subject": "s", "label": 0, **held, **entries}


def infarct(key: str, **options) -> InjectOneModalityd:
    return one_modality(InjectInfarctd, key, pixel_spacing_mm=SPACING, **options)


@pytest.mark.parametrize("hounsfield", [False, True])
@pytest.mark.parametrize("key", ["ct", "mri"])
@pytest.mark.parametrize("lesion", [InjectHemorrhaged, InjectInfarctd])
def test_one_changes_the_other_stays_bit_for_bit(lesion, key: str, hounsfield: bool):
    before = case(hounsfield)
    after = one_modality(lesion, key, pixel_spacing_mm=SPACING).set_random_state(1)(before)
    assert np.asarray(after[OTHER[key]]).tobytes() == np.asarray(before[OTHER[key]]).tobytes()
    assert isinstance(after[OTHER[key]], MetaTensor)
    mask = np.asarray(after["mask"])[0] > 0
    assert np.abs(np.asarray(after[key]) - np.asarray(before[key]))[0][mask].mean() > 0.01
    record = after["anomaly"]
    assert record["kind"] == f"{lesion.kind}_{key}_only"
    assert record["shown_in"] == key
    assert list(record["contrast_to_noise_of"]) == [key]
    assert record["family"] == "B"
    assert json.loads(json.dumps(record)) == record
    assert after["label"] == 1
    assert "brain" not in after


@pytest.mark.parametrize("key", ["ct", "mri"])
def test_it_is_the_lesion_that_both_would_show(key: str):
    brain = torch.tensor(RADIUS[None] < 35)
    before = case(brain=brain)
    both = InjectHemorrhaged(pixel_spacing_mm=SPACING).set_random_state(4)(before)
    alone = one_modality(InjectHemorrhaged, key, pixel_spacing_mm=SPACING).set_random_state(4)(before)
    np.testing.assert_array_equal(alone["mask"], both["mask"])
    np.testing.assert_array_equal(alone[key], both[key])
    assert alone["brain"] is brain


def test_brain_is_that_of_both_even_for_mri():
    after = one_modality(InjectHemorrhaged, "mri", pixel_spacing_mm=SPACING).set_random_state(2)(case())
    both = InjectHemorrhaged(pixel_spacing_mm=SPACING).set_random_state(2)(case())
    np.testing.assert_array_equal(after["mask"], both["mask"])


def test_early_infarct_shown_by_one():
    transform = infarct("mri", stage="early")
    assert transform.kind == "early_infarct_mri_only"
    after = transform.set_random_state(0)(case())
    assert after["anomaly"]["stage"] == "early"


def test_contrast_zero_seeds_and_repetition():
    none = infarct("ct", contrast=0.0).set_random_state(1)(case())
    for key in ("ct", "mri"):
        assert np.asarray(none[key]).tobytes() == np.asarray(case()[key]).tobytes()
    assert np.asarray(none["mask"]).any()
    results = [np.asarray(infarct("mri").set_random_state(seed)(case())["mri"]) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
    transform = infarct("mri").set_random_state(3)
    with pytest.raises(InputError):
        copy.copy(transform)(case(), randomize=False)
    np.testing.assert_array_equal(transform(case())["mri"], transform(case(), randomize=False)["mri"])
    restored = pickle.loads(pickle.dumps(transform))
    np.testing.assert_array_equal(transform(case())["mri"], restored(case())["mri"])
    untouched = case()
    assert infarct("ct", prob=0.0)(untouched) == untouched


def test_the_given_lesion_and_shallow_copies_are_left_alone():
    lesion = InjectHemorrhaged(pixel_spacing_mm=SPACING).set_random_state(5)
    state = lesion.R.get_state()[1].copy()
    transform = InjectOneModalityd(lesion, "ct").set_random_state(0)
    twin = copy.copy(transform)
    transform(case())
    InjectOneModalityd(lesion, "ct", allow_missing_keys=False)
    assert lesion.allow_missing_keys
    assert lesion._drawn is None
    assert lesion.keys == ("ct", "mri")
    np.testing.assert_array_equal(lesion.R.get_state()[1], state)
    with pytest.raises(InputError):
        twin(case(), randomize=False)


def test_twins_of_both_kinds_beside_the_plain_lesion():
    lesion = InjectHemorrhaged(pixel_spacing_mm=SPACING)
    made = [lesion, InjectOneModalityd(lesion, "ct"), InjectOneModalityd(lesion, "mri")]
    data = case(image=torch.cat([case()["ct"], case()["mri"]]))
    twins = list(abnormal_twins([data], made, seed=0))
    assert [twin["case"] for twin in twins] == ["c__hemorrhage", "c__hemorrhage_ct_only", "c__hemorrhage_mri_only"]
    for twin in twins:
        np.testing.assert_array_equal(twin["image"], np.concatenate([twin["ct"], twin["mri"]]))
    with pytest.raises(InputError):
        assert_families_unseen(made[1])


def test_one_line_says_what_is_wrong():
    with pytest.raises(InputError, match="key"):
        one_modality(InjectHemorrhaged, "pet")
    with pytest.raises(InputError, match="key"):
        one_modality(InjectHemorrhaged, "ct", keys=("mri",))
    with pytest.raises(InputError, match="lesion"):
        InjectOneModalityd("hemorrhage", "ct")
    with pytest.raises(InputError, match="has no mri"):
        infarct("mri")({**case(), "mri": torch.zeros(1, SIZE, SIZE)})
    alone = {key: value for key, value in case().items() if key != "mri"}
    assert infarct("ct")(alone)["label"] == 1
    with pytest.raises(KeyError):
        infarct("ct", allow_missing_keys=False)(alone)
