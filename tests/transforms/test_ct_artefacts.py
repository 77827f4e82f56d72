"""Artefacts of CT in slices: what they change, by how much, and that MRI does not know of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import assert_families_unseen
from monai_ctmri.transforms.ct_artefacts import InjectLowDosed, InjectRingsd, InjectStreaksd

SIZE, SPACING = 128, 1.6
ALL = [InjectStreaksd, InjectRingsd, InjectLowDosed]
y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
RADIUS = np.hypot(y / 54, x / 44) * 54
BRAIN, HEAD = RADIUS < 48, RADIUS < 54


def case(hounsfield: bool = False, **entries) -> dict:
    """A head of one tissue (30 HU, noise of 3) in a skull; HU with air and bone, or windowed to 0..80 HU."""
    random = np.random.RandomState(0)
    ct = np.full((SIZE, SIZE), -1000.0)
    ct[HEAD], ct[BRAIN] = 1100.0, 30.0
    ct[BRAIN] += 3 * random.standard_normal(BRAIN.sum())
    mri = np.where(BRAIN, 0.4, np.where(HEAD, 0.15, 0.0)) + 0.01 * random.standard_normal(HEAD.shape) * HEAD
    if hounsfield:
        ct = MetaTensor(torch.tensor(ct[None], dtype=torch.float32), meta={"windowed": False})
    else:
        ct = torch.tensor(np.clip(ct / 80, 0, 1)[None], dtype=torch.float32)
    return {"case": "c", "subject": "s", "ct": ct, "mri": torch.tensor(mri[None], dtype=torch.float32), **entries}


def injected(make, seed: int = 0, data: dict | None = None, **options):
    data = case() if data is None else data
    return data, make(pixel_spacing_mm=SPACING, **options).set_random_state(seed)(data)


def change(before: dict, after: dict, key: str = "ct") -> np.ndarray:
    return np.asarray(after[key])[0].astype(np.float64) - np.asarray(before[key])[0]


@pytest.mark.parametrize("make", ALL)
def test_mri_stays_bit_for_bit_and_the_record_is_plain(make):
    before, after = injected(make)
    assert np.asarray(after["mri"]).tobytes() == np.asarray(before["mri"]).tobytes()
    record = after["anomaly"]
    assert json.loads(json.dumps(record)) == record
    assert record["family"] == "B"
    assert record["modality"] == "ct"
    assert record["source"]
    assert record["contrast_to_noise_of"]["mri"] == 0
    low, high = make(pixel_spacing_mm=SPACING).strength
    assert low <= record["strength"] <= high
    assert after["label"] == 1
    mask = np.asarray(after["mask"])[0] > 0
    assert record["size_mm"] == pytest.approx(2 * np.sqrt(mask.sum() / np.pi) * SPACING)
    with pytest.raises(InputError):
        assert_families_unseen(make())


@pytest.mark.parametrize("make", ALL)
def test_windowed_slice_stays_in_its_window_and_air_stays_air(make):
    before, after = injected(make, 1)
    assert 0 <= float(after["ct"].min()) <= float(after["ct"].max()) <= 1
    outside = ~ndimage.binary_dilation(HEAD, iterations=2)
    assert not change(before, after)[outside].any()


@pytest.mark.parametrize("make", ALL)
def test_mask_covers_where_the_change_is_large(make):
    before, after = injected(make, 2, case(hounsfield=True))
    mask = np.asarray(after["mask"])[0] > 0
    level = np.abs(change(before, after))
    assert mask.any()
    assert not mask[~ndimage.binary_dilation(HEAD, iterations=2)].any()
    large = BRAIN & (level > 0.75 * np.percentile(level[BRAIN], 99))
    assert mask[large].mean() > 0.92
    share = mask.sum() / HEAD.sum()
    assert share < 0.6 if make is InjectRingsd else share > 0.3  # streaks and noise reach far
    if (BRAIN & ~mask).sum() > 50:
        assert np.sqrt((level[BRAIN & ~mask] ** 2).mean()) < 0.5 * np.sqrt((level[BRAIN & mask] ** 2).mean())


@pytest.mark.parametrize("make", ALL)
def test_contrast_is_a_factor_and_zero_a_negative_control(make):
    data = case(hounsfield=True)
    changes = {c: injected(make, 3, data, contrast=c) for c in (0.0, 0.5, 1.0)}
    before, none = changes[0.0]
    assert np.asarray(none["ct"]).tobytes() == np.asarray(before["ct"]).tobytes()
    assert none["label"] == 1
    np.testing.assert_array_equal(none["mask"], changes[1.0][1]["mask"])
    np.testing.assert_allclose(change(*changes[0.5]), 0.5 * change(*changes[1.0]), atol=2e-3)
    windowed, zero = injected(make, 3, contrast=0.0)
    assert np.asarray(zero["ct"]).tobytes() == np.asarray(windowed["ct"]).tobytes()


@pytest.mark.parametrize("make", ALL)
def test_seed_decides(make):
    results = [np.asarray(injected(make, seed)[1]["ct"]) for seed in (4, 4, 5)]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


@pytest.mark.parametrize("make", ALL)
def test_repeated_call_repeats_the_artefact_and_prob_zero_does_nothing(make):
    transform = make(pixel_spacing_mm=SPACING).set_random_state(0)
    with pytest.raises(InputError, match="randomize=True"):
        transform(case(), randomize=False)
    np.testing.assert_array_equal(transform(case())["ct"], transform(case(), randomize=False)["ct"])
    data = case()
    assert make(prob=0.0)(data) == data


@pytest.mark.parametrize("make", ALL)
def test_hounsfield_and_window_tell_the_same(make):
    """Within the window the change is that in HU over 80; bone, 1100 HU here, is taken as 1000 behind a window."""
    hu, windowed = case(hounsfield=True), case()
    one, other = (
        change(*injected(make, 6, hu, strength=(12, 12))) / 80,
        change(*injected(make, 6, windowed, strength=(12, 12))),
    )
    plain = np.asarray(windowed["ct"])[0]
    shown = BRAIN & (plain + one > 0.02) & (plain + one < 0.98) & (plain > 0) & (plain < 1)
    assert shown.sum() > 3000
    if make is InjectLowDosed:  # other counts are drawn where the skull differs
        assert other[shown].std() == pytest.approx(one[shown].std(), rel=0.1)
        return
    assert np.corrcoef(one[shown], other[shown])[0, 1] > 0.98
    assert np.abs(one - other)[shown].mean() < 0.15 * np.abs(one)[shown].mean()


def test_hounsfield_result_is_not_clipped():
    _, after = injected(InjectLowDosed, 0, case(hounsfield=True))
    values = np.asarray(after["ct"])[0]
    assert values[BRAIN].min() < 0
    assert values.max() > 1000
    assert after["ct"].meta["windowed"] is False
    assert after["ct"].dtype == torch.float32


def test_streaks_have_their_strength_start_at_the_metal_and_run_radially():
    before, after = injected(InjectStreaksd, 1, case(hounsfield=True), strength=(150, 150))
    record, difference = after["anomaly"], change(before, after)
    head = HEAD & (np.asarray(before["ct"])[0] + difference < 2000)
    assert np.percentile(np.abs(difference[head]), 99) == pytest.approx(150, rel=0.05)
    assert (difference[BRAIN] > 20).any()
    assert (difference[BRAIN] < -20).any()
    metal, count = ndimage.label(difference > 2000)
    assert 1 <= count <= len(record["bearings_degrees"])
    assert not (metal > 0)[ndimage.binary_erosion(HEAD, iterations=2)].any()  # on the scalp
    if count == len(record["bearings_degrees"]):
        for bearing in record["bearings_degrees"]:
            direction = -np.cos(np.deg2rad(bearing)), np.sin(np.deg2rad(bearing))
            centres = np.array(ndimage.center_of_mass(metal > 0, metal, range(1, count + 1))) - (SIZE - 1) / 2
            cosines = centres @ direction / np.hypot(*centres.T)
            assert cosines.max() > 0.99


def test_streaks_of_one_piece_change_less_along_them_than_across():
    transform = InjectStreaksd(pixel_spacing_mm=SPACING, strength=(100, 100)).set_random_state(0)
    transform(case())
    drawn, seed = transform._drawn
    transform._drawn = ({**drawn, "bearings_degrees": [0.0], "radii_mm": [2.0]}, seed)
    data = case(hounsfield=True)
    difference = change(data, transform(data, randomize=False))
    far, fan = np.linspace(50, 80, 31), np.linspace(-0.35, 0.35, 80)
    rows, columns = -56 + far[:, None] * np.cos(fan) + 63.5, far[:, None] * np.sin(fan) + 63.5
    polar = ndimage.map_coordinates(difference, [rows, columns], order=1)
    assert polar.std(axis=1).mean() > 2 * polar.std(axis=0).mean()


def test_rings_lie_at_their_radii_about_their_axis():
    before, after = injected(InjectRingsd, 2, case(hounsfield=True), strength=(90, 90))
    record, difference = after["anomaly"], change(before, after)
    middle = np.array(record["axis_mm"]) / SPACING
    away = np.hypot(y - middle[0], x - middle[1]) * SPACING
    radii = np.arange(2.0, 75.0, 0.5)
    profile = np.array([difference[np.abs(away - radius) < 0.6].mean() for radius in radii])
    strongest = radii[np.argmax(np.abs(profile))]
    assert np.abs(strongest - np.array(record["radii_mm"])).min() < 1.5
    assert 60 < np.abs(difference).max() < 1.5 * 90
    # Nothing but the distance from the axis matters.
    spread = [
        difference[np.abs(away - radius) < 0.05].std() for radius in radii if (np.abs(away - radius) < 0.05).sum() > 5
    ]
    assert np.median(spread) < 3


@pytest.mark.parametrize("strength", [6.0, 15.0])
def test_low_dose_adds_the_noise_it_states_without_shifting_the_mean(strength: float):
    before, after = injected(InjectLowDosed, 3, case(hounsfield=True), strength=(strength, strength))
    noise = change(before, after)[BRAIN]
    assert noise.std() == pytest.approx(strength, rel=0.2)
    assert abs(noise.mean()) < 0.15 * strength


def test_without_ct_or_with_a_wrong_option_one_line_says_so():
    data = case()
    del data["ct"]
    with pytest.raises(InputError, match="has no ct"):
        injected(InjectRingsd, 0, data)
    with pytest.raises(InputError, match="has no ct"):
        injected(InjectRingsd, 0, {**case(), "ct": torch.zeros(1, SIZE, SIZE)})
    for options in ({"strength": (0, 5)}, {"strength": (9, 5)}, {"contrast": -1.0}, {"keys": ("mri",)}):
        with pytest.raises(InputError) as problem:
            InjectStreaksd(**options)
        assert "\n" not in str(problem.value)
    injected(InjectLowDosed, 0, {key: value for key, value in case().items() if key != "mri"}, keys=("ct",))
