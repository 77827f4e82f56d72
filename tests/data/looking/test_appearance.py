"""What a slice looks like: drawn heads, the phantom, and real slices with the rates measured on them, with a margin."""

from __future__ import annotations

import csv
import math
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from monai_ctmri.data.looking.appearance import CUT_OFF_LIMIT, TEXT_LIMIT, Appearance, look_at
from monai_ctmri.data.looking.level import BELOW_BRAIN, BRAIN_FROM, brain_level, inside_skull, intracranial_fraction
from monai_ctmri.data.looking.modality import CT_FROM, MRI_UP_TO, ct_likeness, modality_of, rim_measures
from monai_ctmri.data.looking.outline import Head, brightness, find_head
from monai_ctmri.data.looking.writing import writing_evidence
from monai_ctmri.data.manifest import Manifest

CT_AMONG_MRI = {"mri370", "mri688", "mri1339", "mri1829", "mri2219", "mri2479"}


def depth_of(size, squeeze=0.8):
    """Distance from the centre of an oval that touches 0.7 of half the picture, as a share of its radius."""
    rows, columns = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    return np.hypot(rows, columns / squeeze) / 0.7


def ct_head(size=256, skull=(0.83, 0.97)):
    """Skin grey, skull white, brain grey with darker ventricles, air black; 0 to 255."""
    depth, noise = depth_of(size), np.random.default_rng(0).normal(0, 6, (size, size))
    plane = np.select([depth > 1, depth > skull[1], depth > skull[0], depth < 0.15], [0, 90, 255, 60], 115.0)
    return np.clip(plane + noise * ((plane > 0) & (plane < 255)), 0, 255).astype(np.float32)


def mri_head(size=256, scalp=200.0):
    """Bright scalp, black skull, textured brain."""
    depth, rng = depth_of(size), np.random.default_rng(1)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), size / 60)
    brain = 120 + 35 * texture / texture.std()
    plane = np.select([depth > 1, depth > 0.94, depth > 0.84], [0, scalp, 15], brain)
    return np.clip(plane, 0, 255).astype(np.float32)


def grey(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32)


@cache
def looks_of(folder: Path, pattern: str, step: int) -> dict[str, Appearance]:
    """Looks of every ``step``-th picture, each looked at once for all tests."""
    paths = sorted(folder.glob(pattern))[::step]
    assert len(paths) > 10
    return {f"{path.parent.name}/{path.stem}": look_at(grey(path), windowed=True) for path in paths}


def test_a_bright_ring_is_ct_and_a_dark_one_is_mri():
    ct, mri = look_at(ct_head(), windowed=True), look_at(mri_head(), windowed=True)
    assert (ct.modality, mri.modality) == ("ct", "mri")
    assert ct.ct_likeness > CT_FROM
    assert mri.ct_likeness < MRI_UP_TO


@pytest.mark.parametrize("draw", [ct_head, mri_head])
def test_looks_do_not_depend_on_scale_size_or_side(draw):
    plane = draw()
    reference = look_at(plane, windowed=True)
    variants = {
        "dim": 0.3 * plane,
        "sixteen bit": 257 * plane,
        "unit": plane / 255,
        "mirrored": np.ascontiguousarray(plane[:, ::-1]),
        "upside down": np.ascontiguousarray(plane[::-1]),
        "small": draw(150),
        "large": draw(700),
        "wide": np.pad(plane, ((0, 0), (40, 90))),
    }
    for name, variant in variants.items():
        looks = look_at(variant, windowed=True)
        assert looks.modality == reference.modality, name
        assert looks.ct_likeness == pytest.approx(reference.ct_likeness, abs=0.08), name
        assert looks.cut_off == 0, name
        assert looks.text == 0, name


def test_a_bare_brain_is_not_ct():
    depth = depth_of(256)
    plane = np.where(depth < 0.84, mri_head(), 0).astype(np.float32)
    looks = look_at(plane, windowed=True)
    assert looks.modality != "ct"
    assert math.isnan(looks.intracranial_fraction) or looks.modality is None


