"""Injected anomalies against the tables they claim, the masks they give and the promises of reproducibility."""

from __future__ import annotations

import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, Lambda, OneOf, RandFlipd, ScaleIntensityd
from PIL import Image
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import anomalies, lesion
from monai_ctmri.transforms.anomalies import (
    CT_HU,
    MRI_RELATIVE,
    InjectHemorrhaged,
    InjectInfarctd,
    InjectTumourd,
    InjectWrongPaird,
    abnormal_twins,
    assert_families_unseen,
)

SPACING = 1.8
SIZE = 128
NOISE = {"ct": 2.0 / 80, "mri": 0.012}
TISSUE = {"ct": 30.0 / 80, "mri": 0.3}
LOCAL = [InjectHemorrhaged, InjectInfarctd, partial(InjectInfarctd, stage="early"), InjectTumourd]
IDS = ["hemorrhage", "infarct", "early_infarct", "tumour"]
SEEDS = range(5)


def ellipse(rows: float, columns: float, down: float = 0.0, right: float = 0.0) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return ((y - down) / rows) ** 2 + ((x - right) / columns) ** 2 <= 1


BRAIN = ellipse(50, 40)


def case(seed: int = 0, ventricles: bool = False, **entries):
    """A head of one tissue with noise (CT with its skull, T2 with its scalp), and the brain it holds."""
    random = np.random.RandomState(seed)
    ct, mri = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    ct[ellipse(55, 45)] = 1.0
    mri[ellipse(58, 48)] = 0.5
    mri[ellipse(55, 45)] = 0.02
    ct[BRAIN], mri[BRAIN] = TISSUE["ct"], TISSUE["mri"]
    if ventricles:
        for side in (-1, 1):
            hole = ellipse(16, 4, 0, 9 * side)
            ct[hole], mri[hole] = 8 / 80, 0.9
    ct[BRAIN] += NOISE["ct"] * random.standard_normal(int(BRAIN.sum()))
    mri[BRAIN] += NOISE["mri"] * random.standard_normal(int(BRAIN.sum()))
    images = {k: torch.as_tensor(np.clip(v, 0, 1), dtype=torch.float32)[None] for k, v in (("ct", ct), ("mri", mri))}
    return {"case": f"c{seed}", "subject": f"s{seed}", "label": 0, **images, **entries}


def injected(make, seed: int, data=None, **options):
    transform = make(**options)
    transform.set_random_state(seed=seed)
    data = case(seed) if data is None else data
    return data, transform(data), transform


def change(before, after, key: str) -> np.ndarray:
    return (np.asarray(after[key]) - np.asarray(before[key]))[0].astype(np.float64)


def mask_of(out) -> np.ndarray:
    return np.asarray(out["mask"])[0] > 0.5


def parts(transform) -> list[np.ndarray]:
    return [region.profile for region in transform._drawn.regions]


