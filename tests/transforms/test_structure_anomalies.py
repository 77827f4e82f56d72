"""Missing and foreign structures: bone that is gone, cavities of fluid, catheters, swapped patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import structure_anomalies
from monai_ctmri.transforms.anatomy_lesion import FLUID_MRI
from monai_ctmri.transforms.structure_anomalies import (
    CATHETER_CT_HU,
    CATHETER_MRI,
    SCALP_CT_HU,
    InjectForeignStructured,
    InjectMissingStructured,
)

SPACING, SIZE = 1.0, 160
CONTRASTS = ["T1", "T2", "PD", "FLAIR"]


def ellipse(rows: float, columns: float) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return (y / rows) ** 2 + (x / columns) ** 2 <= 1


BRAIN, SKULL, HEAD = ellipse(60, 50), ellipse(66, 56) & ~ellipse(60, 50), ellipse(70, 60)
Y, X = np.indices((SIZE, SIZE))


def case(hu: bool = True, noise: float = 1.0):
    random = np.random.RandomState(0)
    ct, mri = np.full((SIZE, SIZE), -1000.0), np.zeros((SIZE, SIZE))
    ct[HEAD], ct[SKULL], mri[HEAD] = 30.0, 900.0, 0.5
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


# --- craniectomy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hu", [True, False])
@pytest.mark.parametrize("size", [25.0, 60.0])
def test_bone_is_gone_over_the_arc(hu, size):
    unit = 1 if hu else 80
    for seed in range(3):
        _before, after, _ = injected(InjectMissingStructured, seed, case(hu), size_mm=(size, size))
        mask = mask_of(after)
        assert (SKULL & mask).sum() > 0.98 * mask.sum()
        ct = picture(after, "ct") * unit
        low, high = SCALP_CT_HU
        assert low <= ct[mask].mean() <= high + 6
        assert ct[mask].max() < 80
        # Through and through: no bone is left on the rays through the middle of the gap.
        angle = np.arctan2(*(part - (SIZE - 1) / 2 for part in ndimage.center_of_mass(mask)))
        radii = np.arange(40.0, 75.0)
        ray = ndimage.map_coordinates(
            ct, [(SIZE - 1) / 2 + radii * np.sin(angle), (SIZE - 1) / 2 + radii * np.cos(angle)], order=0
        )
        assert ray.max() < 80
        assert (SKULL & ~ndimage.binary_dilation(mask, iterations=3) & (ct < 79)).sum() == 0
        # Area over the thickness of the bone, 6 mm, is the length of the arc.
        assert mask.sum() / 6.0 == pytest.approx(size * 1.1, rel=0.25)
        assert after["anomaly"]["arc_mm"] == pytest.approx(size)


def test_gap_shows_in_mri_and_without_ct():
    data = {key: value for key, value in case().items() if key != "ct"}
    for one in (case(), data):
        before, after, _ = injected(InjectMissingStructured, 1, one, size_mm=(40, 40))
        bone = mask_of(after) & ndimage.binary_erosion(SKULL)
        assert bone.sum() > 40
        assert picture(after, "mri")[bone].mean() > picture(before, "mri")[bone].mean() + 0.1


def test_gap_is_where_location_says():
    for location in ((0.2, 0.1), (0.5, 1.0)):
        _, after, _ = injected(InjectMissingStructured, 0, location=location, size_mm=(30, 30))
        row, column = ndimage.center_of_mass(mask_of(after))
        assert (column < 79) == (location[1] < 0.5)
        assert abs(np.rad2deg(np.arctan2(column - 79.5, 79.5 - row)) - after["anomaly"]["bearing_degrees"]) < 8


# --- resection --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mri_contrast", CONTRASTS)
def test_cavity_is_filled_with_fluid(mri_contrast):
    for seed in range(2):
        _, after, transform = injected(
            InjectMissingStructured, seed, structure="resection", size_mm=(30, 30), mri_contrast=mri_contrast
        )
        inner = transform._drawn.regions[0].profile > 0.999
        assert 0 <= picture(after, "ct")[inner].mean() <= 15
        low, high = FLUID_MRI[mri_contrast]
        assert low - 0.03 <= picture(after, "mri")[inner].mean() / 0.3 - 1 <= high + 0.03


def test_cavity_has_its_size_lies_on_one_side_and_touches_the_cortex():
    depth = ndimage.distance_transform_edt(BRAIN)
    for seed in range(4):
        _, after, _ = injected(InjectMissingStructured, seed, structure="resection", size_mm=(35, 35))
        mask = mask_of(after)
        assert after["anomaly"]["size_mm"] == pytest.approx(35, rel=0.1)
        assert not (mask & ~BRAIN).any()
        assert min(mask[:, :78].sum(), mask[:, 82:].sum()) == 0
        assert depth[mask].min() < 6


# --- catheter ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mri_contrast", CONTRASTS)
def test_catheter_is_dense_in_ct_and_dark_in_mri(mri_contrast):
    for seed in range(3):
        _, after, transform = injected(InjectForeignStructured, seed, form="line", mri_contrast=mri_contrast)
        core = transform._drawn.regions[0].profile > 0.999
        assert CATHETER_CT_HU == (200, 2000)
        assert 200 <= picture(after, "ct")[core].mean() <= 2000
        low, high = CATHETER_MRI[mri_contrast]
        assert low - 0.03 <= picture(after, "mri")[core].mean() / 0.3 - 1 <= high + 0.03


@pytest.mark.parametrize("length", [25.0, 45.0])
def test_line_has_its_width_and_length_and_starts_under_the_skull(length):
    depth = ndimage.distance_transform_edt(BRAIN)
    for seed in range(3):
        _, after, transform = injected(InjectForeignStructured, seed, form="line", size_mm=(length, length))
        profile = transform._drawn.regions[0].profile
        rows, columns = np.nonzero(mask_of(after))
        reach = np.hypot(rows[:, None] - rows[None], columns[:, None] - columns[None]).max()
        assert reach == pytest.approx(length, rel=0.12, abs=2.5)
        assert profile.sum() / length == pytest.approx(2.8, rel=0.15)
        assert depth[mask_of(after)].min() <= 3
        assert depth[mask_of(after)].max() > 0.5 * length * 0.8


def test_ring_is_hollow_where_pixels_are_fine_enough():
    _, after, _ = injected(InjectForeignStructured, 0, form="ring", pixel_spacing_mm=0.3)
    row, column = (round(part) for part in ndimage.center_of_mass(mask_of(after)))
    ct = picture(after, "ct")
    assert ct[row, column] < 100
    wall = ct[row - 5 : row + 6, column - 5 : column + 6]
    assert wall.max() > 200
    assert after["anomaly"]["size_mm"] == pytest.approx(2.8, rel=0.1)
    _, after, _ = injected(InjectForeignStructured, 0, form="ring", pixel_spacing_mm=1.8)
    assert mask_of(after).any()


def test_form_is_drawn():
    forms = {injected(InjectForeignStructured, seed)[1]["anomaly"]["form"] for seed in range(12)}
    assert forms == {"line", "ring"}


# --- swapped patch ----------------------------------------------------------------------------------------------------


def test_patch_shows_what_lies_elsewhere_in_both_modalities():
    data = case(noise=0.0)
    ct, mri = data["ct"].numpy().copy(), data["mri"].numpy().copy()
    ct[0][BRAIN] = (10 + 0.2 * Y + 0.1 * X)[BRAIN]
    mri[0][BRAIN] = (0.1 + 0.002 * Y + 0.001 * X)[BRAIN]
    data = {**data, "ct": MetaTensor(ct, meta={"windowed": False}), "mri": torch.as_tensor(mri)}
    for seed in range(3):
        _, after, transform = injected(InjectForeignStructured, seed, data, structure="patch", size_mm=(20, 20))
        down, right = (round(part / SPACING) for part in after["anomaly"]["offset_mm"])
        assert np.hypot(down, right) * SPACING >= 20
        core = np.argwhere(transform._patch[0] > 0.999)
        rows, columns = core.T
        for key, before in (("ct", ct[0]), ("mri", mri[0])):
            np.testing.assert_allclose(
                picture(after, key)[rows, columns], before[rows + down, columns + right], atol=0.01
            )
        assert BRAIN[rows + down, columns + right].mean() > 0.9
        assert after["anomaly"]["size_mm"] == pytest.approx(20, rel=0.15)


def test_patch_repeats_and_scales():
    data = case()
    options = {"structure": "patch", "pixel_spacing_mm": SPACING}
    transform = InjectForeignStructured(**options).set_random_state(seed=3)
    first = transform(data)
    assert torch.equal(first["mri"], transform(data, randomize=False)["mri"])
    half = InjectForeignStructured(contrast=0.5, **options).set_random_state(seed=3)(data)
    change = [picture(one, "mri") - picture(data, "mri") for one in (first, half)]
    np.testing.assert_allclose(change[1], 0.5 * change[0], atol=1e-6)
    assert half["anomaly"]["contrast_to_noise"] == pytest.approx(0.5 * first["anomaly"]["contrast_to_noise"], rel=0.01)


def test_bad_options_and_names():
    with pytest.raises(InputError, match="structure"):
        InjectMissingStructured(structure="nose")
    with pytest.raises(InputError, match="structure"):
        InjectForeignStructured(structure="coin")
    with pytest.raises(InputError, match="form"):
        InjectForeignStructured(form="knot")
    for stem in ("MissingStructure", "ForeignStructure"):
        one = getattr(structure_anomalies, f"Inject{stem}d")
        for ending in ("D", "Dict"):
            assert getattr(structure_anomalies, f"Inject{stem}{ending}") is one
    assert set(structure_anomalies.__all__) <= set(dir(structure_anomalies))