def test_a_white_blob_is_neither():
    blob = np.where(depth_of(200) < 1, 255.0, 0.0)
    looks = look_at(blob, windowed=True)
    assert looks.modality is None
    assert looks.ct_likeness == 0.5


def test_the_rim_measures_are_what_was_drawn():
    head = find_head(brightness(ct_head(), windowed=True, modality=None))
    rim, share, gap = rim_measures(head)
    assert 0.08 < rim <= 0.12  # drawn 0.14 of the longer radius, and limited
    assert share > 0.8  # all but the mixed pixels on both sides of the ring
    assert abs(gap) < 0.2
    rim, share, gap = rim_measures(find_head(brightness(mri_head(), windowed=True, modality=None)))
    assert rim < 0.08
    assert gap > 0.7


def test_likeness_parts_into_three():
    assert [modality_of(value) for value in (1.0, CT_FROM, 0.5, MRI_UP_TO, 0.0)] == ["ct", "ct", None, "mri", "mri"]


@pytest.mark.parametrize("skull", [(0.83, 0.97), (0.6, 0.97), (0.45, 0.97)])
def test_the_intracranial_share_is_the_area_inside_the_ring(skull):
    looks = look_at(ct_head(skull=skull), windowed=True, modality="ct")
    assert looks.intracranial_fraction == pytest.approx(skull[0] ** 2, abs=0.05)
    expected = True if skull[0] ** 2 > BRAIN_FROM else False if skull[0] ** 2 < BELOW_BRAIN else None
    assert looks.brain_level is expected


def test_a_small_gap_in_the_skull_does_not_let_the_outside_in():
    plane = ct_head()
    plane[:128, 122:134][plane[:128, 122:134] == 255] = 115
    assert look_at(plane, windowed=True).intracranial_fraction == pytest.approx(0.83**2, abs=0.05)


def test_no_bone_encloses_nothing():
    head = find_head((mri_head() / 400).astype(np.float32))
    dull = Head(0.5 * head.grey, head.mask, head.radius, head.centre)
    assert not inside_skull(dull).any()
    assert intracranial_fraction(dull, "ct") == 0
    assert math.isnan(intracranial_fraction(dull, "mri"))


def test_mri_level_is_only_denied_to_tiny_heads():
    plane = mri_head(100)
    assert look_at(plane, windowed=True).brain_level is None
    tiny = find_head(brightness(np.pad(plane, 150), windowed=True, modality=None))
    assert brain_level(tiny, "mri", math.nan) is False
    assert brain_level(tiny, None, math.nan) is None


def test_hounsfield_units_look_as_their_picture_does():
    picture = ct_head()
    units = np.select([picture == 0, picture == 255], [-1000.0, 1000.0], picture / 255 * 80)
    said, unsaid = look_at(units, windowed=False, modality="ct"), look_at(units, windowed=False)
    drawn = look_at(picture, windowed=True)
    assert said == unsaid
    assert said.modality == "ct"
    assert said.brain_level is True
    assert said.intracranial_fraction == pytest.approx(drawn.intracranial_fraction, abs=0.02)


def test_mri_of_any_intensity_is_mri():
    for scale in (0.01, 1.0, 300.0):
        assert look_at(scale * mri_head(), windowed=False, modality="mri").modality == "mri"


@pytest.mark.parametrize("shape", [(64, 64), (8, 8), (1, 1), (4, 600)])
@pytest.mark.parametrize("value", [0.0, 77.0])
def test_one_value_everywhere_shows_nothing(shape, value):
    assert look_at(np.full(shape, value), windowed=True) == Appearance(None, 0.5, None, 0.0, 0.0, 0.0)
    assert look_at(np.full(shape, value), windowed=False, modality="mri").modality is None


@pytest.mark.parametrize("shape", [(8, 8), (3, 3), (2, 900), (900, 2), (1, 40), (30, 1200), (65, 130)])
def test_odd_shapes_pass_and_stay_in_range(shape):
    rng = np.random.default_rng(5)
    for plane in (rng.random(shape), np.outer(np.hanning(shape[0] + 2)[1:-1], np.hanning(shape[1] + 2)[1:-1])):
        for modality in (None, "ct", "mri"):
            looks = look_at(plane, windowed=False, modality=modality)
            assert 0 <= looks.ct_likeness <= 1
            assert 0 <= looks.cut_off <= 1
            assert 0 <= looks.text <= 1


