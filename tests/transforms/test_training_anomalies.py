"""Family A: what is drawn, where it shows, what is recorded, and that it stays apart from the test families."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, OneOf
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import InjectHemorrhaged, assert_families_unseen
from monai_ctmri.transforms.training_anomalies import RandGainShiftd, RandLocalWarpd, RandNoiseBlobsd

SIZE = 96
KINDS = [RandNoiseBlobsd, RandGainShiftd, RandLocalWarpd]
every_kind = pytest.mark.parametrize("make", KINDS)


def head(seed: int, bone: float) -> np.ndarray:
    """A head (1, H, W): textured brain of radius 30, skull of ``bone``, air of exactly 0."""
    y, x = np.mgrid[:SIZE, :SIZE]
    radius = np.hypot(y - 47.5, x - 47.5)
    texture = 0.45 + 0.1 * np.sin(y / (4 + seed)) * np.cos(x / 5)
    return np.select([radius < 30, radius < 36], [texture, bone], 0.0).astype(np.float32)[None]


def brain() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return (np.hypot(y - 47.5, x - 47.5) < 30).astype(np.float32)[None]


def case(**entries):
    return {"ct": head(0, 1.0), "mri": head(1, 0.1), "brain": brain(), "subject": "p1", **entries}


def acted(make, seed: int = 0, data=None, **options):
    options = {"prob": 1.0, "size_mm": (15.0, 25.0), **options}
    transform = make(**options).set_random_state(seed)
    before = case() if data is None else data
    return before, transform(before)


def change(before, after, key: str = "ct") -> np.ndarray:
    return np.abs(np.asarray(after[key], dtype=float) - np.asarray(before[key]))[0]


@every_kind
def test_both_modalities_change_at_one_place_and_the_result_is_labelled(make):
    for seed in range(6):
        before, after = acted(make, seed)
        mask = np.asarray(after["mask"])[0] > 0
        assert after["label"] == 1
        assert mask.any()
        for key in ("ct", "mri"):
            assert after[key].dtype == torch.float32
            assert after[key].min() >= 0
            assert after[key].max() <= 1
            assert change(before, after, key)[mask].mean() > 3 * change(before, after, key)[~mask].mean()
        assert after["anomaly"]["kind"] == make.kind
        assert after["anomaly"]["family"] == "A"
        assert after["anomaly"]["source"]
        size = 2 * np.sqrt(mask.sum() / np.pi) * 1.8
        assert after["anomaly"]["size_mm"] == pytest.approx(size)


@every_kind
def test_recorded_change_is_the_mean_of_what_changed(make):
    before, after = acted(make, 3)
    mask = np.asarray(after["mask"])[0] > 0
    wanted = max(change(before, after, key)[mask].mean() for key in ("ct", "mri"))
    assert after["anomaly"]["change"] == pytest.approx(wanted, rel=1e-4)


@every_kind
def test_zero_contrast_changes_no_pixel_but_keeps_mask_and_label(make):
    before, after = acted(make, 1, contrast=0.0)
    for key in ("ct", "mri"):
        np.testing.assert_array_equal(np.asarray(after[key]), before[key])
    _, full = acted(make, 1)
    np.testing.assert_array_equal(np.asarray(after["mask"]), np.asarray(full["mask"]))
    assert after["label"] == 1
    assert after["anomaly"]["change"] == 0


@pytest.mark.parametrize("make", [RandNoiseBlobsd, RandGainShiftd])
def test_half_contrast_is_half_the_change(make):
    options = {"std": (0.05, 0.05)} if make is RandNoiseBlobsd else {"gain": (1.1, 1.2)}
    before, half = acted(make, 2, contrast=0.5, **options)
    _, full = acted(make, 2, **options)
    inner = brain()[0] > 0
    np.testing.assert_allclose(2 * change(before, half)[inner], change(before, full)[inner], atol=1e-5)


@pytest.mark.parametrize("make", [RandNoiseBlobsd, RandGainShiftd])
def test_intensity_changes_stay_in_the_brain(make):
    for seed in range(5):
        before, after = acted(make, seed)
        assert (change(before, after)[brain()[0] == 0] == 0).all()


@every_kind
def test_effects_are_independent_unless_shared(make):
    same = head(0, 1.0)
    data = case(ct=same, mri=same.copy())
    _, apart = acted(make, 4, data=data, shared_effect=False)
    _, alike = acted(make, 4, data=data, shared_effect=True)
    assert (np.asarray(apart["ct"]) != np.asarray(apart["mri"])).any()
    np.testing.assert_array_equal(np.asarray(alike["ct"]), np.asarray(alike["mri"]))
    np.testing.assert_array_equal(np.asarray(apart["mask"]), np.asarray(alike["mask"]))


def test_warp_moves_both_modalities_alike_by_default():
    same = head(0, 1.0)
    _, after = acted(RandLocalWarpd, data=case(ct=same, mri=same.copy()))
    np.testing.assert_array_equal(np.asarray(after["ct"]), np.asarray(after["mri"]))


def test_gain_is_in_the_stated_range_and_goes_both_ways():
    ratios = []
    for seed in range(20):
        before, after = acted(RandGainShiftd, seed, gain=(1.2, 1.6), edge_mm=(1.0, 1.0))
        # The plateau: where the profile is 1 the ratio is the gain itself.
        ratio = np.asarray(after["ct"], dtype=float)[0][brain()[0] > 0] / before["ct"][0][brain()[0] > 0]
        ratios.append(ratio[np.argmax(np.abs(np.log(ratio)))])
    strength = np.exp(np.abs(np.log(ratios)))
    assert (strength <= 1.6 + 1e-4).all()
    assert (strength >= 1.2 - 1e-4).all()
    assert min(ratios) < 1 < max(ratios)


def test_gain_fades_out_softly():
    flat = case(ct=np.where(brain() > 0, 0.5, 0.0).astype(np.float32))
    _, hard = acted(RandGainShiftd, 1, data=flat, edge_mm=(0.0, 0.0))
    _, soft = acted(RandGainShiftd, 1, data=flat, edge_mm=(8.0, 8.0), size_mm=(40.0, 40.0))
    assert len(np.unique(np.asarray(hard["ct"])[0][brain()[0] > 0].round(4))) == 2
    assert len(np.unique(np.asarray(soft["ct"])[0][brain()[0] > 0].round(4))) > 20


def test_noise_has_the_stated_spread():
    spread = []
    for seed in range(15):
        flat = np.where(brain() > 0, 0.5, 0.0).astype(np.float32)
        options = {"std": (0.1, 0.1), "grain_mm": (1.8, 1.8), "count": (1, 1), "size_mm": (30.0, 40.0)}
        _, after = acted(RandNoiseBlobsd, seed, data=case(ct=flat), **options)
        spread.append((np.asarray(after["ct"])[0] - 0.5)[np.asarray(after["mask"])[0] > 0].std())
    # Bilinear mixing of neighbours with shares (1 - s, s), s ~ U(0, 1), keeps 2/3 of the variance along each axis.
    assert np.sqrt(np.mean(np.square(spread))) == pytest.approx(0.1 * 2 / 3, rel=0.12)


def test_count_of_blobs_is_within_its_range():
    found = set()
    for seed in range(25):
        _, after = acted(RandNoiseBlobsd, seed, size_mm=(6.0, 8.0), count=(2, 3))
        found.add(int(ndimage.label(np.asarray(after["mask"])[0] > 0)[1]))
    assert found <= {1, 2, 3}
    assert {2, 3} <= found


@pytest.mark.parametrize("seed", range(6))
def test_warp_moves_coordinates_as_documented(seed: int):
    """Coordinates as pictures show the displacement itself."""
    y, x = (np.mgrid[:SIZE, :SIZE] / SIZE).astype(np.float32)
    data = case(ct=y[None], mri=x[None])
    _, after = acted(RandLocalWarpd, seed, data=data, size_mm=(18.0, 18.0), reach=(0.2, 0.2))
    moved = np.stack([(np.asarray(after["ct"])[0] - y), (np.asarray(after["mri"])[0] - x)]) * SIZE
    length = np.hypot(*moved)
    mask = np.asarray(after["mask"])[0] > 0
    centre = np.argwhere(mask).mean(0)
    away = np.hypot(*(np.indices((SIZE, SIZE)) - centre[:, None, None]))
    assert mask.sum() == pytest.approx(np.pi * 5**2, rel=0.15)
    assert (length[away > 10.5] < 1e-3).all()
    assert length.max() <= 0.2 * 10 + 1e-2
    assert length.max() > 0.5
    rows = np.gradient(moved[0]), np.gradient(moved[1])
    determinant = (1 + rows[0][0]) * (1 + rows[1][1]) - rows[0][1] * rows[1][0]
    assert determinant[5:-5, 5:-5].min() > 0


def test_unchosen_case_is_marked_normal_and_collates_with_chosen_ones():
    chain = OneOf([make(prob=0.5, size_mm=(15.0, 25.0)) for make in KINDS]).set_random_state(0)
    cases = [chain(case()) for _ in range(12)]
    labels = [one["label"] for one in cases]
    assert {0, 1} == set(labels)
    for one in cases:
        assert bool(np.asarray(one["mask"]).any()) == bool(one["label"])
        if not one["label"]:
            assert one["anomaly"]["kind"] == "none"
            np.testing.assert_array_equal(np.asarray(one["ct"]), case()["ct"])
    batch = list_data_collate(cases)
    assert batch["mask"].shape == (12, 1, SIZE, SIZE)
    assert len(batch["anomaly"]["kind"]) == 12


def test_two_in_a_row_mark_both_places():
    chain = Compose([make(prob=1.0, size_mm=(10.0, 12.0)) for make in (RandGainShiftd, RandLocalWarpd)])
    chain.set_random_state(3)
    first = chain.transforms[0](case())
    both = chain.set_random_state(3)(case())
    assert np.asarray(both["mask"]).sum() > np.asarray(first["mask"]).sum()
    assert (np.asarray(both["mask"]) >= np.asarray(first["mask"])).all()


@every_kind
def test_one_key_shows_in_one_modality(make):
    before, after = acted(make, keys=("mri",))
    assert change(before, after, "mri").any()
    np.testing.assert_array_equal(np.asarray(after["ct"]), before["ct"])


@every_kind
def test_repeat_pickle_and_input(make):
    transform = make(prob=1.0, size_mm=(15.0, 25.0)).set_random_state(9)
    data = case(ct=MetaTensor(head(0, 1.0)))
    kept = data["ct"].clone()
    restored = pickle.loads(pickle.dumps(transform))
    first = transform(data)
    again = transform(data, randomize=False)
    np.testing.assert_array_equal(np.asarray(first["ct"]), np.asarray(again["ct"]))
    np.testing.assert_array_equal(np.asarray(first["ct"]), np.asarray(restored(data)["ct"]))
    np.testing.assert_array_equal(np.asarray(data["ct"]), np.asarray(kept))
    assert "mask" not in data


def test_guard_lets_family_a_pass_and_can_refuse_it():
    chain = Compose([OneOf([make(prob=0.5) for make in KINDS])])
    assert_families_unseen(chain, ("B",))
    with pytest.raises(InputError, match="family A"):
        assert_families_unseen(chain, ("A",))
    with pytest.raises(InputError, match="family B"):
        assert_families_unseen(Compose([chain, InjectHemorrhaged()]), ("B",))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (RandGainShiftd, {"gain": (0.5, 1.2)}),
        (RandGainShiftd, {"contrast": 1.5}),
        (RandGainShiftd, {"pixel_spacing_mm": 0.0}),
        (RandLocalWarpd, {"reach": (0.1, 0.8)}),
        (RandNoiseBlobsd, {"std": (-0.1, 0.1)}),
        (RandNoiseBlobsd, {"count": (0, 2)}),
        (RandNoiseBlobsd, {"size_mm": (20.0, 10.0)}),
    ],
)
def test_bad_options(make, options):
    with pytest.raises(InputError, match=next(iter(options))):
        make(**options)


def test_half_contrast_moves_tissue_half_as_far():
    y, x = (np.mgrid[:SIZE, :SIZE] / SIZE).astype(np.float32)
    data = case(ct=y[None], mri=x[None])
    _, full = acted(RandLocalWarpd, 2, data=data)
    _, half = acted(RandLocalWarpd, 2, data=data, contrast=0.5)
    inner = (slice(25, 70), slice(25, 70))
    for key, start in (("ct", y), ("mri", x)):
        moved = [(np.asarray(one[key])[0] - start)[inner] for one in (full, half)]
        np.testing.assert_allclose(2 * moved[1], moved[0], atol=1e-4)
