"""Loading cases, masks on the grid of the image, and abnormal twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Resize, ResizeWithPadOrCrop
from PIL import Image
from scipy import ndimage

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.evaluation.cases import abnormal_cases, load_cases, make_anomalies

BOTH = ("ct", "mri")


@pytest.fixture(scope="module")
def preprocess(phantom_benchmark):
    return phantom_benchmark.run.trained.preprocess


@pytest.fixture(scope="module")
def cases(phantom_manifest, preprocess):
    manifest = Manifest.read(phantom_manifest)
    return load_cases(manifest.select(subjects=manifest.subjects[:3]), preprocess, BOTH)


def test_cases_come_in_the_order_of_the_manifest_with_what_methods_need(phantom_manifest, cases):
    expected = list(Manifest.read(phantom_manifest))[:9]
    assert [case["case"] for case in cases] == [case.name for case in expected]
    assert [case["subject"] for case in cases] == [case.subject for case in expected]
    for case in cases:
        assert case["image"].shape == (2, 64, 64)
        assert torch.equal(torch.cat([case["ct"], case["mri"]]), case["image"])
        assert case["label"] == 0
        assert case["mri_contrast"] == "T2"  # the phantom's note
        assert "mask" not in case
        assert set(np.unique(case["brain"])) == {0, 1}
        head = np.asarray(case["image"]).max(0) > 0.05
        assert 0.3 * head.sum() < np.asarray(case["brain"]).sum() < head.sum()


def test_pixels_are_those_of_the_file(phantom_manifest, cases):
    """At the size of the file nothing is resampled: an 8-bit CT of the brain window is its grey level by 255."""
    case = Manifest.read(phantom_manifest)[4]
    stored = np.asarray(Image.open(case.ct)) / 255
    np.testing.assert_allclose(np.asarray(cases[4]["ct"])[0], stored, atol=1e-3)


def test_unknown_label_stays_unknown_and_a_note_that_is_no_contrast_is_not_taken_for_one(phantom_manifest, preprocess):
    manifest = Manifest([replace(Manifest.read(phantom_manifest)[0], label=None, note="night shift")])
    (case,) = load_cases(manifest, preprocess, BOTH)
    assert case["label"] is None
    assert "mri_contrast" not in case


def test_one_modality_gives_one_channel(phantom_manifest, preprocess):
    manifest = Manifest([Manifest.read(phantom_manifest)[0]])

    def mri_only(item):
        return {"image": preprocess({**item, "ct": str(manifest[0].ct)})["image"][1:]}

    (case,) = load_cases(manifest, mri_only, ("mri",))
    assert case["image"].shape == (1, 64, 64)
    assert "ct" not in case
    assert torch.equal(case["mri"], case["image"])
    assert 0 < np.asarray(case["brain"]).sum() < 64 * 64


def write_square(folder, size, top, left, side):
    mask = np.zeros(size, np.uint8)
    mask[top : top + side, left : left + side] = 255
    picture = np.full(size, 40, np.uint8)
    picture[5:-5, 5:-5] = 120
    Image.fromarray(mask).save(folder / f"mask_{top}.png")
    Image.fromarray(picture).save(folder / "picture.png")
    return Manifest(
        [
            Case(
                "one",
                "s",
                ct=folder / "picture.png",
                mri=folder / "picture.png",
                label=1,
                mask=folder / f"mask_{top}.png",
            )
        ]
    )


@pytest.mark.parametrize(("height", "width"), [(96, 72), (72, 96), (128, 77), (51, 64), (64, 64)])
def test_a_mask_lies_where_the_picture_is(tmp_path, preprocess, height, width):
    top, left, side = height // 3, width // 2, 20
    (case,) = load_cases(write_square(tmp_path, (height, width), top, left, side), preprocess, BOTH)
    mask = np.asarray(case["mask"])
    assert mask.shape == (1, 64, 64)
    assert set(np.unique(mask)) == {0, 1}
    # by hand: scaled by 64 / longest side, the shorter side padded evenly
    scale = 64 / max(height, width)
    inner = round(height * scale), round(width * scale)
    pads = [(64 - length) // 2 for length in inner]
    centre = [
        (start + side / 2) * length / old + pad - 0.5
        for start, length, old, pad in zip((top, left), inner, (height, width), pads, strict=True)
    ]
    found = ndimage.center_of_mass(mask[0])
    np.testing.assert_allclose(found, centre, atol=0.51)
    assert mask.sum() == pytest.approx((side * scale) ** 2, rel=0.15)
    # and by the geometry of the images: the square as a picture
    square = torch.zeros(1, height, width)
    square[:, top : top + side, left : left + side] = 1
    geometry = Compose(
        [Resize(64, size_mode="longest", mode="bilinear", anti_aliasing=True), ResizeWithPadOrCrop((64, 64))]
    )
    as_picture = np.asarray(geometry(square)) > 0.5
    both, either = np.sum(as_picture & (mask > 0)), np.sum(as_picture | (mask > 0))
    assert both / either > 0.8


def test_a_mask_is_not_shifted_by_half_a_pixel(tmp_path, preprocess):
    """Of four positions within a pixel of the result the mean centre is the true one."""
    shifts = []
    for start in range(80, 84):
        (case,) = load_cases(write_square(tmp_path, (256, 256), start, start, 40), preprocess, BOTH)
        shifts.append(np.array(ndimage.center_of_mass(np.asarray(case["mask"])[0])) - ((start + 20) / 4 - 0.5))
    np.testing.assert_allclose(np.mean(shifts, axis=0), 0, atol=0.15)


def test_a_wrong_pair_needs_two_modalities_and_a_donor(cases):
    def kinds(*arguments):
        return [anomaly.kind for anomaly in make_anomalies(*arguments)]

    lesions = ["hemorrhage", "infarct", "tumour"]
    assert kinds(BOTH, 64, cases) == [*lesions, "wrong_pair"]
    assert kinds(BOTH, 64, []) == lesions
    assert kinds(("ct",), 64, cases) == lesions
    assert all(one.family == "B" for one in make_anomalies(BOTH, 64, cases))
    assert {one.pixel_spacing_mm for one in make_anomalies(BOTH, 64, cases)} == {3.75}  # 240 mm / 64


def test_every_normal_has_a_twin_of_every_kind_that_differs_in_the_lesion_only(cases):
    by_name = {case["case"]: case for case in cases}
    twins = list(abnormal_cases(cases, BOTH, cases, seed=0))
    assert [(twin["twin_of"], twin["kind"]) for twin in twins] == [
        (case["case"], kind) for case in cases for kind in ("hemorrhage", "infarct", "tumour", "wrong_pair")
    ]
    for twin in twins:
        clean = by_name[twin["twin_of"]]
        assert twin["label"] == 1
        assert clean["label"] == 0
        changed = np.asarray(twin["image"]) != np.asarray(clean["image"])
        assert changed.any()
        np.testing.assert_array_equal(twin["image"], np.concatenate([twin["ct"], twin["mri"]]))
        if twin["kind"] == "wrong_pair":
            donor_subject = twin["anomaly"]["donor_subject"]
            assert donor_subject != twin["subject"]
            assert not changed[0].any()
            donors = [np.asarray(case["mri"]) for case in cases if case["subject"] == donor_subject]
            assert any(np.array_equal(np.asarray(twin["mri"]), donor) for donor in donors)
        else:
            # the mask holds what is filled by more than half; the soft edge is at most 1.5 mm, under a pixel
            near = ndimage.binary_dilation(np.asarray(twin["mask"])[0] > 0, iterations=2)
            assert not changed[:, ~near].any()


def test_donors_are_of_about_the_same_level(cases):
    """The phantom's slices of one number are at one level, and the size of the brain tells them apart."""
    area = {case["case"]: float(np.asarray(case["brain"]).sum()) for case in cases}
    for twin in abnormal_cases(cases, BOTH, cases, seed=1):
        if twin["kind"] == "wrong_pair":
            others = [case for case in cases if case["subject"] != twin["subject"]]
            ranked = sorted(others, key=lambda case: abs(area[case["case"]] - area[twin["twin_of"]]))
            assert any(np.array_equal(np.asarray(twin["mri"]), np.asarray(case["mri"])) for case in ranked[:5])
            assert not any(np.array_equal(np.asarray(twin["mri"]), np.asarray(case["mri"])) for case in ranked[5:])


