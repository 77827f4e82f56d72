from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.data.reading.volumes import read_volume
from monai_ctmri.errors import InputError
from monai_ctmri.transforms import AxialSlicesd, InjectIntoVolumed, LesionTransform, LoadVolumed, assert_families_unseen
from monai_ctmri.transforms.lesion_suite import SIZES, SUITE, lesion_of, lesion_suite, size_of

PAIR_FAULTS = {"wrong_pair", "wrong_slice", "misregistration", "flip"}
WITH_DONORS = {"wrong_pair", "wrong_slice"}
OF_MRI = {kind for kind in SUITE if kind.startswith("mri_")} | {"infarct_mri_only"}


def volume_case(seed: int = 3) -> dict:
    """A phantom head as volumes of 4 mm: CT in HU, T2."""
    settings = PhantomSettings(size=64, contrast="T2", form="volumes")
    subject = draw_subject(seed, settings)
    affine = np.diag([settings.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (*[-(settings.size - 1) / 2 * settings.spacing_mm] * 2, subject.levels_mm[0])
    case: dict = {"case": "head", "subject": "s", "mri_contrast": "T2"}
    for name, stack in (("ct", subject.ct), ("mri", subject.mri / subject.mri.max())):
        array = np.ascontiguousarray(stack[:, ::-1, ::-1].transpose(2, 1, 0), dtype=np.float32)
        meta = {"windowed": False, "modality": name}
        case[name] = MetaTensor(torch.from_numpy(array[None]), affine=torch.from_numpy(affine), meta=meta)
    return case


@pytest.fixture(scope="module")
def head() -> dict:
    return volume_case()


@pytest.mark.parametrize("size", [None, *SIZES])
@pytest.mark.parametrize("kind", SUITE)
def test_every_kind_is_made_under_its_own_name_and_of_family_b(kind, size):
    donor = {"subject": "other"}
    made = lesion_of(kind, size, donors=[donor], neighbours=[donor])
    assert isinstance(made, LesionTransform)
    assert made.kind == kind
    assert made.family == "B"
    with pytest.raises(InputError, match="family B"):
        assert_families_unseen(made)


@pytest.mark.parametrize("kind", sorted(set(SUITE) - PAIR_FAULTS))
def test_sizes_are_the_ends_and_the_middle_of_a_range(kind):
    whole, small, medium, large = (lesion_of(kind, size) for size in (None, *SIZES))
    asked = [size_of(one) for one in (small, medium, large)]
    if asked[0] is None:
        strengths = [one.strength for one in (small, medium, large)]
        assert strengths[0] < strengths[1] < strengths[2]
        assert strengths[0][0] == whole.strength[0]
        return
    low, high = whole.size_mm
    np.testing.assert_allclose(asked, [low, (low + high) / 2, high])
    assert size_of(whole) is None


def test_the_suite_holds_what_the_modalities_can_show():
    kinds = {modality: {one.kind for one in lesion_suite([modality])} for modality in ("ct", "mri")}
    assert "ct_rings" in kinds["ct"]
    assert "ct_rings" not in kinds["mri"]
    assert "mri_motion" in kinds["mri"]
    assert "mri_motion" not in kinds["ct"]
    assert "hemorrhage" in kinds["ct"] & kinds["mri"]
    assert not (kinds["ct"] | kinds["mri"]) & (PAIR_FAULTS | {"calcification_ct_only"})
    donor = {"subject": "other"}
    both = {one.kind for one in lesion_suite(donors=[donor], neighbours=[donor])}
    assert both == set(SUITE)
    assert both - {one.kind for one in lesion_suite()} == {"wrong_pair", "wrong_slice"}


def test_options_reach_every_transform():
    for one in lesion_suite(contrast=0.5, pixel_spacing_mm=0.7, kinds=["hemorrhage", "ct_rings", "midline_shift"]):
        assert (one.contrast, one.pixel_spacing_mm) == (0.5, 0.7)


def test_unknown_words_are_refused():
    for arguments, message in ((("measles",), "kind 'measles'"), (("tumour", "huge"), "size 'huge'")):
        with pytest.raises(InputError, match=message):
            lesion_of(*arguments)
    with pytest.raises(InputError, match="kind 'measles'"):
        lesion_suite(kinds=["measles"])


@pytest.mark.parametrize("kind", sorted(set(SUITE) - WITH_DONORS))
def test_every_kind_that_needs_no_donor_runs_on_a_volume_in_hounsfield_units(kind, head):
    inject = InjectIntoVolumed(lesion_of(kind, "large")).set_random_state(5)
    result = inject(head)
    assert result["label"] == 1
    changed = {name: result[name].numpy() != head[name].numpy() for name in ("ct", "mri")}
    assert any(one.any() for one in changed.values())
    if kind in OF_MRI or kind == "calcification_ct_only":
        other = "ct" if kind in OF_MRI else "mri"
        assert not changed[other].any()
    for name in ("ct", "mri"):
        assert result[name].shape == head[name].shape
        np.testing.assert_allclose(result[name].affine, head[name].affine)
        assert torch.isfinite(result[name]).all()
    # Still HU: air is where it was, and far below the window.
    air = head["ct"].numpy() < -900
    assert np.median(result["ct"].numpy()[air]) < -900
    assert 0 < float(result["mask"].sum()) < result["mask"].numel()
    assert result["anomaly"]["kind"] == kind


@pytest.mark.parametrize("kind", sorted(WITH_DONORS))
def test_faults_with_donors_run_on_slices_in_hounsfield_units(kind, head):
    """Another head, or another slice of this one, takes the MRI's place; CT in HU stays as it is."""
    slices = AxialSlicesd(levels_mm=(30, 70))(head)
    strangers = AxialSlicesd(levels_mm=(30, 70))({**volume_case(9), "subject": "other"})
    made = lesion_of(kind, donors=strangers[:2], neighbours=slices[4:]).set_random_state(0)
    result = made(slices[0])
    np.testing.assert_array_equal(result["ct"].numpy(), slices[0]["ct"].numpy())
    assert (result["mri"].numpy() != slices[0]["mri"].numpy()).any()


@pytest.mark.parametrize("kind", ["hemorrhage", "infarct", "acute_collection", "calcification", "midline_shift"])
def test_lesions_run_on_a_real_head_in_hounsfield_units(kind, real_data: Path):
    path = real_data / "volumes" / "ct_head_ge_upper14_hu.nii.gz"
    case = LoadVolumed("ct")({"ct": str(path), "case": "ge"})
    assert not read_volume(path, "ct").findings
    result = InjectIntoVolumed(lesion_of(kind, "large"), keys="ct").set_random_state(1)(case)
    change = result["ct"].numpy() - case["ct"].numpy()
    mask = result["mask"].numpy() > 0
    assert mask.any()
    assert np.abs(change[mask]).max() > 3
    if kind == "hemorrhage":
        assert 50 <= np.median(result["ct"].numpy()[mask]) <= 80
