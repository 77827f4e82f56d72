"""The base of family A, by the simplest anomaly there is: a region that gets brighter by a drawn amount."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.lesion import ANOMALY
from monai_ctmri.transforms.training_anomaly import TrainingAnomaly, plane_of

SIZE = 96


class Brighter(TrainingAnomaly):
    """Add 0.1 to 0.2 inside the drawn shape, at any contrast but 0."""

    kind = "brighter"
    source = "test"

    def _draw_effect(self, profile):
        return self.R.uniform(0.1, 0.2)

    def _changed(self, pictures, drawn):
        return {key: picture + drawn.effects[key] * (drawn.profile > 0.5) for key, picture in pictures.items()}


def head(value: float) -> np.ndarray:
    """A head (1, H, W): flat brain of radius 30, bright skull, air of exactly 0."""
    y, x = np.mgrid[:SIZE, :SIZE]
    radius = np.hypot(y - 47.5, x - 47.5)
    return np.select([radius < 30, radius < 36], [value, 1.0], 0.0).astype(np.float32)[None]


def brain() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return (np.hypot(y - 47.5, x - 47.5) < 30).astype(np.float32)[None]


def case(**entries):
    return {"ct": head(0.4), "mri": head(0.6), "brain": brain(), "subject": "p1", **entries}


def acted(seed: int = 0, data=None, **options):
    transform = Brighter(**{"prob": 1.0, "size_mm": (15.0, 25.0), **options}).set_random_state(seed)
    before = case() if data is None else data
    return before, transform(before)


def change(before, after, key: str = "ct") -> np.ndarray:
    return np.abs(np.asarray(after[key], dtype=float) - np.asarray(before[key]))[0]


def test_mask_is_where_pixels_changed_and_the_amount_is_each_modality_s_own():
    for seed in range(5):
        before, after = acted(seed)
        inside = np.asarray(after["mask"])[0] > 0
        amounts = []
        for key in ("ct", "mri"):
            moved = change(before, after, key)
            np.testing.assert_array_equal(moved > 0, inside)
            amounts.append(moved[inside].mean())
            assert 0.1 - 1e-5 <= amounts[-1] <= 0.2 + 1e-5
        assert abs(amounts[0] - amounts[1]) > 1e-4
        assert after[ANOMALY] == {
            "kind": "brighter",
            "family": "A",
            "source": "test",
            "size_mm": pytest.approx(2 * np.sqrt(inside.sum() / np.pi) * 1.8),
            "contrast": 1.0,
            "change": pytest.approx(max(amounts), rel=1e-4),
            "donor_subject": "",
        }


def test_centre_lies_in_the_brain_and_the_shape_does_not_leave_it():
    small = np.zeros((1, SIZE, SIZE), np.float32)
    small[0, 40:60, 30:50] = 1
    for seed in range(8):
        _, after = acted(seed, case(brain=small), size_mm=(30.0, 40.0))
        assert not np.asarray(after["mask"])[small == 0].any()
        assert np.asarray(after["mask"]).any()


def test_spacing_turns_millimetres_into_pixels():
    sizes = []
    for spacing in (1.0, 2.0):
        wide = case(brain=np.ones((1, SIZE, SIZE), np.float32))
        areas = [
            np.count_nonzero(acted(s, wide, size_mm=(20.0, 20.0), pixel_spacing_mm=spacing)[1]["mask"])
            for s in range(12)
        ]
        sizes.append(max(areas))
    assert sizes[0] == pytest.approx(np.pi * 100, rel=0.05)
    assert sizes[1] == pytest.approx(np.pi * 25, rel=0.08)


def test_result_is_clipped_to_the_unit_range():
    _, after = acted(data=case(ct=head(0.95)))
    assert np.asarray(after["ct"]).max() == 1


def test_meta_of_the_input_reaches_images_and_mask():
    picture = MetaTensor(head(0.4), meta={"filename_or_obj": "a.png"}, affine=3 * torch.eye(4))
    _, after = acted(data=case(ct=picture))
    for key in ("ct", "mask"):
        assert after[key].meta["filename_or_obj"] == "a.png"
        torch.testing.assert_close(after[key].affine, picture.affine)


def test_probability_is_that_of_a_case():
    transform = Brighter(prob=0.3, size_mm=(15.0, 25.0)).set_random_state(0)
    share = np.mean([transform(case())["label"] for _ in range(100)])
    assert share == pytest.approx(0.3, abs=0.15)


def test_missing_modality_is_passed_over_or_refused():
    alone = {key: value for key, value in case().items() if key != "mri"}
    _, after = acted(data=alone)
    assert after["label"] == 1
    assert "mri" not in after
    with pytest.raises(KeyError):
        acted(data=alone, allow_missing_keys=False)


def test_plane_of_a_case():
    np.testing.assert_array_equal(plane_of(case(), "ct"), head(0.4)[0])
    with pytest.raises(InputError, match="p1: ct: has values"):
        plane_of(case(ct=head(0.4) - 0.5), "ct")


def test_unchosen_case_keeps_a_mask_and_label_of_its_own():
    mask = brain()
    after = Brighter(prob=0.0)(case(mask=mask, label=1))
    assert after["label"] == 1
    np.testing.assert_array_equal(np.asarray(after["mask"]), mask)


def test_image_stack_follows_and_blank_modality_stays():
    data = case()
    data["image"] = np.concatenate([data["ct"], data["mri"]])
    _, after = acted(data=data)
    np.testing.assert_array_equal(np.asarray(after["image"]), np.concatenate([after["ct"], after["mri"]]))
    blank = case(mri=np.zeros((1, SIZE, SIZE), np.float32))
    _, after = acted(data=blank)
    assert not np.asarray(after["mri"]).any()
    assert change(blank, after).any()


def test_brain_is_found_where_the_case_has_none():
    data = case()
    del data["brain"]
    before, after = acted(data=data)
    assert (change(before, after)[brain()[0] == 0] < 1e-6).mean() > 0.97
    assert change(before, after).any()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"ct": head(0.4) * 80}, r"p1: ct: has values outside \[0, 1\]"),
        ({"ct": np.full((1, SIZE, SIZE), np.nan, np.float32)}, "outside"),
        ({"ct": head(0.4)[0]}, "one slice of shape"),
        ({"mri": head(0.4)[:, 1:]}, "differ in shape"),
        ({"brain": np.zeros((1, SIZE, SIZE), np.float32)}, "no brain"),
        ({"ct": None, "mri": None}, "holds a picture"),
        ({"image": np.zeros((3, SIZE, SIZE), np.float32)}, "3 channels"),
    ],
)
def test_bad_cases_are_named(entries, message):
    with pytest.raises(InputError, match=message) as caught:
        acted(data=case(**entries))
    assert str(caught.value).startswith("p1")


def test_repeating_before_drawing_is_an_error():
    with pytest.raises(InputError, match="nothing was drawn"):
        Brighter(prob=1.0)(case(), randomize=False)
