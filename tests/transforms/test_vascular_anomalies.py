"""Old infarcts and pushing hemorrhages: values of the table, the rim, the drawn-in surroundings; every kind on real
pictures."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import anomalies, vascular_anomalies
from monai_ctmri.transforms.lesion_values import CT_HU, MRI_RELATIVE
from monai_ctmri.transforms.shapes import EDGE_REACH_PX
from monai_ctmri.transforms.tumour_anomalies import InjectTumourd
from monai_ctmri.transforms.vascular_anomalies import InjectChronicInfarctd, InjectHemorrhaged, InjectInfarctd

SIZE, SPACING = 160, 1.5
ROWS, COLUMNS = np.indices((SIZE, SIZE))
TISSUE = {"ct": 30 / 80, "mri": 0.4}


def ellipse(rows: float, columns: float, right: float = 0.0) -> np.ndarray:
    return ((ROWS - 79.5) / rows) ** 2 + ((COLUMNS - 79.5 - right) / columns) ** 2 <= 1


BRAIN = ellipse(60, 48)
VENTRICLES = ellipse(18, 5, 12) | ellipse(18, 5, -12)


def case(seed: int = 0, noise: float = 0.01, ventricles: bool = False, **entries):
    random = np.random.RandomState(seed)
    ct = np.where(ellipse(66, 54), 1.0, 0.0)
    mri = np.where(ellipse(70, 58), 0.5, 0.0) * ~ellipse(66, 54)
    ct[BRAIN], mri[BRAIN] = TISSUE["ct"], TISSUE["mri"]
    if ventricles:
        ct[VENTRICLES], mri[VENTRICLES] = 8 / 80, 0.08
    images = {}
    for key, image in (("ct", ct), ("mri", mri)):
        noisy = image + noise * random.standard_normal(image.shape) * BRAIN
        images[key] = torch.as_tensor(np.clip(noisy, 0, 1), dtype=torch.float32)[None]
    brain = torch.as_tensor(BRAIN[None].astype(np.float32))
    return {"case": f"c{seed}", "subject": "s", "mri_contrast": "FLAIR", "brain": brain, **images, **entries}


def injected(make, data, seed: int = 0, **options):
    transform = make(pixel_spacing_mm=SPACING, **options)
    transform.set_random_state(seed=seed)
    return transform(data), transform


def plane(d, key: str) -> np.ndarray:
    return np.asarray(d[key])[0].astype(np.float64)


# --- old infarct ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", ["T1", "T2", "PD", "FLAIR"])
def test_core_is_fluid_and_rim_is_scar(contrast):
    rims = 0
    for seed in range(4):
        data = case(seed, mri_contrast=contrast)
        out, transform = injected(InjectChronicInfarctd, data, seed, size_mm=(42, 46), volume_loss_mm=0)
        rim, core = (region.profile for region in transform._drawn.regions)
        inner, scar = core > 0.999, (rim > 0.999) & (core < 0.001)
        assert inner.sum() > 100
        # CT of the core may clip at the low end of the window, which only raises its mean a little.
        assert 0 <= plane(out, "ct")[inner].mean() * 80 <= 15
        low, high = MRI_RELATIVE["chronic_infarct"]["core"][contrast]
        found = plane(out, "mri")[inner].mean() / TISSUE["mri"] - 1
        assert low - 0.05 <= found <= high + 0.05
        if scar.sum() > 20:
            rims += 1
            low, high = CT_HU["chronic_infarct"]["rim"]
            assert low - 1 <= (plane(out, "ct") - plane(data, "ct"))[scar].mean() * 80 <= high + 1
            low, high = MRI_RELATIVE["chronic_infarct"]["rim"][contrast]
            assert low - 0.05 <= plane(out, "mri")[scar].mean() / TISSUE["mri"] - 1 <= high + 0.05
    assert rims >= 3


def test_flair_shows_a_dark_core_in_a_bright_rim():
    for seed in range(3):
        out, transform = injected(InjectChronicInfarctd, case(seed), seed, size_mm=(42, 46), volume_loss_mm=0)
        mask, core = plane(out, "mask") > 0.5, transform._drawn.regions[1].profile > 0.5
        assert plane(out, "mri")[core].mean() < 0.5 * TISSUE["mri"]
        inner_border = mask & ~core
        assert inner_border.sum() > 30
        assert plane(out, "mri")[inner_border].mean() > 1.1 * TISSUE["mri"]


def test_scar_has_no_rim_at_the_skull():
    out, transform = injected(InjectChronicInfarctd, case(1), 1, location=(0.5, 0.1), volume_loss_mm=0)
    core = transform._drawn.regions[1].profile > 0.5
    at_skull = (plane(out, "mask") > 0.5) & ~ndimage.binary_erosion(BRAIN, iterations=2)
    assert core[at_skull].mean() > 0.5


def test_loss_of_volume_widens_the_ventricle_beside_it():
    data = case(0, noise=0.0, ventricles=True)
    nearer = COLUMNS > 79.5
    options = {"size_mm": (34, 36), "location": (0.5, 0.95)}
    still, _ = injected(InjectChronicInfarctd, data, 0, volume_loss_mm=0, **options)
    drawn, transform = injected(InjectChronicInfarctd, data, 0, volume_loss_mm=6, **options)
    np.testing.assert_array_equal(still["mask"], drawn["mask"])
    outside = ~ndimage.binary_dilation(plane(drawn, "mask") > 0.5, iterations=3) & BRAIN & nearer

    def fluid(d):
        return (plane(d, "ct")[outside] < 19 / 80).sum()

    assert fluid(drawn) > 1.05 * fluid(still)
    centre = [ndimage.center_of_mass(outside & (plane(d, "ct") < 19 / 80))[1] for d in (still, drawn)]
    assert centre[1] > centre[0] + 0.5
    assert drawn["anomaly"]["warped"] is True
    assert 0 < drawn["anomaly"]["displacement_mm"] <= 6.001
    assert "warped" not in still["anomaly"]
    assert transform._drawn.warp is not None


def test_old_infarct_options():
    assert InjectChronicInfarctd().volume_loss_mm == 3.0
    assert InjectChronicInfarctd().size_mm == (25.0, 50.0)
    with pytest.raises(InputError, match="volume_loss_mm"):
        InjectChronicInfarctd(volume_loss_mm=-1)
    with pytest.raises(TypeError):
        InjectChronicInfarctd(stage="early")
    out, _ = injected(InjectChronicInfarctd, case())
    assert out["anomaly"]["kind"] == "chronic_infarct"
    assert out["anomaly"]["territory"] in {"MCA", "ACA", "PCA"}
    assert out["anomaly"]["rim_mm"] > 0


# --- pushing hemorrhage -----------------------------------------------------------------------------------------------


def test_hemorrhage_of_today_and_the_pushing_one_share_their_draws():
    data = case(0, ventricles=True)
    for seed in range(3):
        still, one = injected(InjectHemorrhaged, data, seed)
        pushing, other = injected(InjectHemorrhaged, data, seed, mass_effect_mm=4.0)
        np.testing.assert_array_equal(still["mask"], pushing["mask"])
        assert one._drawn.warp is None
        assert other._drawn.warp is not None
        assert one.R.uniform() == other.R.uniform()


def test_hemorrhage_pushes_the_ventricle_away_and_leaves_the_rest():
    data = case(0, noise=0.0, ventricles=True)
    out, transform = injected(
        InjectHemorrhaged, data, 0, size_mm=(26, 28), mass_effect_mm=6.0, location=(0.5, 0.83), mri_contrast="FLAIR"
    )
    near = VENTRICLES & (COLUMNS > 79.5)
    before = ndimage.center_of_mass(near)[1]
    dark = (plane(out, "mri") < 0.2) & (COLUMNS > 82) & ellipse(25, 30) & ~(plane(out, "mask") > 0.5)
    assert ndimage.center_of_mass(dark)[1] < before - 0.8
    warp = transform._drawn.warp
    still = (ndimage.distance_transform_edt(~(plane(out, "mask") > 0.5)) > EDGE_REACH_PX) & np.all(warp == 0, axis=0)
    for key in ("ct", "mri"):
        np.testing.assert_array_equal(plane(out, key)[still], plane(data, key)[still])
    assert not warp[:, ~BRAIN].any()


@pytest.mark.parametrize("make", [InjectHemorrhaged, InjectTumourd])
@pytest.mark.parametrize("value", [-1.0, 20.0])
def test_bad_mass_effect(make, value):
    with pytest.raises(InputError, match="mass_effect_mm"):
        make(mass_effect_mm=value)


# --- names and real pictures ------------------------------------------------------------------------------------------


def test_names_are_where_they_were():
    for stem in ("Hemorrhage", "Infarct", "ChronicInfarct"):
        one = getattr(vascular_anomalies, f"Inject{stem}d")
        assert getattr(anomalies, f"Inject{stem}d") is one
        assert getattr(vascular_anomalies, f"Inject{stem}D") is getattr(vascular_anomalies, f"Inject{stem}Dict") is one
    assert issubclass(InjectChronicInfarctd, InjectInfarctd)


@pytest.mark.parametrize("name", ["16012", "21012"])
@pytest.mark.parametrize(
    "make",
    [
        InjectHemorrhaged,
        partial(InjectHemorrhaged, mass_effect_mm=5),
        InjectInfarctd,
        partial(InjectInfarctd, stage="early"),
        InjectChronicInfarctd,
        InjectTumourd,
        partial(InjectTumourd, mass_effect_mm=5),
    ],
)
def test_every_kind_on_real_pairs(real_data, name, make):
    data = {"case": name, "subject": name[:2], "mri_contrast": "T2"}
    for key in ("ct", "mri"):
        picture = Image.open(real_data / "pairs" / key / f"{name}.png").convert("L").resize((SIZE, SIZE))
        data[key] = torch.as_tensor(np.asarray(picture, dtype=np.float32) / 255)[None]
    out, transform = injected(make, data, 2)
    mask = plane(out, "mask") > 0.5
    head = plane(data, "ct") > 0.05
    assert head[mask].mean() > 0.9
    ct, mri = ((plane(out, key) - plane(data, key))[mask].mean() for key in ("ct", "mri"))
    kind = out["anomaly"]["kind"]
    assert ct > 0.1 if kind == "hemorrhage" else ct < 0
    assert mri < 0 if kind == "hemorrhage" else kind == "early_infarct" or mri > 0.03
    warp = transform._drawn.warp
    still = ndimage.distance_transform_edt(~mask) > EDGE_REACH_PX
    still &= True if warp is None else np.all(warp == 0, axis=0)
    for key in ("ct", "mri"):
        np.testing.assert_array_equal(plane(out, key)[still], plane(data, key)[still])
        assert 0 <= float(out[key].min()) <= float(out[key].max()) <= 1
    zero, _ = injected(make, data, 2, contrast=0)
    assert torch.equal(torch.as_tensor(zero["ct"]), data["ct"])
