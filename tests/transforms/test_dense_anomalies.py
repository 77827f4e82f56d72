"""Calcification and metal: HU, voids, sizes below a pixel, and streaks that behave like streaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import dense_anomalies
from monai_ctmri.transforms.dense_anomalies import (
    CALCIFICATION_CT_HU,
    CALCIFICATION_MRI,
    METAL_CT_HU,
    VOID_MRI,
    InjectCalcificationd,
    InjectMetald,
)

SPACING, SIZE = 1.0, 160
CONTRASTS = ["T1", "T2", "PD", "FLAIR"]


def ellipse(rows: float, columns: float) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return (y / rows) ** 2 + (x / columns) ** 2 <= 1


BRAIN, SKULL, HEAD = ellipse(60, 50), ellipse(66, 56) & ~ellipse(60, 50), ellipse(70, 60)


def case(hu: bool = True, noise: float = 1.0):
    random = np.random.RandomState(0)
    ct, mri = np.full((SIZE, SIZE), -1000.0), np.zeros((SIZE, SIZE))
    ct[HEAD], ct[SKULL], mri[HEAD] = 20.0, 900.0, 0.5
    mri[SKULL] = 0.02
    ct[BRAIN] = 32 + 2 * noise * random.standard_normal(int(BRAIN.sum()))
    mri[BRAIN] = 0.3 + 0.01 * noise * random.standard_normal(int(BRAIN.sum()))
    ct = ct if hu else np.clip(ct / 80, 0, 1)
    picture = MetaTensor(torch.as_tensor(ct, dtype=torch.float32)[None], meta={"windowed": False} if hu else {})
    return {"case": "c", "ct": picture, "mri": torch.as_tensor(mri, dtype=torch.float32)[None]}


def injected(make, seed: int = 0, data=None, **options):
    transform = make(**{"pixel_spacing_mm": SPACING, **options}).set_random_state(seed=seed)
    data = case() if data is None else data
    return data, transform(data), transform


def picture(out, key: str) -> np.ndarray:
    return np.asarray(out[key], dtype=np.float64)[0]


def mask_of(out) -> np.ndarray:
    return picture(out, "mask") > 0.5


def test_tables_keep_the_order_of_the_matter():
    assert CALCIFICATION_CT_HU == (100, 500)
    assert METAL_CT_HU[0] > 2000
    for contrast in CONTRASTS:
        assert CALCIFICATION_MRI[contrast][1] < 0
        assert VOID_MRI[contrast][1] <= CALCIFICATION_MRI[contrast][0]


# --- calcification ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mri_contrast", CONTRASTS)
def test_calcification_in_ct_and_mri(mri_contrast):
    for seed in range(4):
        _, after, transform = injected(InjectCalcificationd, seed, size_mm=(5, 8), mri_contrast=mri_contrast)
        core = transform._drawn.regions[0].profile > 0.999
        assert 100 <= picture(after, "ct")[core].mean() <= 500
        low, high = CALCIFICATION_MRI[mri_contrast]
        assert low - 0.03 <= picture(after, "mri")[core].mean() / 0.3 - 1 <= high + 0.03
        assert not (mask_of(after) & ~BRAIN).any()


@pytest.mark.parametrize("size", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("spacing", [0.5, 1.0, 1.8])
def test_area_is_that_of_the_size_also_below_a_pixel(size, spacing):
    for seed in range(3):
        _, _, transform = injected(InjectCalcificationd, seed, size_mm=(size, size), pixel_spacing_mm=spacing)
        area = transform._drawn.regions[0].profile.sum() * spacing**2
        assert area == pytest.approx(np.pi / 4 * size**2, rel=0.12)


def test_a_grain_below_a_pixel_is_diluted():
    """1 mm in a pixel of 2 mm fills a fifth of it: pi / 16 of the rise of the full one."""
    _, after, transform = injected(
        InjectCalcificationd, 2, case(noise=0.0), size_mm=(1, 1), pixel_spacing_mm=2.0, location=(0.5, 0.5)
    )
    rise = (picture(after, "ct") - picture(case(noise=0.0), "ct"))[BRAIN].sum()
    region = transform._drawn.regions[0]
    wished = 100 + 400 * region.pick - 32
    assert rise == pytest.approx(np.pi / 16 * wished, rel=0.35)
    assert mask_of(after).sum() >= 1


def test_location_is_kept_to_a_pixel():
    rows, columns = np.nonzero(BRAIN)
    for location in ((0.3, 0.3), (0.6, 0.7)):
        _, after, _ = injected(InjectCalcificationd, 1, size_mm=(6, 6), location=location)
        row, column = ndimage.center_of_mass(mask_of(after))
        assert abs(row - (rows.min() + location[0] * np.ptp(rows))) < 1.5
        assert abs(column - (columns.min() + location[1] * np.ptp(columns))) < 1.5


def test_calcification_saturates_a_windowed_picture():
    _, after, transform = injected(InjectCalcificationd, 0, case(hu=False), size_mm=(6, 8))
    assert (picture(after, "ct")[transform._drawn.regions[0].profile > 0.999] == 1).all()


# --- metal ------------------------------------------------------------------------------------------------------------


def test_metal_is_above_2000_hu_and_void_in_mri():
    for seed in range(3):
        _, after, transform = injected(InjectMetald, seed, size_mm=(4, 8))
        core = transform._drawn.regions[0].profile > 0.999
        assert picture(after, "ct")[core].min() > 2000
        assert picture(after, "mri")[core].max() < 0.05
        record = after["anomaly"]
        assert 1.8 * record["metal_mm"] <= record["void_mm"] <= 3.0 * record["metal_mm"]
        dark = (picture(after, "mri") < 0.1) & BRAIN
        assert 2 * np.sqrt(dark.sum() / np.pi) == pytest.approx(record["void_mm"], rel=0.25)
        # The void is part of the mask, and no MRI changes beyond its edge.
        assert (mask_of(after) & dark).sum() > 0.95 * dark.sum()


def test_metal_without_mri_is_masked_by_itself():
    data = {key: value for key, value in case().items() if key != "mri"}
    _, after, _ = injected(InjectMetald, 0, data, size_mm=(6, 6))
    assert after["anomaly"]["void_mm"] == 0
    assert after["anomaly"]["size_mm"] == pytest.approx(6, rel=0.2)
    _, after, _ = injected(InjectMetald, 0, keys=("mri",), size_mm=(6, 6))
    assert after["anomaly"]["streak_hu"] == 0


def test_streaks_have_both_signs_and_the_recorded_strength():
    for seed in range(3):
        before, after, transform = injected(InjectMetald, seed, size_mm=(8, 8), streak_hu=(100, 200))
        record = after["anomaly"]
        assert 100 <= record["streak_hu"] <= 200
        streaks = picture(after, "ct") - picture(before, "ct")
        centre = ndimage.center_of_mass(transform._drawn.regions[0].profile)
        y, x = np.indices(BRAIN.shape)
        distance = np.hypot(y - centre[0], x - centre[1])
        near = (distance > 7) & (distance < 12) & BRAIN & ~mask_of(after)
        far = (distance > 40) & BRAIN
        for sign in (-1, 1):
            assert (sign * streaks[near] > 0.1 * record["streak_hu"]).mean() > 0.1
        assert np.abs(streaks)[near].mean() > 1.5 * np.abs(streaks)[far].mean()
        assert np.abs(streaks)[BRAIN & (distance > 8)].max() <= 2 * record["streak_hu"] + 1e-3


def test_streaks_run_along_rays_from_the_metal():
    """Along a ray they change slowly, across it quickly."""
    before, after, transform = injected(InjectMetald, 1, case(noise=0.0), size_mm=(6, 6), location=(0.5, 0.5))
    streaks = picture(after, "ct") - picture(before, "ct")
    centre = ndimage.center_of_mass(transform._drawn.regions[0].profile)
    angles, radii = np.deg2rad(np.arange(0, 360, 2.0)), np.arange(20.0, 44.0)
    rows = centre[0] + np.outer(np.sin(angles), radii)
    columns = centre[1] + np.outer(np.cos(angles), radii)
    polar = ndimage.map_coordinates(streaks, [rows, columns], order=1)
    assert np.abs(np.diff(polar, axis=1)).mean() < 0.3 * np.abs(np.diff(polar, axis=0)).mean()


@pytest.mark.parametrize("hu", [True, False])
def test_streaks_leave_air_bone_and_mri_alone(hu):
    before, after, _ = injected(InjectMetald, 2, case(hu), size_mm=(5, 5))
    changed = picture(after, "ct") != picture(before, "ct")
    assert not changed[~HEAD].any()
    assert not changed[SKULL].any()
    beyond = ndimage.distance_transform_edt(~mask_of(after)) > 2
    assert changed[beyond & BRAIN].mean() > 0.5
    assert np.array_equal(picture(after, "mri")[beyond], picture(before, "mri")[beyond])


def test_repeat_and_contrast_hold_for_streaks():
    data = case()
    transform = InjectMetald(pixel_spacing_mm=SPACING, size_mm=(6, 6)).set_random_state(seed=4)
    first, again = transform(data), transform(data, randomize=False)
    assert torch.equal(first["ct"], again["ct"])
    half = InjectMetald(pixel_spacing_mm=SPACING, size_mm=(6, 6), contrast=0.5).set_random_state(seed=4)(data)
    change = [picture(one, "ct") - picture(data, "ct") for one in (first, half)]
    np.testing.assert_allclose(change[1], 0.5 * change[0], atol=1e-3)


def test_large_metal_streaks_more():
    strengths = [
        np.mean([injected(InjectMetald, seed, size_mm=(s, s))[1]["anomaly"]["streak_hu"] for seed in range(3)])
        for s in (1.0, 4.0, 8.0)
    ]
    assert strengths[0] < strengths[1] < strengths[2]
    assert strengths[0] >= 50
    assert strengths[2] <= 300


def test_bad_options_and_names():
    with pytest.raises(InputError, match="streak_hu"):
        InjectMetald(streak_hu=(100, 50))
    with pytest.raises(InputError, match="blooming"):
        InjectMetald(blooming=(0.5, 2))
    for stem in ("Calcification", "Metal"):
        one = getattr(dense_anomalies, f"Inject{stem}d")
        for ending in ("D", "Dict"):
            assert getattr(dense_anomalies, f"Inject{stem}{ending}") is one
    assert set(dense_anomalies.__all__) <= set(dir(dense_anomalies))