@pytest.mark.parametrize("shape", [(4, 4, 3), (4,), (0, 5)])
def test_what_is_no_slice_is_refused(shape):
    with pytest.raises(ValueError, match="must be a slice"):
        look_at(np.zeros(shape), windowed=True)


@pytest.mark.parametrize("draw", [ct_head, mri_head])
def test_a_cropped_head_is_cut_off_and_a_tight_crop_is_not(draw):
    plane = draw()
    inside = np.argwhere(plane > 40)
    (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0) + 1
    assert look_at(plane[top:bottom, left:right], windowed=True).cut_off < CUT_OFF_LIMIT / 2
    for share in (0.2, 0.3, 0.5):
        start = round(top + share * (bottom - top))
        assert look_at(plane[start:], windowed=True).cut_off >= CUT_OFF_LIMIT, share
        assert look_at(plane[:, : round(right - share * (right - left))], windowed=True).cut_off >= CUT_OFF_LIMIT, share


@pytest.mark.parametrize("height", [8, 12, 16, 24])
@pytest.mark.parametrize("words", ["12-03-2019", "W 80 L 40"])
@pytest.mark.parametrize("draw", [ct_head, mri_head])
def test_writing_in_a_corner_is_seen(draw, words, height):
    image = Image.fromarray(np.uint8(draw(512)))
    ImageDraw.Draw(image).text((10, 480), words, fill=200, font=ImageFont.load_default(height))
    assert look_at(np.asarray(image, dtype=np.float32), windowed=True).text >= TEXT_LIMIT


def test_a_lone_letter_in_a_corner_is_seen_and_a_dot_or_an_arc_is_not():
    letter, dot, arc = (Image.fromarray(np.uint8(ct_head(512))) for _ in range(3))
    ImageDraw.Draw(letter).text((20, 20), "R", fill=200, font=ImageFont.load_default(30))
    ImageDraw.Draw(dot).ellipse((20, 20, 40, 40), fill=200)
    ImageDraw.Draw(arc).arc((20, 60, 492, 500), 20, 160, fill=255, width=4)
    found = [look_at(np.asarray(image, dtype=np.float32), windowed=True).text for image in (letter, dot, arc)]
    assert found[0] >= TEXT_LIMIT > max(found[1:])


def test_writing_inside_the_head_or_without_one_is_not_looked_for():
    image = Image.fromarray(np.uint8(ct_head(512)))
    ImageDraw.Draw(image).text((230, 250), "12-03-2019", fill=255, font=ImageFont.load_default(12))
    assert look_at(np.asarray(image, dtype=np.float32), windowed=True).text == 0
    assert writing_evidence(np.eye(64, dtype=np.float32), None) == 0


def test_longer_writing_is_stronger_evidence():
    found = []
    for words in ("", "80", "W 80", "W 80 L 40 12-03-2019"):
        image = Image.fromarray(np.uint8(mri_head(512)))
        ImageDraw.Draw(image).text((10, 480), words, fill=200, font=ImageFont.load_default(16))
        found.append(look_at(np.asarray(image, dtype=np.float32), windowed=True).text)
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] > 0.9


def test_the_phantom_looks_like_what_it_is(phantom_manifest):
    cases = list(Manifest.read(phantom_manifest))
    ct = [look_at(grey(case.ct), windowed=True) for case in cases]
    mri = [look_at(grey(case.mri), windowed=True) for case in cases]
    # 64 pixels: the skull is one or two of them thick, and half of the slices stay undecided.
    assert sum(looks.modality == "ct" for looks in ct) >= 0.35 * len(ct)
    assert not any(looks.modality == "mri" for looks in ct)
    assert not any(looks.modality == "ct" for looks in mri)
    assert all(looks.cut_off < CUT_OFF_LIMIT and looks.text < TEXT_LIMIT for looks in ct + mri)
    assert not any(looks.brain_level is False for looks in ct + mri)


