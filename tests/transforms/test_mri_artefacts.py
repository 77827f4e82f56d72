"""Artefacts of MRI in slices: what they change, by how much, and that CT does not know of them."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import abnormal_twins, assert_families_unseen
from monai_ctmri.transforms.ct_artefacts import InjectLowDosed, InjectRingsd, InjectStreaksd
from monai_ctmri.transforms.mri_artefacts import InjectBiasd, InjectGhostingd, InjectMotiond, InjectSpiked

SIZE, SPACING = 128, 1.6
ALL = [InjectMotiond, InjectGhostingd, InjectSpiked, InjectBiasd]
y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
RADIUS = np.hypot(y / 54, x / 44) * 54
BRAIN, HEAD = RADIUS < 48, RADIUS < 54


def case(hounsfield: bool = False, **entries) -> dict:
    """A head with stripes of tissue in MRI and a skull in CT, far from the frame at the sides."""
    random = np.random.RandomState(0)
    ct = np.where(BRAIN, 30.0, np.where(HEAD, 1100.0, -1000.0)) + 2 * random.standard_normal(HEAD.shape)
    mri = np.where(BRAIN, 0.4 + 0.08 * np.sin(y / 4) * np.cos(x / 5), np.where(HEAD, 0.2, 0.0))
    ct = ct if hounsfield else np.clip(ct / 80, 0, 1)
    held = {key: torch.tensor(each[None], dtype=torch.float32) for key, each in (("ct", ct), ("mri", mri))}
    if hounsfield:
        held["ct"] = MetaTensor(held["ct"], meta={"windowed": False})
    return {"case": "c", "subject": "s", **held, **entries}


def injected(make, seed: int = 0, data: dict | None = None, **options):
    data = case() if data is None else data
    return data, make(pixel_spacing_mm=SPACING, **options).set_random_state(seed)(data)


def change(before: dict, after: dict) -> np.ndarray:
    return np.asarray(after["mri"])[0].astype(np.float64) - np.asarray(before["mri"])[0]


@pytest.mark.parametrize("hounsfield", [False, True])
@pytest.mark.parametrize("make", ALL)
def test_ct_stays_bit_for_bit_and_the_record_is_plain(make, hounsfield: bool):
    before, after = injected(make, 0, case(hounsfield))
    assert np.asarray(after["ct"]).tobytes() == np.asarray(before["ct"]).tobytes()
    record = after["anomaly"]
    assert json.loads(json.dumps(record)) == record
    assert record["modality"] == "mri"
    assert record["source"]
    assert record["contrast_to_noise_of"]["ct"] == 0
    assert record["contrast_to_noise"] > 0
    assert after["label"] == 1
    mask = np.asarray(after["mask"])[0] > 0
    assert record["size_mm"] == pytest.approx(2 * np.sqrt(mask.sum() / np.pi) * SPACING)
    assert 0 <= float(after["mri"].min()) <= float(after["mri"].max()) <= 1
    with pytest.raises(InputError):
        assert_families_unseen(make())


@pytest.mark.parametrize("make", ALL)
def test_contrast_zero_and_seeds(make):
    before, none = injected(make, 3, contrast=0.0)
    assert np.asarray(none["mri"]).tobytes() == np.asarray(before["mri"]).tobytes()
    assert none["label"] == 1
    assert none["anomaly"]["contrast_to_noise"] == 0
    full, half = injected(make, 3), injected(make, 3, contrast=0.5)
    np.testing.assert_array_equal(none["mask"], full[1]["mask"])
    inside = (np.asarray(full[1]["mri"])[0] > 0) & (np.asarray(full[1]["mri"])[0] < 1)
    np.testing.assert_allclose(change(*half)[inside], 0.5 * change(*full)[inside], atol=1e-6)
    np.testing.assert_array_equal(full[1]["mri"], injected(make, 3)[1]["mri"])
    assert (np.asarray(full[1]["mri"]) != np.asarray(injected(make, 4)[1]["mri"])).any()


@pytest.mark.parametrize("make", ALL)
def test_stronger_changes_more(make):
    low, high = make().strength
    weak, strong = (np.abs(change(*injected(make, 5, strength=(each, each)))).sum() for each in (low, high))
    assert strong > 1.3 * weak


@pytest.mark.parametrize("seed", range(4))
def test_motion_blurs_but_does_not_displace(seed: int):
    before, after = injected(InjectMotiond, seed, strength=(8.0, 8.0))
    new, old = np.asarray(after["mri"])[0].astype(float), np.asarray(before["mri"])[0].astype(float)
    starts = after["anomaly"]["starts"]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert 4 <= len(starts) <= 9
    assert len(after["anomaly"]["turns"]) == len(after["anomaly"]["shifts"]) == len(starts)
    for index in (y, x):
        assert abs((new * index).sum() / new.sum() - (old * index).sum() / old.sum()) < 1.0
    # The lines that were read in the first pose carry the mean: it stays, and edges lose.
    assert new.sum() == pytest.approx(old.sum(), rel=0.1)
    rim = np.abs(RADIUS - 54) < 1.5
    assert np.abs(np.gradient(new)[1][rim]).mean() < np.abs(np.gradient(old)[1][rim]).mean()
    air = RADIUS > 58
    assert new[air].max() > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_ghosts_show_in_the_air_at_the_stated_shift_and_strength(seed: int):
    before, after = injected(InjectGhostingd, seed, strength=(0.2, 0.2))
    record, old = after["anomaly"], np.asarray(before["mri"])[0].astype(float)
    new = np.asarray(after["mri"])[0].astype(float)
    axis, shift = record["phase_axis"], record["shift_of_view"] * SIZE
    assert SIZE / 6 <= shift <= SIZE / 2

    def shifted(step: float) -> np.ndarray:
        wave = np.exp(-2j * np.pi * np.fft.fftfreq(SIZE) * step)
        return np.fft.ifft(np.fft.fft(old, axis=axis) * (wave[:, None] if axis == 0 else wave[None]), axis=axis)

    one, other = shifted(shift).real, shifted(-shift).real
    only = (RADIUS > 57) & (one > 0.3) & (np.abs(other) < 0.02)
    assert only.sum() > 20
    np.testing.assert_allclose(new[only], 0.2 * one[only], atol=0.012)
    assert after["mask"].sum() > 0


def test_spike_makes_one_wave_at_the_stated_place_in_the_head():
    before, after = injected(InjectSpiked, 1, strength=(0.3, 0.3))
    at, difference = after["anomaly"]["at"], change(before, after)
    period = SIZE * SPACING / np.hypot(*at)
    assert 5 < period < 45
    wave = np.exp(2j * np.pi * (at[0] * np.indices(HEAD.shape)[0] + at[1] * np.indices(HEAD.shape)[1]) / SIZE)
    inside = RADIUS < 46  # bright enough for the magnitude to stay positive
    design = np.stack([wave.real[inside], wave.imag[inside]], axis=1)
    fitted, residual, *_ = np.linalg.lstsq(design, difference[inside], rcond=None)
    old = np.asarray(before["mri"])[0]
    assert np.hypot(*fitted) == pytest.approx(0.3 * np.median(old[HEAD]), rel=0.02)
    assert residual[0] < 1e-3 * (difference[inside] ** 2).sum()
    assert np.asarray(after["mask"])[0][BRAIN].mean() > 0.9


def test_bias_is_a_smooth_factor_and_air_stays_air():
    before, after = injected(InjectBiasd, 2, strength=(0.5, 0.5))
    old, new = np.asarray(before["mri"])[0].astype(float), np.asarray(after["mri"])[0].astype(float)
    assert not new[old == 0].any()
    factor = new[BRAIN] / old[BRAIN]
    assert 1.2 < factor.max() < 2.0
    assert 0.5 < factor.min() < 0.85
    basis = np.stack([(y[BRAIN] / 64) ** i * (x[BRAIN] / 64) ** j for i in range(4) for j in range(4)], axis=1)
    fit = basis @ np.linalg.lstsq(basis, np.log(factor), rcond=None)[0]
    assert np.abs(np.log(factor) - fit).max() < 1e-3


def test_without_mri_one_line_says_so():
    data = case()
    del data["mri"]
    with pytest.raises(InputError, match="has no mri"):
        injected(InjectBiasd, 0, data)
    with pytest.raises(InputError, match="keys"):
        InjectMotiond(keys=("ct",))
    without_ct = {key: value for key, value in case().items() if key != "ct"}
    assert injected(InjectGhostingd, 0, without_ct)[1]["label"] == 1


def test_twins_of_every_artefact_keep_the_original_and_the_image_entry_follows():
    data = case()
    data["image"] = torch.cat([data["ct"], data["mri"]])
    makes = [each(pixel_spacing_mm=SPACING) for each in (*ALL, InjectRingsd)]
    twins = list(abnormal_twins([data], makes, seed=1))
    assert len({twin["case"] for twin in twins}) == len(makes)
    for twin in twins:
        np.testing.assert_array_equal(twin["image"], np.concatenate([twin["ct"], twin["mri"]]))
        assert twin["twin_of"] == "c"
    assert all(make._drawn is None for make in makes)


def test_real_pairs(real_data):
    """On a real slice of 256 x 256 every artefact changes its own modality visibly and in time."""
    from PIL import Image

    for name in ("16010", "21012"):
        data = {"case": name, "subject": name[:2]}
        for key in ("ct", "mri"):
            pixels = np.asarray(Image.open(real_data / "pairs" / key / f"{name}.png").convert("L"), dtype=np.float32)
            data[key] = torch.tensor(pixels[None] / 255)
        for make in (*ALL, InjectStreaksd, InjectRingsd, InjectLowDosed):
            start = time.process_time()
            _, after = injected(make, 1, data)
            assert time.process_time() - start < 1.0
            own = after["anomaly"]["modality"]
            other = "mri" if own == "ct" else "ct"
            assert torch.equal(torch.as_tensor(after[other]), data[other])
            assert after["anomaly"]["contrast_to_noise"] > 0.2
            assert 20 < after["anomaly"]["size_mm"] < 400