def test_twins_depend_on_the_case_and_the_seed_only(cases):
    lesions = {twin["case"]: twin for twin in abnormal_cases(cases, BOTH, cases, seed=3)}
    (first, *_) = abnormal_cases(cases[4:5], BOTH, cases[::-1], seed=3)
    np.testing.assert_array_equal(first["image"], lesions[first["case"]]["image"])
    (other, *_) = abnormal_cases(cases[4:5], BOTH, cases, seed=4)
    assert not np.array_equal(other["image"], first["image"])


def test_zero_contrast_changes_nothing(cases):
    by_name = {case["case"]: case for case in cases}
    for twin in abnormal_cases(cases, BOTH, cases, seed=0, contrast=0.0):
        np.testing.assert_array_equal(twin["image"], by_name[twin["twin_of"]]["image"])
        assert np.asarray(twin["mask"]).any()


def test_without_a_donor_of_another_subject_there_is_no_wrong_pair(cases):
    twins = list(abnormal_cases(cases[:3], BOTH, cases[:3], seed=0))
    assert {twin["kind"] for twin in twins} == {"hemorrhage", "infarct", "tumour"}


def test_slices_with_hardly_any_brain_get_no_lesion(cases):
    small = torch.zeros(1, 64, 64)
    small[:, :16, :16] = 1  # 6 %
    assert list(abnormal_cases([{**cases[0], "brain": small}], BOTH, cases, seed=0)) == []
    assert list(abnormal_cases([], BOTH, cases, seed=0)) == []