# --- what every lesion promises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_nothing_changes_outside_the_mask_and_its_soft_edge(make):
    for seed in SEEDS:
        before, after, _ = injected(make, seed)
        mask = mask_of(after)
        far = ndimage.distance_transform_edt(~mask) > 2.0
        for key in ("ct", "mri"):
            difference = change(before, after, key)
            assert not difference[far].any()
            assert not difference[~BRAIN & (ndimage.distance_transform_edt(~BRAIN) > 1.5)].any()
            assert float(after[key].min()) >= 0
            assert float(after[key].max()) <= 1
        assert np.abs(change(before, after, "ct"))[mask].mean() > 1.5 / 80
        assert np.abs(change(before, after, "mri"))[mask].mean() > 0.003


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_result_and_record(make):
    before, after, transform = injected(make, 3)
    assert after["label"] == 1
    assert after["mask"].shape == (1, SIZE, SIZE)
    assert after["mask"].dtype == torch.float32
    assert set(np.unique(np.asarray(after["mask"]))) == {0.0, 1.0}
    assert isinstance(after["ct"], MetaTensor)
    assert after["ct"].dtype == torch.float32
    record = after["anomaly"]
    assert record["kind"] == transform.kind
    assert record["family"] == transform.family == "B"
    assert record["contrast"] == 1.0
    assert record["size_mm"] == pytest.approx(2 * np.sqrt(mask_of(after).sum() / np.pi) * SPACING)
    assert json.loads(json.dumps(record)) == record
    # In uniform tissue the spread around the lesion is the noise that was put in.
    for key in ("ct", "mri"):
        expected = np.abs(change(before, after, key))[mask_of(after)].mean() / NOISE[key]
        assert record["contrast_to_noise_of"][key] == pytest.approx(expected, rel=0.2)
    assert record["contrast_to_noise"] == max(record["contrast_to_noise_of"].values())


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
@pytest.mark.parametrize("prob_of_brain_entry", [True, False])
def test_zero_contrast_changes_no_voxel(make, prob_of_brain_entry):
    data = case(1, ventricles=True, **({"brain": BRAIN[None].astype(np.float32)} if prob_of_brain_entry else {}))
    _, after, _ = injected(make, 1, data, contrast=0)
    for key in ("ct", "mri"):
        assert torch.equal(torch.as_tensor(after[key]), data[key])
    assert mask_of(after).any()
    assert after["label"] == 1
    assert after["anomaly"]["contrast_to_noise"] == 0


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_contrast_scales_the_change_of_one_and_the_same_lesion(make):
    before, full, _ = injected(make, 2)
    _, half, _ = injected(make, 2, before, contrast=0.5)
    np.testing.assert_array_equal(mask_of(full), mask_of(half))
    for key in ("ct", "mri"):
        np.testing.assert_allclose(change(before, half, key), 0.5 * change(before, full, key), atol=1e-6)


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_same_seed_same_lesion_and_another_seed_another(make):
    data = case(0)
    first, second = injected(make, 5, data)[1], injected(make, 5, data)[1]
    other = injected(make, 6, data)[1]
    for key in ("ct", "mri", "mask"):
        assert torch.equal(first[key], second[key])
        assert not torch.equal(first[key], other[key])
    assert first["anomaly"] == second["anomaly"]


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    injected(InjectTumourd, 0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_input_is_not_mutated(make):
    data = case(0)
    kept = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in data.items()}
    injected(make, 0, data)
    assert set(data) == set(kept)
    for key, value in kept.items():
        assert torch.equal(data[key], value) if isinstance(value, torch.Tensor) else data[key] == value


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_pickle_keeps_the_draws(make):
    transform = make()
    transform.set_random_state(seed=9)
    copied = pickle.loads(pickle.dumps(transform))
    data = case(0)
    assert torch.equal(transform(data)["ct"], copied(data)["ct"])


def test_repeat_without_drawing():
    data = case(0)
    transform = InjectTumourd()
    with pytest.raises(InputError, match="randomize"):
        transform(data, randomize=False)
    first = transform(data)
    assert torch.equal(first["ct"], transform(data, randomize=False)["ct"])


def test_probability_zero_returns_the_case_as_it_came():
    data = case(0)
    out = InjectHemorrhaged(prob=0.0)(data)
    assert out is not data
    assert set(out) == set(data)
    assert out["label"] == 0
    assert out["ct"] is data["ct"]


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
@pytest.mark.parametrize("kept", ["ct", "mri"])
@pytest.mark.parametrize("how", ["absent", "none", "blank"])
def test_one_modality_missing(make, kept, how):
    data = case(0)
    other = {"ct": "mri", "mri": "ct"}[kept]
    if how == "absent":
        del data[other]
    else:
        data[other] = None if how == "none" else torch.zeros(1, SIZE, SIZE)
    _, after, _ = injected(make, 0, data)
    assert np.abs(change(data, after, kept)).max() > 0.01
    assert list(after["anomaly"]["contrast_to_noise_of"]) == [kept]
    if how == "blank":
        assert not after[other].any()
    # The mask keeps within the skull also when it is derived from one picture.
    assert not (mask_of(after) & ~ndimage.binary_dilation(BRAIN)).any()


def test_lesion_of_one_modality_only():
    before, after, _ = injected(InjectInfarctd, 0, keys=("mri",))
    assert torch.equal(torch.as_tensor(after["ct"]), before["ct"])
    assert change(before, after, "mri").max() > 0.1


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_size_is_what_was_asked_and_the_mask_stays_in_the_brain(make):
    brain = ellipse(45, 34, -2, 3)
    for size in (12.0, 25.0, 45.0):
        for seed in SEEDS:
            data = case(seed, brain=torch.as_tensor(brain[None], dtype=torch.float32))
            _, after, _ = injected(make, seed, data, size_mm=(size, size))
            assert not (mask_of(after) & ~brain).any()
            assert after["anomaly"]["size_mm"] == pytest.approx(size, rel=0.12, abs=SPACING)
            assert ndimage.label(mask_of(after), np.ones((3, 3)))[1] == 1


