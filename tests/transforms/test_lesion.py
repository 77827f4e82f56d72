"""The promises of the base of all lesions: place, Hounsfield units, displaced anatomy, one modality, the record."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.data.anatomy import TISSUES
from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.ct import WindowCT
from monai_ctmri.transforms.lesion import Lesion, LesionTransform, Region
from monai_ctmri.transforms.lesion_values import CT_HU, SOURCES
from monai_ctmri.transforms.shapes import EDGE_REACH_PX
from monai_ctmri.transforms.tumour_anomalies import InjectTumourd
from monai_ctmri.transforms.vascular_anomalies import InjectChronicInfarctd, InjectHemorrhaged, InjectInfarctd

SPACING = 240 / 128
KINDS = {
    "hemorrhage": InjectHemorrhaged,
    "hemorrhage pushing": partial(InjectHemorrhaged, mass_effect_mm=5.0),
    "early infarct": partial(InjectInfarctd, stage="early"),
    "infarct": InjectInfarctd,
    "chronic infarct": InjectChronicInfarctd,
    "tumour": InjectTumourd,
    "tumour pushing": partial(InjectTumourd, mass_effect_mm=5.0),
}
every_kind = pytest.mark.parametrize("make", list(KINDS.values()), ids=list(KINDS))


@pytest.fixture(scope="module")
def subject():
    """A phantom head through the lateral ventricles, CT in HU, T2 in [0, 1], and what tissue each pixel is."""
    drawn = draw_subject(3, PhantomSettings(size=128, slices=5))
    mri = np.clip(drawn.mri / np.percentile(drawn.mri, 99.5), 0, 1)
    return drawn.ct[2].astype(np.float32), mri[2].astype(np.float32), drawn.tissue[2]


def brain_of(subject) -> np.ndarray:
    inner = np.isin(subject[2], [TISSUES.index(name) for name in ("csf", "gm", "wm")])
    pieces, _ = ndimage.label(ndimage.binary_opening(inner, iterations=2))
    return ndimage.binary_fill_holes(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]))


def case(subject, unit: str = "hu", **entries):
    ct, mri, _ = subject
    hu = MetaTensor(torch.as_tensor(ct[None]), meta={"windowed": False, "filename_or_obj": "a.nii"})
    brain = torch.as_tensor(brain_of(subject)[None].astype(np.float32))
    return {
        "case": "a",
        "subject": "a",
        "ct": hu if unit == "hu" else WindowCT()(hu),
        "mri": torch.as_tensor(mri[None]),
        "brain": brain,
        **entries,
    }


def injected(make, data, seed: int = 0, **options):
    transform = make(pixel_spacing_mm=SPACING, **options)
    transform.set_random_state(seed=seed)
    return transform(data), transform


def plane(d, key: str) -> np.ndarray:
    return np.asarray(d[key])[0].astype(np.float64)


# --- Hounsfield units -------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("contrast", [1.0, 0.5])
def test_hu_gives_what_the_window_gives_where_it_does_not_clip(make, contrast, subject):
    hu, transform = injected(make, case(subject), contrast=contrast)
    windowed, _ = injected(make, case(subject, "window"), contrast=contrast)
    np.testing.assert_array_equal(hu["mask"], windowed["mask"])
    before, after, shown = subject[0], plane(hu, "ct"), plane(windowed, "ct") * 80
    warp = transform._drawn.warp
    # Interpolation takes from neighbours, so where tissue moves these must be unclipped as well.
    reach = 0 if warp is None else int(np.ceil(np.abs(warp).max())) + 9
    full = plane(injected(make, case(subject))[0], "ct")
    clipped = (before <= 0) | (before >= 80)
    clipped = ndimage.maximum_filter(clipped, 2 * reach + 1) | (full <= 0) | (full >= 80)
    open_ = ~clipped & (after > 0) & (after < 80)
    assert np.count_nonzero(open_ & (plane(hu, "mask") > 0.5)) > (20 if warp is None else 0)
    assert np.count_nonzero(open_) > 100
    np.testing.assert_allclose(after[open_], shown[open_], atol=2e-4 if warp is None else 0.02)
    if warp is None:
        noise = [one["anomaly"]["contrast_to_noise_of"]["ct"] for one in (hu, windowed)]
        assert noise[0] == pytest.approx(noise[1], rel=0.15)


@every_kind
def test_nothing_of_hu_is_clipped_and_untouched_voxels_keep_their_bits(make, subject):
    out, transform = injected(make, case(subject))
    before, after = subject[0], np.asarray(out["ct"])[0]
    assert after.max() == before.max() > 500
    assert after.min() == before.min() < -500
    reach = ndimage.distance_transform_edt(~(plane(out, "mask") > 0.5)) > EDGE_REACH_PX
    still = reach if transform._drawn.warp is None else reach & np.all(transform._drawn.warp == 0, axis=0)
    assert still.mean() > 0.5
    np.testing.assert_array_equal(after[still], before[still])
    np.testing.assert_array_equal(np.asarray(out["mri"])[0][still], subject[1][still])
    assert (after != before)[~still].any()
    assert out["ct"].meta["filename_or_obj"] == "a.nii"
    assert "window" not in out["ct"].meta


def test_values_in_hu_lie_in_the_table(subject):
    """Against known tissue: white matter of the phantom is 20 to 30 HU, so a bleed of 50 to 80 is no accident."""
    for seed in range(4):
        out, transform = injected(InjectHemorrhaged, case(subject), seed, size_mm=(36, 40))
        core = transform._drawn.regions[1].profile > 0.999
        assert 50 <= plane(out, "ct")[core].mean() <= 80
        out, transform = injected(InjectChronicInfarctd, case(subject), seed, size_mm=(45, 50))
        core = transform._drawn.regions[1].profile > 0.999
        assert core.sum() > 30
        assert 0 <= plane(out, "ct")[core].mean() <= 15
        out, transform = injected(InjectTumourd, case(subject), seed, size_mm=(55, 60))
        whole, core, dead = (region.profile for region in transform._drawn.regions)
        only_core = (core > 0.999) & (dead < 0.001)
        if only_core.sum() >= 10:
            assert 20 <= plane(out, "ct")[only_core].mean() <= 50
        assert 5 - 1 <= plane(out, "ct")[dead > 0.999].mean() <= 15 + 1
        brain_only = plane(case(subject), "ct")[brain_of(subject)]
        oedema = (whole > 0.999) & (core < 0.001) & (subject[2] == TISSUES.index("wm"))
        assert 10 <= plane(out, "ct")[oedema].mean() <= 25 < np.median(brain_only) + 3


def test_early_infarct_changes_hu_of_known_tissue_and_draws_grey_and_white_together(subject):
    grey, white = (subject[2] == TISSUES.index(name) for name in ("gm", "wm"))
    found = []
    for seed in range(6):
        out, transform = injected(partial(InjectInfarctd, stage="early"), case(subject), seed, size_mm=(50, 60))
        inside = transform._drawn.regions[0].profile > 0.999
        ours, before = plane(out, "ct"), subject[0]
        change = (ours - before)[inside & (grey | white)].mean()
        low, high = CT_HU["infarct"]["early"]
        assert low - 1 <= change <= high + 1
        a, b = inside & grey, inside & white
        if min(a.sum(), b.sum()) > 60:
            found.append((ours[a].mean() - ours[b].mean()) / (before[a].mean() - before[b].mean()))
    assert len(found) >= 3
    assert np.median(found) < 0.93
    assert max(found) < 1


def test_int16_of_a_scanner_and_plain_arrays_are_hu(subject):
    whole = np.round(subject[0]).astype(np.int16)[None]
    for image in (whole, torch.as_tensor(whole)):
        out, _ = injected(InjectHemorrhaged, {**case(subject), "ct": image})
        assert out["ct"].dtype == torch.float32
        far = plane(out, "mask") + ndimage.binary_dilation(plane(out, "mask") > 0.5, iterations=4) == 0
        np.testing.assert_array_equal(np.asarray(out["ct"])[0][far], whole[0][far])


@pytest.mark.parametrize(
    ("image", "meta"),
    [
        (255 * np.random.RandomState(0).rand(1, 128, 128), {}),
        (255 * np.random.RandomState(0).rand(1, 128, 128), {"windowed": True}),
        (1000 * np.random.RandomState(0).rand(1, 128, 128) - 500, {"window": (40.0, 80.0), "windowed": False}),
    ],
)
def test_grey_levels_are_never_called_hu(image, meta, subject):
    wrong = MetaTensor(torch.as_tensor(image, dtype=torch.float32), meta=meta)
    with pytest.raises(InputError, match=r"a: ct: has values outside \[0, 1\]"):
        injected(InjectHemorrhaged, {**case(subject), "ct": wrong})


def test_mri_outside_its_range_is_refused(subject):
    with pytest.raises(InputError, match="mri: has values outside"):
        injected(InjectHemorrhaged, {**case(subject), "mri": torch.as_tensor(subject[1][None]) * 300 - 100})


def test_another_window_shows_the_same_hu(subject):
    """A subdural window (75/215) covers -32.5 to 182.5 HU: what lies within 0 to 80 HU must come out alike."""
    hu = case(subject)
    wide = {**hu, "ct": WindowCT(75, 215)(hu["ct"])}
    one, _ = injected(InjectHemorrhaged, hu)
    other, _ = injected(InjectHemorrhaged, wide)
    np.testing.assert_array_equal(one["mask"], other["mask"])
    inside = plane(one, "mask") > 0.5
    np.testing.assert_allclose(
        plane(other, "ct")[inside] * 215 - 32.5, np.clip(plane(one, "ct")[inside], -32.5, 182.5), atol=0.02
    )
    assert 0 <= float(other["ct"].min()) <= float(other["ct"].max()) <= 1


# --- place ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(0.35, 0.28), (0.35, 0.74), (0.65, 0.3), (0.7, 0.7), (0.5, 0.25)])
@pytest.mark.parametrize("make", [InjectHemorrhaged, partial(InjectHemorrhaged, mass_effect_mm=4)])
def test_location_is_honoured_within_a_few_mm(make, place, subject):
    rows, columns = (np.flatnonzero(brain_of(subject).any(axis=axis)) for axis in (1, 0))
    wished = rows[0] + place[0] * np.ptp(rows), columns[0] + place[1] * np.ptp(columns)
    for seed in range(4):
        out, _ = injected(make, case(subject), seed, size_mm=(18, 22), location=place)
        found = ndimage.center_of_mass(plane(out, "mask"))
        assert np.hypot(*np.subtract(found, wished)) * SPACING < 5


@pytest.mark.parametrize("place", [(0.4, 0.25), (0.55, 0.75)])
def test_location_of_a_tumour(place, subject):
    rows, columns = (np.flatnonzero(brain_of(subject).any(axis=axis)) for axis in (1, 0))
    wished = rows[0] + place[0] * np.ptp(rows), columns[0] + place[1] * np.ptp(columns)
    for seed in range(3):
        _, transform = injected(InjectTumourd, case(subject), seed, size_mm=(35, 40), location=place)
        core = transform._drawn.regions[1].profile > 0.5
        assert np.hypot(*np.subtract(ndimage.center_of_mass(core), wished)) * SPACING < 9


@pytest.mark.parametrize("make", [InjectInfarctd, InjectChronicInfarctd])
@pytest.mark.parametrize(("place", "territory"), [((0.5, 0.1), "MCA"), ((0.5, 0.9), "MCA"), ((0.95, 0.7), "PCA")])
def test_location_of_a_wedge_is_its_direction_and_territory(make, place, territory, subject):
    brain = brain_of(subject)
    middle = ndimage.center_of_mass(brain)
    for seed in range(3):
        out, _ = injected(make, case(subject), seed, location=place, size_mm=(28, 32))
        found = np.subtract(ndimage.center_of_mass(plane(out, "mask")), middle)
        rows, columns = (np.flatnonzero(brain.any(axis=axis)) for axis in (1, 0))
        wished = np.subtract((rows[0] + place[0] * np.ptp(rows), columns[0] + place[1] * np.ptp(columns)), middle)
        cosine = found @ wished / np.hypot(*found) / np.hypot(*wished)
        assert cosine > np.cos(np.deg2rad(15))
        assert out["anomaly"]["territory"] == territory


def test_corner_of_the_box_gives_the_nearest_place_in_the_brain(subject):
    out, _ = injected(InjectHemorrhaged, case(subject), location=(0.0, 0.0), size_mm=(15, 15))
    mask = plane(out, "mask") > 0.5
    assert not (mask & ~brain_of(subject)).any()
    row, column = ndimage.center_of_mass(mask)
    middle = ndimage.center_of_mass(brain_of(subject))
    assert row < middle[0]
    assert column < middle[1]


@pytest.mark.parametrize("place", [(0.5,), (0.5, 1.2), (-0.1, 0.5), (float("nan"), 0.5)])
def test_bad_location(place):
    with pytest.raises(InputError, match="location"):
        InjectHemorrhaged(location=place)


# --- displacement and record ------------------------------------------------------------------------------------------


class Pushed(LesionTransform):
    """A square without parts whose anatomy moves 3 pixels to the right within a band of rows."""

    kind = "pushed"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        warp = np.zeros((2, *brain.shape))
        warp[1, 40:80] = -3
        mask = np.zeros(brain.shape, dtype=bool)
        mask[50:60, 50:60] = True
        return Lesion(mask, [], {"note": 1}, warp)


def test_warp_moves_both_modalities_alike_by_the_stated_formula(subject):
    out, _ = injected(Pushed, case(subject))
    for key in ("ct", "mri"):
        before, after = plane(case(subject), key), plane(out, key)
        np.testing.assert_allclose(after[40:80, 3:], before[40:80, :-3], atol=1e-3 if key == "ct" else 1e-6)
        np.testing.assert_array_equal(after[:40], before[:40])
        np.testing.assert_array_equal(after[80:], before[80:])
    assert out["anomaly"]["warped"] is True
    assert out["anomaly"]["note"] == 1
    half, _ = injected(Pushed, case(subject), contrast=1 / 3)
    np.testing.assert_allclose(plane(half, "mri")[40:80, 1:], subject[1][40:80, :-1], atol=1e-6)
    more, _ = injected(Pushed, case(subject), contrast=2.0)
    np.testing.assert_array_equal(plane(more, "mri"), plane(out, "mri"))


@every_kind
def test_contrast_zero_changes_no_voxel_in_hu_either(make, subject):
    out, transform = injected(make, case(subject), contrast=0.0)
    np.testing.assert_array_equal(np.asarray(out["ct"])[0], subject[0])
    np.testing.assert_array_equal(np.asarray(out["mri"])[0], subject[1])
    assert out["label"] == 1
    assert plane(out, "mask").any()
    assert out["anomaly"].get("warped", False) is False
    full, _ = injected(make, case(subject))
    np.testing.assert_array_equal(out["mask"], full["mask"])
    assert transform._drawn is not None


@every_kind
@pytest.mark.parametrize("key", ["ct", "mri"])
def test_one_key_shows_in_one_modality(make, key, subject):
    out, _ = injected(make, case(subject), keys=(key,))
    other = {"ct": "mri", "mri": "ct"}[key]
    assert (plane(out, key) != plane(case(subject), key)).any()
    np.testing.assert_array_equal(plane(out, other), plane(case(subject), other))
    assert list(out["anomaly"]["contrast_to_noise_of"]) == [key]


@every_kind
def test_record_names_its_source_and_is_plain(make, subject):
    out, transform = injected(make, case(subject))
    record = out["anomaly"]
    assert record["source"] == SOURCES[transform.kind] != ""
    assert json.loads(json.dumps(record)) == record
    if transform._drawn.warp is None:
        assert "warped" not in record
    else:
        assert record["warped"] is True
        assert record["displacement_mm"] == pytest.approx(np.hypot(*transform._drawn.warp).max() * SPACING)


def test_region_of_one_modality(subject):
    class Streak(LesionTransform):
        def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
            mask = np.zeros(brain.shape, dtype=bool)
            mask[60:70, 60:70] = True
            flat = np.zeros(brain.shape)
            part = Region(
                mask * 1.0, (90, 110), {"T2": (0, 0)}, 0.5, flat, replaces=False, modality="ct", flattens=False
            )
            return Lesion(mask, [part])

    out, _ = injected(Streak, case(subject))
    difference = plane(out, "ct") - subject[0]
    np.testing.assert_allclose(difference[60:70, 60:70], 100, atol=1e-3)
    np.testing.assert_array_equal(plane(out, "mri"), subject[1])
    assert out["anomaly"]["source"] == ""
