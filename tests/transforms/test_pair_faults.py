"""Faults of a pair against the motion, mirror and donor they state."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import assert_families_unseen
from monai_ctmri.transforms.pair_faults import InjectFlipd, InjectMisregistrationd, InjectWrongSliced, mirrored

SIZE, SPACING = 96, 2.0
y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2


def case(hounsfield: bool = False, right: float = 0.0, level: int = 5, **entries) -> dict:
    """A head, lopsided within, ``right`` pixels off the middle; its bright spot moves with the level."""
    random = np.random.RandomState(level)
    radius = np.hypot(y / 40, (x - right) / 32) * 40
    spot = np.exp(-((y + 3 * level - 15) ** 2 + (x - right - 12) ** 2) / 30)
    ct = np.where(radius < 35, 30.0 + 20 * spot, np.where(radius < 40, 1100.0, -1000.0))
    ct += 2 * random.standard_normal(ct.shape)
    mri = ndimage.gaussian_filter(np.where(radius < 35, 0.3 + 0.5 * spot, np.where(radius < 40, 0.15, 0.0)), 1.0)
    mri[radius > 44] = 0
    held = {"ct": ct if hounsfield else np.clip(ct / 80, 0, 1), "mri": np.clip(mri, 0, 1)}
    images = {key: torch.tensor(each[None], dtype=torch.float32) for key, each in held.items()}
    if hounsfield:
        images["ct"] = MetaTensor(images["ct"], meta={"windowed": False})
    return {"case": f"s_{level:02d}", "subject": "s", **images, **entries}


DONORS = [case(level=level) for level in range(10)] + [{**case(level=12), "subject": "other"}]


def wrong_slice(**options) -> InjectWrongSliced:
    return InjectWrongSliced(DONORS, **options)


ALL = [wrong_slice, InjectMisregistrationd, InjectFlipd]


def injected(make, seed: int = 0, data: dict | None = None, **options):
    data = case() if data is None else data
    return data, make(pixel_spacing_mm=SPACING, **options).set_random_state(seed)(data)


def picture(case: dict, key: str = "mri") -> np.ndarray:
    return np.asarray(case[key])[0].astype(np.float64)


@pytest.mark.parametrize("replace", ["ct", "mri"])
@pytest.mark.parametrize("make", ALL)
def test_the_other_modality_stays_and_nothing_changes_outside_the_mask(make, replace: str):
    before, after = injected(make, 1, replace=replace)
    other = "ct" if replace == "mri" else "mri"
    assert np.asarray(after[other]).tobytes() == np.asarray(before[other]).tobytes()
    assert (np.asarray(after[replace]) != np.asarray(before[replace])).any()
    record, mask = after["anomaly"], np.asarray(after["mask"])[0] > 0
    assert json.loads(json.dumps(record)) == record
    assert record["replaced"] == replace
    assert record["source"]
    assert record["contrast_to_noise_of"][other] == 0
    assert record["size_mm"] == pytest.approx(2 * np.sqrt(mask.sum() / np.pi) * SPACING)
    assert after["label"] == 1
    assert mask[picture(before, replace) > 0.06].all()  # the whole head
    assert mask[picture(after, replace) > 0.06].all()
    assert mask.mean() < 0.75
    with pytest.raises(InputError):
        assert_families_unseen(make())


@pytest.mark.parametrize("make", ALL)
def test_contrast_is_zero_or_one(make):
    before, none = injected(make, 2, contrast=0.0)
    for key in ("ct", "mri"):
        assert np.asarray(none[key]).tobytes() == np.asarray(before[key]).tobytes()
    np.testing.assert_array_equal(none["mask"], injected(make, 2)[1]["mask"])
    assert none["anomaly"]["contrast_to_noise"] == 0
    with pytest.raises(InputError, match="0 or 1"):
        make(contrast=0.5)


@pytest.mark.parametrize("make", [wrong_slice, InjectMisregistrationd])
def test_seed_decides_and_a_repeated_call_repeats(make):
    results = [np.asarray(injected(make, seed)[1]["mri"]) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
    transform = make(pixel_spacing_mm=SPACING).set_random_state(0)
    with pytest.raises(InputError, match="randomize=True"):
        transform(case(), randomize=False)
    np.testing.assert_array_equal(transform(case())["mri"], transform(case(), randomize=False)["mri"])


@pytest.mark.parametrize("make", ALL)
def test_needs_both_modalities(make):
    for data in ({**case(), "ct": None}, {**case(), "mri": torch.zeros(1, SIZE, SIZE)}):
        with pytest.raises(InputError, match="one modality"):
            injected(make, 0, data)
    with pytest.raises(InputError, match="replace"):
        make(replace="pet")
    untouched = case()
    assert make(prob=0.0)(untouched) == untouched


@pytest.mark.parametrize("seed", range(6))
def test_wrong_slice_is_a_donor_of_the_subject_far_enough_away(seed: int):
    _, after = injected(wrong_slice, seed, least_slices=2, most_slices=3)
    away = after["anomaly"]["slices_away"]
    assert 2 <= abs(away) <= 3
    np.testing.assert_array_equal(after["mri"], DONORS[5 + int(away)]["mri"])


def test_wrong_slice_takes_the_level_of_its_entry_before_that_of_the_name():
    donors = [{**donor, "slice_index": 9 - index} for index, donor in enumerate(DONORS[:10])]
    make = InjectWrongSliced(donors, least_slices=6, pixel_spacing_mm=SPACING).set_random_state(0)
    after = make({**case(), "slice_index": 0})
    assert after["anomaly"]["slices_away"] >= 6
    assert any(np.array_equal(after["mri"], donor["mri"]) for donor in donors[:4])
    by_other_key = InjectWrongSliced([{**case(level=8), "z": 40}], level_key="z", least_slices=30)
    assert by_other_key({**case(), "z": 4})["anomaly"]["slices_away"] == 36


def test_wrong_slice_in_hounsfield_units_gives_the_donor_back():
    donors = [case(True, level=9)]
    before = case(True, level=2)
    after = InjectWrongSliced(donors, replace="ct", pixel_spacing_mm=SPACING)(before)
    np.testing.assert_allclose(after["ct"], donors[0]["ct"], atol=1e-3)
    assert after["ct"].meta["windowed"] is False


def test_wrong_slice_says_what_is_missing():
    nameless = {key: value for key, value in case().items() if key not in ("case",)}
    for data, match in (
        ({**case(), "subject": None}, "has no subject"),
        (nameless, "has no slice_index"),
        ({**case(), "subject": "nobody"}, "no donor"),
        (case(level=12) | {"subject": "other"}, "no donor"),
    ):
        with pytest.raises(InputError, match=match):
            injected(wrong_slice, 0, data)
    with pytest.raises(InputError, match="least_slices"):
        wrong_slice(least_slices=4, most_slices=3)
    small = [{**case(level=9), "mri": torch.zeros(1, 4, 4)}]
    with pytest.raises(InputError, match="no donor"):
        InjectWrongSliced(small)(case())


@pytest.mark.parametrize("seed", range(5))
def test_misregistration_moves_by_what_it_states(seed: int):
    before, after = injected(InjectMisregistrationd, seed, degrees=(0.0, 0.0))
    record = after["anomaly"]
    assert 2 <= record["shift_mm"] <= 15
    assert record["shift_mm"] == pytest.approx(np.hypot(record["down_mm"], record["right_mm"]))
    old, new = picture(before), picture(after)
    centres = [np.array(ndimage.center_of_mass(each)) * SPACING for each in (old, new)]
    np.testing.assert_allclose(centres[1] - centres[0], [record["down_mm"], record["right_mm"]], atol=0.15)
    assert new.sum() == pytest.approx(old.sum(), rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_misregistration_turns_by_what_it_states(seed: int):
    before, after = injected(InjectMisregistrationd, seed, shift_mm=(0.0, 0.0))
    degrees = after["anomaly"]["degrees"]
    assert 2 <= abs(degrees) <= 10

    def bearing(image: np.ndarray) -> float:
        weight = np.where(image > 0.5, image, 0)
        return np.rad2deg(np.arctan2((weight * x).sum(), (weight * y).sum()))

    # Rows turn towards columns: the bearing from +row to +column grows.
    assert bearing(picture(after)) - bearing(picture(before)) == pytest.approx(degrees, abs=0.6)


def test_misregistration_fills_with_air_in_hounsfield_units():
    _, after = injected(InjectMisregistrationd, 0, case(True), replace="ct", shift_mm=(15, 15), degrees=(10, 10))
    values = picture(after, "ct")
    assert values.min() > -1020
    assert values[0, 0] < -900
    assert values.max() < 1120


def test_misregistration_options():
    for options in (
        {"shift_mm": (5, 2)},
        {"degrees": (-3, 2)},
        {"shift_mm": (0, 0), "degrees": (0, 0)},
    ):
        with pytest.raises(InputError):
            InjectMisregistrationd(**options)


@pytest.mark.parametrize("right", [0.0, 4.0, -5.5])
@pytest.mark.parametrize("key", ["ct", "mri"])
def test_flip_mirrors_the_head_in_its_place_and_twice_is_the_original(right: float, key: str):
    data = case(right=right)
    data["ct"][data["ct"] < 0.06] = 0  # noise of air, which the frame would cut off
    _, once = injected(InjectFlipd, 0, data, replace=key)
    _, twice = injected(InjectFlipd, 1, {**data, key: once[key]}, replace=key)
    np.testing.assert_array_equal(twice[key], data[key])
    old, new = picture(data, key), picture(once, key)
    assert np.abs(old - new).max() > 0.05
    columns = [np.flatnonzero((each > 0.06).any(axis=0)) for each in (old, new)]
    assert columns[0][[0, -1]].tolist() == columns[1][[0, -1]].tolist()
    assert once["anomaly"]["mirror_column"] == pytest.approx((SIZE - 1) / 2 + right, abs=1.0)
    # The bright spot lies on the right before and on the left after.
    assert np.argmax(picture(once, "mri").max(axis=0)) < 48 + right if key == "mri" else True


def test_mirror_about_whole_and_half_columns():
    row = np.arange(5.0)[None]
    np.testing.assert_array_equal(mirrored(row, 4, -1.0), row[:, ::-1])
    np.testing.assert_array_equal(mirrored(row, 3, -1.0), [[3, 2, 1, 0, -1]])
    np.testing.assert_array_equal(mirrored(row, 6, -1.0), [[-1, -1, 4, 3, 2]])


def test_real_neighbours_of_a_subject(real_data):
    from PIL import Image

    def load(name: str) -> dict:
        data = {"case": name, "subject": name[:2]}
        for key in ("ct", "mri"):
            pixels = np.asarray(Image.open(real_data / "pairs" / key / f"{name}.png").convert("L"), dtype=np.float32)
            data[key] = torch.tensor(pixels[None] / 255)
        return data

    donors = [load(name) for name in ("16008", "16009", "16010", "16011", "16014", "21010")]
    for seed in range(6):
        after = InjectWrongSliced(donors, least_slices=2).set_random_state(seed)(load("16010"))
        assert after["anomaly"]["slices_away"] in (-2, 4)
    for make in (InjectMisregistrationd(), InjectFlipd()):
        after = make.set_random_state(0)(load("21010"))
        assert torch.equal(torch.as_tensor(after["ct"]), load("21010")["ct"])
        assert after["anomaly"]["contrast_to_noise"] > 0.5