def test_real_ct_is_never_called_mri(real_data):
    images = real_data / "kaggle_sample" / "Dataset" / "images"
    for folder, pattern, decided in (
        (images / "testA", "*.png", 0.8),
        (real_data / "ct_hemorrhage", "*/*.png", 0.8),
        (real_data / "pairs" / "ct", "*.png", 0.95),
    ):
        looks = list(looks_of(folder, pattern, 3).values())
        assert not any(look.modality == "mri" for look in looks), folder
        assert sum(look.modality == "ct" for look in looks) >= decided * len(looks), folder


def test_real_mri_is_never_called_ct(real_data):
    for folder, pattern, step in (
        (real_data / "lgg_flair", "*/*_flair.png", 12),
        (real_data / "pairs" / "mri", "*.png", 3),
    ):
        looks = list(looks_of(folder, pattern, step).values())
        assert not any(look.modality == "ct" for look in looks), folder
        assert sum(look.modality == "mri" for look in looks) >= 0.4 * len(looks), folder


def test_the_ct_slices_among_the_mri_files_are_found_and_nothing_else(real_data):
    looks = looks_of(real_data / "kaggle_sample" / "Dataset" / "images", "testB/*.jpg", 1)
    called = {name.split("/")[1] for name, look in looks.items() if look.modality == "ct"}
    assert called == CT_AMONG_MRI & {name.split("/")[1] for name in looks}
    for path in (real_data / "kaggle_sample" / "Dataset" / "images" / "trainB").iterdir():
        if path.stem in CT_AMONG_MRI:
            assert look_at(grey(path), windowed=True).modality == "ct", path.stem


def test_the_intracranial_share_agrees_with_the_reference(real_data):
    with open(real_data / "kaggle_sample" / "ct_slice_level.csv", newline="", encoding="utf-8") as stream:
        reference = {Path(row["file"]).stem: float(row["intracranial_fraction"]) for row in csv.DictReader(stream)}
    folder, pairs = real_data / "kaggle_sample" / "Dataset" / "images" / "testA", []
    for path in sorted(folder.iterdir())[::2]:
        pairs.append((reference[path.stem], look_at(grey(path), windowed=True, modality="ct").intracranial_fraction))
    a, b = np.array(pairs).T
    kept = a > 0.03  # below, the reference's region has leaked or there is none
    assert np.corrcoef(a[kept], b[kept])[0, 1] > 0.95
    assert np.mean((a[kept] >= BRAIN_FROM) == (b[kept] >= BRAIN_FROM)) > 0.94


def test_few_real_slices_are_denied_brain_level_cut_off_or_written_on(real_data):
    pairs = list(looks_of(real_data / "pairs" / "mri", "*.png", 3).values())
    flair = list(looks_of(real_data / "lgg_flair", "*/*_flair.png", 12).values())
    blood = list(looks_of(real_data / "ct_hemorrhage", "*/*.png", 3).values())
    assert not any(look.brain_level is False or look.cut_off >= CUT_OFF_LIMIT for look in pairs)
    assert sum(look.brain_level is False for look in flair) <= 0.05 * len(flair)
    assert sum(look.brain_level is False for look in blood) <= 0.06 * len(blood)
    assert sum(look.cut_off >= CUT_OFF_LIMIT for look in flair) <= 0.03 * len(flair)
    assert sum(look.text >= TEXT_LIMIT for look in flair + pairs) <= 0.02 * len(flair + pairs)


def test_a_slice_takes_milliseconds():
    plane = ct_head(512)
    look_at(plane, windowed=True)
    times = []
    for _ in range(5):
        start = time.process_time()
        look_at(plane, windowed=True)
        times.append(time.process_time() - start)
    assert min(times) < 0.06  # about 10 ms on one idle core; room for a slow one


def test_likeness_needs_no_more_than_the_head():
    head = find_head(brightness(ct_head(), windowed=True, modality=None))
    assert look_at(ct_head(), windowed=True).ct_likeness == ct_likeness(head)
