"""Foreign patch and Poisson interpolation against their formulas, and who may be a donor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import assert_families_unseen
from monai_ctmri.transforms.foreign_patches import RandForeignPatchd, RandPoissonPatchd

SIZE = 96
MAKERS = [RandForeignPatchd, RandPoissonPatchd]
both_ways = pytest.mark.parametrize("make", MAKERS)


def head(seed: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    texture = 0.45 + 0.15 * np.sin(y / (3 + seed)) * np.cos(x / (4 + seed))
    return np.where(np.hypot(y - 47.5, x - 47.5) < 36, texture, 0.0).astype(np.float32)[None]


def person(seed: int, subject: str, **entries):
    brain = (head(0) > 0).astype(np.float32)
    return {"ct": head(seed), "mri": head(seed + 3), "brain": brain, "subject": subject, "label": 0, **entries}


def acted(make, seed: int = 0, donors=None, data=None, **options):
    donors = [person(5, "donor")] if donors is None else donors
    transform = make(donors, **{"prob": 1.0, "size_mm": (30.0, 50.0), **options}).set_random_state(seed)
    before = person(0, "p1") if data is None else data
    return before, transform(before)


def plane(d, key: str) -> np.ndarray:
    return np.asarray(d[key], dtype=float)[0]


def test_foreign_patch_by_formula():
    donor = person(5, "donor")
    for seed in range(5):
        before, after = acted(RandForeignPatchd, seed, alpha=(0.3, 0.3))
        inner = ndimage.binary_erosion(plane(after, "mask") > 0, iterations=2)
        assert inner.sum() > 50
        for key in ("ct", "mri"):
            wanted = 0.7 * plane(before, key) + 0.3 * plane(donor, key)
            np.testing.assert_allclose(plane(after, key)[inner], wanted[inner], atol=1e-5)
        far = ~ndimage.binary_dilation(plane(after, "mask") > 0, iterations=3)
        np.testing.assert_array_equal(plane(after, "ct")[far], plane(before, "ct")[far])


@both_ways
def test_mask_is_the_share_of_the_donor(make):
    shares = set()
    for seed in range(10):
        _, after = acted(make, seed, alpha=(0.2, 0.9), shared_effect=True)
        values = np.unique(np.asarray(after["mask"]))
        assert len(values) == 2
        assert values[0] == 0
        shares.add(float(values[1]))
    assert len(shares) == 10
    assert min(shares) >= 0.2
    assert max(shares) <= 0.9


def test_mask_takes_the_larger_share_where_modalities_differ():
    donor = person(5, "donor")
    before, after = acted(RandForeignPatchd, 2, alpha=(0.1, 0.9))
    inner = ndimage.binary_erosion(plane(after, "mask") > 0, iterations=2)
    shares = []
    for key in ("ct", "mri"):
        gap = (plane(donor, key) - plane(before, key))[inner]
        moved = (plane(after, key) - plane(before, key))[inner]
        shares.append(float(gap @ moved / (gap @ gap)))
    assert abs(shares[0] - shares[1]) > 0.02
    assert np.asarray(after["mask"]).max() == pytest.approx(max(shares), abs=1e-4)


def test_poisson_patch_has_no_seam_and_the_gradients_of_both():
    donor = person(5, "donor", ct=(head(5) * 0.6 + 0.3) * (head(5) > 0))
    before, after = acted(RandPoissonPatchd, 1, [donor], alpha=(0.5, 0.5), size_mm=(30.0, 30.0))
    inside = plane(after, "mask") > 0
    np.testing.assert_array_equal(plane(after, "ct")[~inside], plane(before, "ct")[~inside])
    stencil = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=float)
    core = ndimage.binary_erosion(inside)
    wanted = ndimage.convolve(0.5 * plane(before, "ct") + 0.5 * plane(donor, "ct"), stencil)
    np.testing.assert_allclose(ndimage.convolve(plane(after, "ct"), stencil)[core], wanted[core], atol=1e-5)


def test_poisson_patch_forgets_the_level_of_the_donor():
    donor = person(5, "donor")
    brighter = {**donor, "ct": np.where(donor["ct"] > 0, donor["ct"] + 0.1, 0).astype(np.float32)}
    options = {"size_mm": (20.0, 20.0), "alpha": (0.8, 0.8)}
    for seed in range(20):
        _, one = acted(RandPoissonPatchd, seed, [donor], **options)
        patch = ndimage.binary_dilation(plane(one, "mask") > 0, iterations=2)
        if (plane(donor, "ct")[patch] > 0).all():
            break
    _, other = acted(RandPoissonPatchd, seed, [brighter], **options)
    np.testing.assert_allclose(plane(one, "ct"), plane(other, "ct"), atol=1e-5)


@both_ways
def test_a_twin_of_another_name_changes_nothing(make):
    before, after = acted(make, 0, [person(0, "twin")])
    for key in ("ct", "mri"):
        np.testing.assert_allclose(plane(after, key), plane(before, key), atol=1e-6)
    assert after["label"] == 1


@both_ways
def test_zero_contrast_changes_no_pixel_but_keeps_the_share(make):
    before, after = acted(make, 3, contrast=0.0)
    _, full = acted(make, 3)
    np.testing.assert_array_equal(plane(after, "ct"), plane(before, "ct"))
    np.testing.assert_array_equal(np.asarray(after["mask"]), np.asarray(full["mask"]))


@both_ways
def test_air_of_both_is_no_anomaly_and_stays_air(make):
    for seed in range(8):
        _, after = acted(make, seed, size_mm=(60.0, 60.0))
        air = head(0)[0] == 0
        assert not plane(after, "mask")[air].any()
        assert not plane(after, "ct")[air].any()


def test_poisson_patch_stays_off_the_frame():
    full = person(0, "p1", ct=head(0) + 0.2, mri=head(3) + 0.2, brain=np.ones((1, SIZE, SIZE), np.float32))
    other = person(5, "donor", ct=head(5) + 0.2, mri=head(1) + 0.2)
    for seed in range(10):
        _before, after = acted(RandPoissonPatchd, seed, [other], full, size_mm=(80.0, 80.0))
        mask = plane(after, "mask") > 0
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
        assert (plane(after, "ct") >= 0).all()
        assert (plane(after, "ct") <= 1).all()


@both_ways
def test_record_names_kind_family_and_donor(make):
    _, after = acted(make)
    assert after["anomaly"]["kind"] == make.kind
    assert after["anomaly"]["family"] == "A"
    assert after["anomaly"]["donor_subject"] == "donor"
    assert "Tan" in after["anomaly"]["source"]


@both_ways
def test_donor_is_a_normal_case_of_another_subject_on_the_grid(make):
    bad = [
        person(1, "p1"),
        person(2, "sick", label=1),
        {**person(3, "small"), "ct": head(3)[:, 1:]},
        {**person(4, "half"), "mri": None},
        {**person(4, "nameless"), "subject": None},
    ]
    for seed in range(5):
        _, after = acted(make, seed, [*bad, person(5, "good")])
        assert after["anomaly"]["donor_subject"] == "good"
    with pytest.raises(InputError, match="p1: no normal donor"):
        acted(make, 0, bad)
    with pytest.raises(InputError, match="has no subject"):
        acted(make, 0, data=person(0, None))


def test_all_donors_are_drawn():
    donors = [person(1, name) for name in "abcd"]
    drawn = {acted(RandForeignPatchd, seed, donors)[1]["anomaly"]["donor_subject"] for seed in range(40)}
    assert drawn == set("abcd")


def test_donors_from_a_function_of_the_random_state():
    def draw(random: np.random.RandomState):
        number = random.randint(3)
        return person(number, "p1" if number == 0 else f"d{number}")

    drawn = {acted(RandForeignPatchd, seed, draw)[1]["anomaly"]["donor_subject"] for seed in range(20)}
    assert drawn == {"d1", "d2"}
    with pytest.raises(InputError, match="no normal donor"):
        acted(RandForeignPatchd, 0, lambda random: person(0, "p1"))


def test_donor_needs_only_the_modalities_of_the_case():
    alone = person(0, "p1", mri=None)
    _, after = acted(RandPoissonPatchd, 0, [person(5, "donor", mri=None)], alone)
    assert after["mri"] is None
    assert after["label"] == 1


def test_donor_stays_as_it_was():
    donor = person(5, "donor")
    kept = {key: donor[key].copy() for key in ("ct", "mri")}
    for make in MAKERS:
        acted(make, 0, [donor])
    for key, value in kept.items():
        np.testing.assert_array_equal(donor[key], value)


@both_ways
def test_family_and_options(make):
    transform = make([])
    assert_families_unseen([transform], ("B",))
    with pytest.raises(InputError, match="family A"):
        assert_families_unseen([transform], ("A",))
    with pytest.raises(InputError, match="alpha"):
        make([], alpha=(0.5, 1.5))