def test_spacing_is_used():
    _, coarse, _ = injected(InjectHemorrhaged, 1, size_mm=(30, 30), pixel_spacing_mm=2.0)
    _, fine, _ = injected(InjectHemorrhaged, 1, size_mm=(30, 30), pixel_spacing_mm=1.0)
    assert mask_of(fine).sum() == pytest.approx(4 * mask_of(coarse).sum(), rel=0.1)


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_noise_inside_equals_noise_outside(make):
    """A detector must not find a lesion by its texture being smoother or rougher than tissue."""
    ratios = {"ct": [], "mri": []}
    for seed in range(8):
        before, after, transform = injected(make, seed, size_mm=(40, 40), pixel_spacing_mm=0.9)
        # The part that lies on top in the middle of it, away from every edge.
        flat = np.all([(p > 0.999) | (p < 0.001) for p in parts(transform)], axis=0) & mask_of(after)
        flat = ndimage.binary_erosion(flat, iterations=2)
        if flat.sum() < 40:
            continue
        for key in ("ct", "mri"):
            fine = [np.asarray(d[key])[0] - ndimage.gaussian_filter(np.asarray(d[key])[0], 1) for d in (before, after)]
            ratios[key].append(fine[1][flat].std() / fine[0][flat].std())
    for key, found in ratios.items():
        assert len(found) >= 4
        # Blood and fluid clip at the window in CT, which only takes noise away.
        assert 0.8 < np.median(found) < 1.15, key


@pytest.mark.parametrize("make", LOCAL, ids=IDS)
def test_image_entry_follows(make):
    data = case(0)
    data["image"] = torch.cat([data["ct"], data["mri"]])
    _, after, _ = injected(make, 0, data)
    assert torch.equal(torch.as_tensor(after["image"]), torch.cat([after["ct"], after["mri"]]).as_tensor())
    assert not torch.equal(after["image"], data["image"])
    with pytest.raises(InputError, match="concatenated"):
        injected(make, 0, {**data, "image": torch.zeros(3, SIZE, SIZE)})


def test_results_collate():
    transform = InjectHemorrhaged()
    batch = list_data_collate([transform(case(0)), transform(case(1))])
    assert batch["mask"].shape == (2, 1, SIZE, SIZE)
    assert batch["anomaly"]["size_mm"].shape == (2,)


def test_numpy_input():
    data = {key: np.asarray(value) if isinstance(value, torch.Tensor) else value for key, value in case(0).items()}
    out = InjectHemorrhaged()(data)
    assert isinstance(out["ct"], MetaTensor)


# --- values of the tables ---------------------------------------------------------------------------------------------


def hu(out, where: np.ndarray) -> float:
    return float(np.asarray(out["ct"])[0][where].mean() * 80)


def test_hemorrhage_values_in_ct_and_mri():
    for seed in SEEDS:
        _, after, transform = injected(InjectHemorrhaged, seed, size_mm=(30, 40))
        rim, core = parts(transform)
        inner, edge = core > 0.999, (rim > 0.999) & (core < 0.001)
        assert 50 <= hu(after, inner) <= 80
        values = np.asarray(after["ct"])[0][inner] * 80
        assert (values > 50 - 4 * 2.0).mean() > 0.99
        t2 = np.asarray(after["mri"])[0]
        low, high = MRI_RELATIVE["hemorrhage"]["core"]["T2"]
        assert low <= t2[inner].mean() / TISSUE["mri"] - 1 <= high
        if edge.sum() >= 5:
            assert 10 <= hu(after, edge) <= 20
            assert t2[edge].mean() > 1.3 * TISSUE["mri"]


@pytest.mark.parametrize("stage", ["early", "subacute"])
@pytest.mark.parametrize("mri_contrast", ["T1", "T2", "PD", "FLAIR"])
def test_infarct_changes_lie_in_the_table(stage, mri_contrast):
    for seed in SEEDS:
        before, after, transform = injected(InjectInfarctd, seed, stage=stage, mri_contrast=mri_contrast)
        inside = parts(transform)[0] > 0.999
        low, high = CT_HU["infarct"][stage]
        assert low - 0.5 <= change(before, after, "ct")[inside].mean() * 80 <= high + 0.5
        low, high = MRI_RELATIVE["infarct"][stage][mri_contrast]
        assert low - 0.02 <= change(before, after, "mri")[inside].mean() / TISSUE["mri"] <= high + 0.02


