"""Midline shift, hydrocephalus and atrophy: amounts, no folds, and fluid that looks like fluid."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.errors import InputError
from monai_ctmri.transforms import displacement_anomalies, warps
from monai_ctmri.transforms.displacement_anomalies import InjectAtrophyd, InjectHydrocephalusd, InjectMidlineShiftd

SPACING, SIZE = 1.8, 128
MAKES = [InjectMidlineShiftd, InjectHydrocephalusd, InjectAtrophyd]


def ellipse(rows: float, columns: float, down: float = 0.0, right: float = 0.0) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return ((y - down) / rows) ** 2 + ((x - right) / columns) ** 2 <= 1


BRAIN, SKULL = ellipse(48, 38), ellipse(53, 43) & ~ellipse(48, 38)
VENTRICLES = ellipse(14, 4, 0, -8) | ellipse(14, 4, 0, 8)
FLUID = {"T1": 0.1, "T2": 0.85, "PD": 0.33, "FLAIR": 0.05}


def case(hu: bool = False, ventricles: bool = True, mri_contrast: str = "T2", noise: float = 1.0):
    random = np.random.RandomState(0)
    ct, mri = np.full((SIZE, SIZE), -1000.0 if hu else 0.0), np.zeros((SIZE, SIZE))
    ct[SKULL] = 900.0 if hu else 80.0
    ct[BRAIN], mri[BRAIN] = 32.0, 0.3
    if ventricles:
        ct[VENTRICLES], mri[VENTRICLES] = 6.0, FLUID[mri_contrast]
    ct[BRAIN] += 2 * noise * random.standard_normal(int(BRAIN.sum()))
    mri[BRAIN] += 0.01 * noise * random.standard_normal(int(BRAIN.sum()))
    mri = np.clip(mri, 0, 1)
    ct = ct if hu else np.clip(ct / 80, 0, 1)
    picture = MetaTensor(torch.as_tensor(ct, dtype=torch.float32)[None], meta={"windowed": False} if hu else {})
    mri_picture = torch.as_tensor(mri, dtype=torch.float32)[None]
    return {"case": "c", "ct": picture, "mri": mri_picture, "mri_contrast": mri_contrast}


def injected(make, seed: int = 0, data=None, **options):
    transform = make(**options).set_random_state(seed=seed)
    data = case() if data is None else data
    return data, transform(data), transform


def picture(out, key: str) -> np.ndarray:
    return np.asarray(out[key])[0]


def mask_of(out) -> np.ndarray:
    return picture(out, "mask") > 0.5


@pytest.mark.parametrize("make", MAKES)
def test_tissue_never_folds(make):
    for seed in range(3):
        _, after, transform = injected(make, seed, size_mm=(3.0, 15.0))
        determinant = warps.jacobian_determinant(transform._drawn.warp)
        assert determinant.min() > 0
        assert after["anomaly"]["least_jacobian"] == pytest.approx(determinant.min())
        assert after["anomaly"]["warped"] is True


@pytest.mark.parametrize("make", MAKES)
def test_no_folds_on_phantoms_in_hounsfield_units(make):
    subject = draw_subject(4, PhantomSettings(size=96, slices=2, contrast="T1"))
    for ct, mri in zip(subject.ct, subject.mri, strict=True):
        data = {"case": "p", "ct": MetaTensor(torch.as_tensor(ct)[None], meta={"windowed": False})}
        data["mri"] = torch.as_tensor(np.clip(mri / mri.max(), 0, 1))[None]
        _, after, _ = injected(make, 1, data, pixel_spacing_mm=2.5, mri_contrast="T1")
        assert after["anomaly"]["least_jacobian"] > 0
        assert np.abs(picture(after, "ct") - ct).max() > 5
        assert picture(after, "ct").min() < -900


# --- midline shift ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [3.0, 8.0, 15.0])
def test_the_midline_moves_by_the_shift(shift):
    data = case(noise=0.0, ventricles=False)
    mri = data["mri"].numpy().copy()
    mri[0, :, 63:65][BRAIN[:, 63:65]] = 0.9
    data["mri"] = torch.as_tensor(mri)
    for seed in range(3):
        _, after, _ = injected(InjectMidlineShiftd, seed, data, size_mm=(shift, shift))
        record = after["anomaly"]
        assert record["shift_mm"] == pytest.approx(shift)
        bright = np.where(BRAIN, picture(after, "mri") - 0.3, 0).clip(0)
        columns = (bright * np.arange(SIZE)).sum(1) / np.maximum(bright.sum(1), 1e-9)
        moved = (columns[bright.sum(1) > 0.3] - 63.5) * SPACING * (1 if record["side"] == "right" else -1)
        assert moved.max() == pytest.approx(shift, abs=0.15 * shift + 0.5)
        # The falx holds at the skull, in front and at the back.
        assert abs(moved[0]) < 0.15 * shift + 0.5
        assert abs(moved[-1]) < 0.15 * shift + 0.5


def test_shift_keeps_intensities_and_both_modalities_move_alike():
    data = case(noise=0.0)
    _, after, _ = injected(InjectMidlineShiftd, 1, data, size_mm=(10, 10))
    for key, low, high in (("ct", 6 / 80, 32 / 80), ("mri", 0.3, 0.85)):
        inside = picture(after, key)[BRAIN]
        assert inside.min() >= low - 1e-3
        assert inside.max() <= (1 if key == "ct" else high) + 1e-3
        assert set(np.round(np.percentile(inside, [2, 50]), 2)) <= {0.08, 0.4, 0.3, 0.07}
    share = (32 / 80 - picture(after, "ct")) / (26 / 80), (picture(after, "mri") - 0.3) / 0.55
    deep = ellipse(40, 30)
    np.testing.assert_allclose(share[0][deep], share[1][deep], atol=1e-3)


def test_shift_mask_is_where_tissue_moved_by_half():
    _, after, transform = injected(InjectMidlineShiftd, 2)
    moved = np.hypot(*transform._drawn.warp)
    np.testing.assert_array_equal(mask_of(after), moved > 0.5 * moved.max())


def test_shift_location_and_refusal():
    centres = []
    for row in (0.2, 0.8):
        _, after, _ = injected(InjectMidlineShiftd, 0, location=(row, 0.5))
        centres.append(ndimage.center_of_mass(mask_of(after))[0])
    assert centres[0] < centres[1] - 5
    with pytest.raises(InputError, match="fold"):
        injected(InjectMidlineShiftd, 0, size_mm=(70, 70))


# --- hydrocephalus ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dilation", [0.1, 0.35, 0.6])
@pytest.mark.parametrize("keys", [("ct", "mri"), ("ct",), ("mri",)])
def test_ventricles_grow_as_asked(dilation, keys):
    data = case(noise=0.0)
    _, after, _ = injected(InjectHydrocephalusd, 0, data, dilation=(dilation, dilation), keys=keys)
    record = after["anomaly"]
    assert record["ventricles"] == "widened"
    assert record["dilation"] == pytest.approx(dilation, abs=0.02)
    # Counted in the pictures, with partial volume.
    deep = ellipse(36, 28)
    for key in keys:
        fluid, tissue = (6 / 80, 32 / 80) if key == "ct" else (0.85, 0.3)
        area = [((picture(one, key)[deep] - tissue) / (fluid - tissue)).sum() for one in (data, after)]
        assert area[1] / area[0] - 1 == pytest.approx(dilation, abs=0.1)


def test_hydrocephalus_mask_is_the_ventricles():
    _, after, _ = injected(InjectHydrocephalusd, 0, dilation=(0.5, 0.5))
    mask = mask_of(after)
    assert (mask & ndimage.binary_erosion(VENTRICLES)).sum() == ndimage.binary_erosion(VENTRICLES).sum()
    assert not (mask & ~ndimage.binary_dilation(VENTRICLES, iterations=4)).any()
    assert mask.sum() > VENTRICLES.sum()


def test_wall_is_bound_by_size_and_location_takes_one_side():
    _, after, _ = injected(InjectHydrocephalusd, 0, dilation=(0.6, 0.6), size_mm=(0.3, 0.6))
    assert after["anomaly"]["wall_mm"] <= 0.6
    assert after["anomaly"]["dilation"] < 0.6
    data = case(noise=0.0)
    _, after, _ = injected(InjectHydrocephalusd, 0, data, dilation=(0.3, 0.3), location=(0.5, 0.3))
    grown = np.abs(picture(after, "mri") - picture(data, "mri"))
    assert grown[:, :63].sum() > 2 * grown[:, 65:].sum()


@pytest.mark.parametrize("mri_contrast", ["T1", "T2", "PD", "FLAIR"])
def test_slice_without_ventricles_gets_a_pair_filled_with_fluid(mri_contrast):
    data = case(ventricles=False, mri_contrast=mri_contrast, hu=True)
    _, after, transform = injected(InjectHydrocephalusd, 0, data)
    assert after["anomaly"]["ventricles"] == "filled_in"
    inner = transform._drawn.regions[0].profile > 0.999
    assert inner.sum() > 50
    assert ndimage.label(mask_of(after))[1] == 2
    assert 0 <= picture(after, "ct")[inner].mean() <= 15
    signal = picture(after, "mri")[inner].mean() / 0.3 - 1
    low, high = {"T1": (-0.75, -0.45), "T2": (0.8, 1.45), "PD": (0.05, 0.35), "FLAIR": (-0.85, -0.55)}[mri_contrast]
    assert low <= signal <= high


# --- atrophy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mri_contrast", ["T1", "T2", "FLAIR"])
def test_atrophy_gains_fluid_everywhere_under_the_skull(mri_contrast):
    data = case(mri_contrast=mri_contrast)
    _, after, _ = injected(InjectAtrophyd, 0, data, size_mm=(5, 5), dilation=(0.4, 0.4))
    mask = mask_of(after)
    assert (picture(after, "ct") - picture(data, "ct"))[mask].mean() < -0.15
    change = (picture(after, "mri") - picture(data, "mri"))[mask].mean()
    assert change > 0.1 if mri_contrast == "T2" else change < -0.05
    assert picture(after, "ct")[mask].mean() * 80 < 18
    rim = BRAIN & (warps.depth_mm(BRAIN, SPACING) < 2)
    y, x = np.indices(BRAIN.shape) - 63.5
    for quarter in (y < -np.abs(x), y > np.abs(x), x > np.abs(y), x < -np.abs(y)):
        assert mask[rim & quarter].mean() > 0.3
    assert after["anomaly"]["recession_mm"] > 2


def test_more_atrophy_is_more_fluid_and_location_makes_it_focal():
    data = case()
    gained = [
        -(picture(injected(InjectAtrophyd, 3, data, size_mm=(size, size))[1], "ct") - picture(data, "ct"))[BRAIN].sum()
        for size in (2.0, 4.0, 6.0)
    ]
    assert gained[0] < gained[1] < gained[2]
    _, after, _ = injected(InjectAtrophyd, 3, data, location=(0.5, 0.1))
    changed = np.abs(picture(after, "ct") - picture(data, "ct"))
    assert changed[:, :50].sum() > 4 * changed[:, 78:].sum()


def test_sulci_widen():
    """A slit of fluid in the cortex, 4 mm wide, is wider afterwards."""
    data = case(noise=0.0, ventricles=False)
    slit = np.zeros(BRAIN.shape, dtype=bool)
    slit[50:78, 40:42] = True
    mri = data["mri"].numpy().copy()
    mri[0][slit] = 0.85
    data["mri"] = torch.as_tensor(mri)
    make = partial(InjectAtrophyd, dilation=(0.5, 0.5), size_mm=(2, 4))
    _, after, _ = injected(make, 0, data)
    around = np.zeros(BRAIN.shape, dtype=bool)
    around[55:73, 33:49] = True
    area = [(picture(one, "mri")[around] - 0.3).clip(0).sum() for one in (data, after)]
    assert area[1] > 1.2 * area[0]


def test_bad_options_and_names():
    for make in (InjectHydrocephalusd, InjectAtrophyd):
        for wrong in ((0.0, 0.5), (0.5, 0.1), (0.1,)):
            with pytest.raises(InputError, match="dilation"):
                make(dilation=wrong)
    for stem in ("MidlineShift", "Hydrocephalus", "Atrophy"):
        one = getattr(displacement_anomalies, f"Inject{stem}d")
        for ending in ("D", "Dict"):
            assert getattr(displacement_anomalies, f"Inject{stem}{ending}") is one
    assert set(displacement_anomalies.__all__) <= set(dir(displacement_anomalies))
