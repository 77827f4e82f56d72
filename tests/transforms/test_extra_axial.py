"""Extra-axial collections: HU and signal by stage, place and form, and what they do to the cortex."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import extra_axial, warps
from monai_ctmri.transforms.extra_axial import COLLECTION_CT_HU, COLLECTION_MRI, InjectCollectiond

SPACING, SIZE = 1.8, 128
TISSUE = {"ct": 32 / 80, "mri": 0.3}
STAGES = ["acute", "isodense", "chronic"]


def ellipse(rows: float, columns: float) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return (y / rows) ** 2 + (x / columns) ** 2 <= 1


BRAIN, SKULL = ellipse(48, 38), ellipse(53, 43) & ~ellipse(48, 38)


def case(hu: bool = False, noise: float = 1.0):
    random = np.random.RandomState(0)
    ct = np.full((SIZE, SIZE), -1000.0 if hu else 0.0)
    mri = np.zeros((SIZE, SIZE))
    ct[SKULL] = 900 if hu else 80
    ct[BRAIN] = 80 * TISSUE["ct"] + 2 * noise * random.standard_normal(int(BRAIN.sum()))
    mri[BRAIN] = TISSUE["mri"] + 0.01 * noise * random.standard_normal(int(BRAIN.sum()))
    ct = ct if hu else ct / 80
    picture = torch.as_tensor(ct, dtype=torch.float32)[None]
    meta = {"windowed": False} if hu else {}
    return {"case": "c", "ct": MetaTensor(picture, meta=meta), "mri": torch.as_tensor(mri, dtype=torch.float32)[None]}


def injected(seed: int = 0, data=None, **options):
    transform = InjectCollectiond(**options).set_random_state(seed=seed)
    data = case() if data is None else data
    return data, transform(data), transform


def mask_of(out) -> np.ndarray:
    return np.asarray(out["mask"])[0] > 0.5


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("hu", [True, False])
def test_hounsfield_units_of_the_table(stage, hu):
    assert COLLECTION_CT_HU == {"acute": (50, 70), "isodense": (30, 40), "chronic": (0, 25)}
    for seed in range(3):
        _, after, transform = injected(seed, case(hu), stage=stage, size_mm=(12, 20))
        inner = transform._drawn.regions[0].profile > 0.999
        values = np.asarray(after["ct"])[0][inner] * (1 if hu else 80)
        low, high = COLLECTION_CT_HU[stage]
        assert low <= values.mean() <= high
        assert values.std() < 5


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("mri_contrast", ["T1", "T2", "PD", "FLAIR"])
def test_signal_of_the_table(stage, mri_contrast):
    _, after, transform = injected(1, stage=stage, size_mm=(12, 20), mri_contrast=mri_contrast)
    inner = transform._drawn.regions[0].profile > 0.999
    relative = np.asarray(after["mri"])[0][inner].mean() / TISSUE["mri"] - 1
    low, high = COLLECTION_MRI[stage][mri_contrast]
    assert low - 0.03 <= relative <= high + 0.03


def test_order_of_signals():
    """Subacute blood is bright in T1, chronic fluid in T2, all are bright in FLAIR."""
    assert COLLECTION_MRI["isodense"]["T1"][0] > 0.2
    assert COLLECTION_MRI["acute"]["T1"][1] <= 0
    assert COLLECTION_MRI["chronic"]["T2"][0] > 0.5
    assert COLLECTION_MRI["acute"]["T2"][1] < 0
    assert all(COLLECTION_MRI[stage]["FLAIR"][0] > 0 for stage in STAGES)


@pytest.mark.parametrize("form", ["crescent", "lens"])
@pytest.mark.parametrize("thickness", [4.0, 10.0, 20.0])
def test_thickness_lies_along_the_inner_skull(form, thickness):
    depth = warps.depth_mm(BRAIN, SPACING)
    for seed in range(3):
        _, after, _ = injected(seed, form=form, size_mm=(thickness, thickness))
        mask = mask_of(after)
        assert not (mask & ~BRAIN).any()
        assert depth[mask].min() <= SPACING
        assert depth[mask].max() == pytest.approx(thickness, abs=max(2 * SPACING, 0.25 * thickness))
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
        # One side only: the other half of the head is free.
        columns = np.nonzero(mask)[1]
        right = after["anomaly"]["side"] == "right"
        assert (columns > 60).all() if right else (columns < 67).all()
        assert after["anomaly"]["thickness_mm"] == pytest.approx(thickness)


def test_a_lens_is_shorter_and_bulges_and_a_crescent_is_hollow():
    """Solidity (share of the convex hull that is filled): high for a biconvex lens, low for a crescent."""
    from skimage.measure import regionprops

    found = {}
    for form in ("crescent", "lens"):
        shapes = []
        for seed in range(4):
            _, after, _ = injected(seed, form=form, size_mm=(12, 12))
            properties = regionprops(mask_of(after).astype(int))[0]
            shapes.append((properties.solidity, properties.axis_major_length * SPACING))
        found[form] = np.median(shapes, axis=0)
    assert found["lens"][0] > 0.9
    assert found["crescent"][0] < found["lens"][0] - 0.08
    assert found["crescent"][1] > 1.3 * found["lens"][1]


def test_form_is_drawn_for_acute_only():
    drawn = {injected(seed)[1]["anomaly"]["form"] for seed in range(10)}
    assert drawn == {"crescent", "lens"}
    assert {injected(seed, stage="chronic")[1]["anomaly"]["form"] for seed in range(5)} == {"crescent"}


def test_the_cortex_is_pushed_inwards():
    """A line drawn parallel to the skull, 6 mm deep, lies deeper than the collection afterwards."""
    data = case(noise=0.0)
    depth = warps.depth_mm(BRAIN, SPACING)
    line = (depth > 5) & (depth < 9)
    mri = data["mri"].numpy().copy()
    mri[0][line] = 0.9
    data["mri"] = torch.as_tensor(mri)
    _, after, transform = injected(2, data, form="crescent", size_mm=(14, 14), stage="chronic", mri_contrast="T1")
    mask = mask_of(after)
    picture = np.asarray(after["mri"])[0]
    near = ndimage.distance_transform_edt(~mask) * SPACING < 12
    bright = (picture > 0.6) & near & ~mask & BRAIN
    assert bright.sum() > 20
    assert np.percentile(depth[bright], 80) > 12
    # Nothing folds outside of the new matter, and the other side keeps its place.
    determinant = warps.jacobian_determinant(transform._drawn.warp)
    assert determinant[~ndimage.binary_dilation(mask, iterations=1)].min() > 0
    other = np.indices(mask.shape)[1] > 80 if after["anomaly"]["side"] == "left" else np.indices(mask.shape)[1] < 47
    np.testing.assert_allclose(picture[other & BRAIN], mri[0][other & BRAIN], atol=0.05)


def test_location_gives_the_side_and_the_height():
    for location, side in (((0.3, 0.0), "left"), ((0.7, 1.0), "right")):
        _, after, _ = injected(0, location=location, form="lens", size_mm=(10, 10))
        assert after["anomaly"]["side"] == side
        row = ndimage.center_of_mass(mask_of(after))[0]
        assert (row < 63) == (location[0] < 0.5)


def test_grain_of_the_collection_is_that_of_the_brain():
    ratios = []
    for seed in range(4):
        before, after, transform = injected(seed, stage="isodense", size_mm=(20, 20))
        inner = ndimage.binary_erosion(transform._drawn.regions[0].profile > 0.999)
        fine = [np.asarray(d["ct"])[0] - ndimage.gaussian_filter(np.asarray(d["ct"])[0], 1) for d in (before, after)]
        ratios.append(fine[1][inner].std() / fine[0][inner].std())
    assert 0.75 < np.median(ratios) < 1.25


def test_bad_options_and_names():
    with pytest.raises(InputError, match="stage"):
        InjectCollectiond(stage="old")
    with pytest.raises(InputError, match="form"):
        InjectCollectiond(form="sphere")
    assert InjectCollectiond(stage="chronic").kind == "chronic_collection"
    assert extra_axial.InjectCollectionD is extra_axial.InjectCollectionDict is InjectCollectiond
    assert set(extra_axial.__all__) <= set(dir(extra_axial))