def test_infarct_loses_grey_white_contrast_and_spares_fluid():
    data = case(0, ventricles=True)
    ribbon = BRAIN & ~ndimage.binary_erosion(BRAIN, iterations=5)
    ct = data["ct"].numpy().copy()
    ct[0][ribbon] += 10 / 80
    data["ct"] = torch.as_tensor(ct)
    for seed in SEEDS:
        _, after, transform = injected(InjectInfarctd, seed, data, size_mm=(50, 60))
        inside = parts(transform)[0] > 0.999
        grey = inside & ndimage.binary_erosion(ribbon)
        white = inside & ndimage.binary_erosion(BRAIN, iterations=9) & ~ellipse(22, 17)
        if grey.sum() < 20 or white.sum() < 20:
            continue
        assert hu(after, grey) - hu(after, white) < 0.75 * (hu(data, grey) - hu(data, white))
        for side in (-1, 1):
            fluid = ellipse(13, 2, 0, 9 * side)
            assert np.abs(change(data, after, "ct")[fluid]).mean() * 80 < 2


def test_infarct_reaches_the_cortex_and_stays_on_one_side():
    depth = ndimage.distance_transform_edt(BRAIN)
    seen = set()
    for seed in range(12):
        _, after, _ = injected(InjectInfarctd, seed)
        mask = mask_of(after)
        assert depth[mask].min() <= 2
        left, right = mask[:, :62].sum(), mask[:, 66:].sum()
        assert min(left, right) == 0
        seen.add(after["anomaly"]["territory"])
    assert len(seen) >= 2


def test_tumour_values_by_part():
    for seed in SEEDS:
        _, after, transform = injected(InjectTumourd, seed, size_mm=(50, 60))
        whole, core, dead = parts(transform)
        mri = np.asarray(after["mri"])[0]
        for name, where in (
            ("oedema", (whole > 0.999) & (core < 0.001)),
            ("core", (core > 0.999) & (dead < 0.001)),
            ("necrosis", dead > 0.999),
        ):
            if where.sum() < 5:
                continue
            low, high = CT_HU["tumour"][name]
            assert low - 1 <= hu(after, where) <= high + 1, name
            low, high = MRI_RELATIVE["tumour"][name]["T2"]
            assert low - 0.05 <= mri[where].mean() / TISSUE["mri"] - 1 <= high + 0.05, name
        assert (core > 0.5).sum() < 0.45 * (whole > 0.5).sum()
        assert not ((core > 0.5) & (whole <= 0.5)).any()


def test_tumour_oedema_spares_the_cortex():
    depth = ndimage.distance_transform_edt(BRAIN) * SPACING
    for seed in SEEDS:
        data = case(seed, brain=torch.as_tensor(BRAIN[None], dtype=torch.float32))
        _, after, _ = injected(InjectTumourd, seed, data)
        assert depth[mask_of(after)].min() > 4


@pytest.mark.parametrize("name", list(CT_HU))
def test_tables_are_complete_and_ordered(name):
    for part, (low, high) in CT_HU[name].items():
        assert low < high
        assert set(MRI_RELATIVE[name][part]) == {"T1", "T2", "PD", "FLAIR"}
        for bottom, top in MRI_RELATIVE[name][part].values():
            assert -1 < bottom < top


def test_contrast_of_the_case_goes_first():
    dark = injected(InjectInfarctd, 0, case(0, mri_contrast="t1"))
    assert change(dark[0], dark[1], "mri").min() < -0.03
    assert change(dark[0], dark[1], "mri")[parts(dark[2])[0] > 0.999].mean() < 0
    with pytest.raises(InputError, match="DWI"):
        injected(InjectInfarctd, 0, case(0, mri_contrast="DWI"))


# --- wrong pair -------------------------------------------------------------------------------------------------------


