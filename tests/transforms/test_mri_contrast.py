"""Guessing the contrast: phantom slices whose contrast is known, blindness to scale, doubt where nothing shows."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from monai.data import MetaTensor

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.transforms.loading import LoadSlice
from monai_ctmri.transforms.mri_contrast import (
    MRI_CONTRAST,
    MRI_CONTRAST_CONFIDENCE,
    GuessContrast,
    GuessContrastd,
    contrast_features,
    guess_contrast,
)

CONTRASTS = ("T1", "T2", "PD", "FLAIR")


@cache
def slices(contrast: str) -> tuple[np.ndarray, ...]:
    """Slices at the level of the ventricles of three subjects, each (1, 128, 128)."""
    planes = []
    for seed in (201, 202, 203):
        subject = draw_subject(seed, PhantomSettings(size=128, slices=9, contrast=contrast))
        planes += [subject.mri[k][None] for k in (3, 4, 5)]
    return tuple(planes)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_no_other_contrast_is_named_oftener(contrast: str):
    count = Counter(guess_contrast(image)[0] for image in slices(contrast))
    others = sum(count[other] for other in CONTRASTS if other != contrast)
    assert count[contrast] > 2 * others, count


@pytest.mark.parametrize("contrast", ["T2", "PD"])
def test_where_csf_settles_it_most_are_right(contrast: str):
    count = Counter(guess_contrast(image)[0] for image in slices(contrast))
    assert count[contrast] >= 7, count


def test_features_follow_the_physics():
    mean = {}
    for contrast in CONTRASTS:
        measured = [contrast_features(image) for image in slices(contrast)]
        mean[contrast] = {name: np.mean([each[name] for each in measured]) for name in measured[0]}
    assert mean["FLAIR"]["darkest"] < mean["T1"]["darkest"] < mean["T2"]["darkest"] < mean["PD"]["darkest"]
    assert max(CONTRASTS, key=lambda name: mean[name]["brightest"]) == "T2"
    assert min(CONTRASTS, key=lambda name: mean[name]["spread"]) == "PD"
    assert max(CONTRASTS, key=lambda name: mean[name]["order"]) == "T1"
    assert max(CONTRASTS, key=lambda name: mean[name]["scalp"]) == "T1"


@pytest.mark.parametrize("scale", [1e-3, 4095.0])
def test_scale_does_not_matter(scale: float):
    label, confidence = guess_contrast(slices("T2")[0])
    scaled = guess_contrast(scale * slices("T2")[0])
    assert scaled[0] == label
    assert scaled[1] == pytest.approx(confidence, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_an_empty_slice_is_unknown(value: float):
    assert guess_contrast(np.full((1, 64, 64), value, dtype=np.float32)) == ("unknown", 0.0)


def test_a_flat_disk_is_not_a_contrast_with_confidence():
    rows, columns = np.mgrid[:96, :96]
    disk = (np.hypot(rows - 48, columns - 48) < 40).astype(np.float32)[None]
    _, confidence = guess_contrast(disk)
    assert confidence < 0.9


def test_a_given_brain_is_used():
    image = slices("T1")[0]
    rows, columns = np.mgrid[:128, :128]
    small = (np.hypot(rows - 64, columns - 64) < 12)[None]
    assert contrast_features(image, small) != contrast_features(image)
    assert contrast_features(image, np.zeros_like(small)) == {}
    with pytest.raises(ValueError, match="shape"):
        contrast_features(image, small[:, :64])


def test_volume_is_refused():
    with pytest.raises(ValueError, match="shape"):
        guess_contrast(np.zeros((1, 8, 8, 8)))


def test_array_and_dictionary_note_the_same():
    image = slices("T2")[1]
    label, confidence = guess_contrast(image)
    out = GuessContrast()(MetaTensor(image, meta={"filename_or_obj": "a.png"}))
    assert (out.meta[MRI_CONTRAST], out.meta[MRI_CONTRAST_CONFIDENCE]) == (label, confidence)
    case = GuessContrastd()({"mri": image, "ct": image})
    assert (case[MRI_CONTRAST], case[MRI_CONTRAST_CONFIDENCE]) == (label, confidence)
    assert case["mri"].meta[MRI_CONTRAST] == label
    np.testing.assert_array_equal(case["mri"], image)
    assert case["ct"] is image


def test_missing_key_writes_nothing():
    assert GuessContrastd(allow_missing_keys=True)({"ct": 1}) == {"ct": 1}


def test_real_t2_slices(real_data):
    files = sorted((real_data / "pairs" / "mri").glob("*01[0-3].png"))
    count = Counter(guess_contrast(LoadSlice()(path))[0] for path in files)
    assert count["T2"] > len(files) / 2, count
    assert count["T1"] + count["PD"] + count["FLAIR"] <= 1, count