def test_wrong_pair_takes_the_picture_of_another_subject():
    donors = [case(seed) for seed in range(4)]
    for seed in SEEDS:
        data = case(0)
        _, after, _ = injected(partial(InjectWrongPaird, donors), seed, data)
        taken = after["anomaly"]["donor_subject"]
        assert taken in {"s1", "s2", "s3"}
        np.testing.assert_allclose(after["mri"].numpy(), donors[int(taken[1:])]["mri"].numpy())
        assert torch.equal(torch.as_tensor(after["ct"]), data["ct"])
        overlap = 2 * (mask_of(after) & BRAIN).sum() / (mask_of(after).sum() + BRAIN.sum())
        assert overlap > 0.98
        assert after["anomaly"]["kind"] == "wrong_pair"
        assert after["subject"] == "s0"


def test_wrong_pair_from_a_function_and_for_ct():
    def donate(random: np.random.RandomState):
        return case(random.randint(3))

    data = case(0)
    _, after, _ = injected(partial(InjectWrongPaird, donate, replace="ct"), 0, data)
    assert after["anomaly"]["donor_subject"] != "s0"
    assert torch.equal(torch.as_tensor(after["mri"]), data["mri"])
    assert not torch.equal(torch.as_tensor(after["ct"]), data["ct"])
    same = partial(InjectWrongPaird, donors=lambda random: case(0))
    with pytest.raises(InputError, match="no donor"):
        injected(same, 0, data)


def test_wrong_pair_zero_contrast_and_refusals():
    donors = [case(1)]
    data = case(0)
    _, after, _ = injected(partial(InjectWrongPaird, donors), 0, data, contrast=0)
    assert torch.equal(torch.as_tensor(after["mri"]), data["mri"])
    for broken, message in (
        ({k: v for k, v in data.items() if k != "mri"}, "one modality"),
        ({k: v for k, v in data.items() if k != "subject"}, "subject"),
        ({**data, "subject": "s1"}, "no donor"),
    ):
        with pytest.raises(InputError, match=message):
            injected(partial(InjectWrongPaird, donors), 0, broken)
    with pytest.raises(InputError, match="no donor"):
        injected(partial(InjectWrongPaird, [{**case(1), "mri": torch.zeros(1, 8, 8)}]), 0, data)
    with pytest.raises(InputError, match="contrast"):
        InjectWrongPaird(donors, contrast=0.5)
    with pytest.raises(InputError, match="replace"):
        InjectWrongPaird(donors, replace="pet")


# --- twins and the guard ----------------------------------------------------------------------------------------------


def library() -> list:
    return [InjectHemorrhaged(), InjectInfarctd(), InjectTumourd(), InjectWrongPaird([case(7)])]


def test_twins_do_not_depend_on_order_or_count():
    cases = [case(seed) for seed in range(3)]
    twins = {twin["case"]: twin for twin in abnormal_twins(cases, library(), seed=4)}
    assert len(twins) == 12
    assert twins["c1__tumour"]["twin_of"] == "c1"
    again = {twin["case"]: twin for twin in abnormal_twins(cases[::-1][:2], library()[::-1][:3], seed=4)}
    assert len(again) == 6
    for name, twin in again.items():
        for key in ("ct", "mri", "mask"):
            assert torch.equal(twin[key], twins[name][key])
        assert twin["anomaly"] == twins[name]["anomaly"]
    other = next(iter(abnormal_twins(cases[:1], library()[:1], seed=5)))
    assert not torch.equal(other["mask"], twins["c0__hemorrhage"]["mask"])
    assert not torch.equal(twins["c0__hemorrhage"]["mask"], twins["c1__hemorrhage"]["mask"])


def test_twins_are_deep_copies_and_leave_the_transforms_alone():
    data = case(0, note=["a"])
    transform = InjectHemorrhaged()
    transform.set_random_state(seed=1)
    state = transform.R.get_state()[1].copy()
    twin = next(iter(abnormal_twins([data], [transform], seed=0)))
    twin["note"].append("b")
    twin["ct"][:] = 0
    assert data["note"] == ["a"]
    assert float(data["ct"].max()) == 1
    assert data["case"] == "c0"
    np.testing.assert_array_equal(state, transform.R.get_state()[1])


def test_twins_refuse_what_has_no_name_or_a_name_twice():
    with pytest.raises(InputError, match="kinds repeat"):
        next(abnormal_twins([case(0)], [InjectTumourd(), InjectTumourd(contrast=0)], seed=0))
    nameless = {key: value for key, value in case(0).items() if key != "case"}
    with pytest.raises(InputError, match="case"):
        next(abnormal_twins([nameless], library(), seed=0))


def hidden_in_a_closure(transform):
    return lambda data: transform(data)


@pytest.mark.parametrize(
    "hide",
    [
        lambda t: t,
        lambda t: Compose([ScaleIntensityd("ct"), t]),
        lambda t: Compose([Compose([OneOf([RandFlipd("ct"), t])])]),
        lambda t: Compose([Lambda(func=t)]),
        lambda t: Compose([hidden_in_a_closure(t)]),
        lambda t: Compose([partial(t, randomize=True)]),
        lambda t: Compose([t.__call__]),
        lambda t: {"train": [t]},
        lambda t: type(t),
    ],
)
def test_guard_finds_family_b_wherever_it_hides(hide):
    with pytest.raises(InputError, match="family B") as caught:
        assert_families_unseen(hide(InjectTumourd()))
    assert "\n" not in str(caught.value)


def test_guard_lets_others_pass():
    plain = Compose([ScaleIntensityd("ct"), OneOf([RandFlipd("ct")]), Lambda(func=np.abs)])
    assert_families_unseen(plain)
    assert_families_unseen(None)
    assert_families_unseen(InjectTumourd(), families=("A",))
    plain.transforms += (plain,)
    assert_families_unseen(plain)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_mm": (0, 5)}, "size_mm"),
        ({"size_mm": (9, 5)}, "size_mm"),
        ({"contrast": -1}, "contrast"),
        ({"contrast": float("nan")}, "contrast"),
        ({"pixel_spacing_mm": 0}, "pixel_spacing_mm"),
        ({"mri_contrast": "T7"}, "mri_contrast"),
    ],
)
def test_bad_options(options, message):
    for make in (InjectHemorrhaged, InjectInfarctd, InjectTumourd):
        with pytest.raises(InputError, match=message):
            make(**options)


def test_bad_stage():
    with pytest.raises(InputError, match="stage"):
        InjectInfarctd(stage="late")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"ct": torch.full((1, SIZE, SIZE), 40.0)}, "outside"),
        ({"ct": torch.full((1, SIZE, SIZE), float("nan"))}, "outside"),
        ({"ct": torch.zeros(2, SIZE, SIZE)}, "shape"),
        ({"mri": torch.rand(1, 16, 16)}, "differ in shape"),
        ({"ct": torch.zeros(1, SIZE, SIZE), "mri": None}, "holds a picture"),
        ({"brain": torch.zeros(1, SIZE, SIZE)}, "no brain"),
        ({"brain": torch.ones(1, 8, 8)}, "no brain"),
    ],
)
def test_bad_cases_are_named(entries, message):
    with pytest.raises(InputError, match=message) as caught:
        InjectHemorrhaged()({**case(0), **entries})
    assert str(caught.value).startswith("c0")


def test_missing_key_can_be_an_error():
    data = {key: value for key, value in case(0).items() if key != "mri"}
    with pytest.raises(KeyError):
        InjectHemorrhaged(allow_missing_keys=False)(data)


def test_aliases_and_names():
    for stem in ("Hemorrhage", "Infarct", "Tumour", "WrongPair"):
        one = getattr(anomalies, f"Inject{stem}d")
        assert getattr(anomalies, f"Inject{stem}D") is getattr(anomalies, f"Inject{stem}Dict") is one
        assert issubclass(one, lesion.LesionTransform)
    for module in (anomalies, lesion):
        assert set(module.__all__) <= set(dir(module))


# --- real pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["16012", "16014", "21012"])
def test_real_pairs_look_as_claimed(real_data, name):
    data = {"case": name, "subject": name[:2], "mri_contrast": "T2"}
    for key in ("ct", "mri"):
        picture = Image.open(real_data / "pairs" / key / f"{name}.png").convert("L").resize((SIZE, SIZE))
        data[key] = torch.as_tensor(np.asarray(picture, dtype=np.float32) / 255)[None]
    for twin in abnormal_twins([data], [InjectHemorrhaged(), InjectInfarctd(), InjectTumourd()], seed=0):
        mask = mask_of(twin)
        ct, mri = (change(data, twin, key)[mask].mean() for key in ("ct", "mri"))
        kind = twin["anomaly"]["kind"]
        if kind == "hemorrhage":
            assert ct > 10 / 80
            assert mri < 0
        else:
            assert ct < -1 / 80 if kind == "infarct" else np.isfinite(ct)
            assert mri > 0.03
        head = np.asarray(data["ct"])[0] > 0.05
        assert head[mask].mean() > 0.9
