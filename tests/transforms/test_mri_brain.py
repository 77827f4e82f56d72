"""The dark ring: drawn heads of any contrast, size and place whose truth is known; the phantom; real slices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.data.anatomy import TISSUES
from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.transforms import BrainMask, LoadSlice, NormalizeMRI, WindowCT
from monai_ctmri.transforms.mri_brain import inside_dark_ring

INTRACRANIAL = [TISSUES.index(name) for name in ("csf", "gm", "wm", "dura", "calcification")]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def head(
    scalp: float = 0.9, fluid: float = 0.9, size: int = 160, bump: float = 0.0, noise: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """MRI (H, W) and the true region: textured brain, sulci of fluid, ventricle, skull with marrow, scalp.

    ``bump`` makes skull and scalp that much thicker on one side, in head radii.
    """
    rows, columns = (np.mgrid[:size, :size] - (size - 1) / 2) / (0.44 * size)
    radius, angle = np.hypot(rows, columns / 0.85), np.arctan2(rows, columns)
    inner = 0.82 - bump * np.clip(np.cos(angle - 1), 0, None) ** 2
    brain = radius < inner
    outer = inner + 0.45 * (1 - inner)
    marrow = (radius > inner + 0.18 * (1 - inner)) & (radius < inner + 0.30 * (1 - inner))
    texture = 0.5 + 0.06 * np.sin(9 * columns) * np.cos(7 * rows)
    texture[(np.sin(14 * angle) > 0.93) & (radius > 0.6)] = fluid
    texture[np.hypot(rows, columns / 0.5) < 0.2] = fluid
    mri = np.select([brain, marrow & (radius < outer), radius < outer, radius < 1], [texture, 0.3, 0.05, scalp], 0.0)
    mri = ndimage.gaussian_filter(mri, size / 320)
    mri = np.abs(mri + noise * np.random.default_rng(0).standard_normal(mri.shape))
    return mri.astype(np.float32), brain


@pytest.mark.parametrize(("scalp", "fluid"), [(0.9, 0.9), (0.9, 0.1), (0.4, 0.9), (0.3, 0.5)])
def test_any_contrast(scalp: float, fluid: float):
    mri, truth = head(scalp, fluid)
    assert dice(inside_dark_ring(mri), truth) > 0.96


@pytest.mark.parametrize("size", [96, 320])
@pytest.mark.parametrize("unit", [1.0, 1800.0])
def test_size_and_unit_do_not_matter(size: int, unit: float):
    mri, truth = head(size=size)
    assert dice(inside_dark_ring(unit * mri), truth) > 0.96


def test_skull_that_is_thicker_on_one_side():
    """Where the inset head fails: frontal sinus, thick vault."""
    mri, truth = head(bump=0.15)
    assert dice(inside_dark_ring(mri), truth) > 0.96
    inset = np.asarray(BrainMask(None)(mri[None]))[0] > 0
    assert dice(inside_dark_ring(mri), truth) > dice(inset, truth) + 0.01


def test_air_that_is_not_black():
    mri, truth = head()
    assert dice(inside_dark_ring(0.85 * mri + 0.12), truth) > 0.95


def test_turned_picture_gives_the_turned_mask():
    mri, _ = head(bump=0.1)
    assert dice(inside_dark_ring(np.rot90(mri).copy()), np.rot90(inside_dark_ring(mri))) > 0.98


def test_picture_that_is_not_square():
    mri, truth = head()
    wide = np.pad(mri, ((0, 0), (40, 10)))
    assert dice(inside_dark_ring(wide), np.pad(truth, ((0, 0), (40, 10)))) > 0.96


@pytest.mark.parametrize(
    "mri",
    [
        np.zeros((64, 64), dtype=np.float32),
        np.ones((64, 64), dtype=np.float32),
        np.random.default_rng(0).random((64, 64)).astype(np.float32),
        (np.hypot(*(np.mgrid[:96, :96] - 47.5)) < 40).astype(np.float32),  # no ring: a disc of one brightness
    ],
)
def test_nothing_where_there_is_no_ring(mri: np.ndarray):
    assert not inside_dark_ring(mri).any()
    assert inside_dark_ring(mri).shape == mri.shape


@pytest.mark.parametrize(("contrast", "least"), [("T1", 0.92), ("T2", 0.97), ("PD", 0.97), ("FLAIR", 0.9)])
def test_phantom(contrast: str, least: float):
    """T1 and FLAIR lose the dark fluid outside the cortex."""
    subject = draw_subject(11, PhantomSettings(size=128, slices=3, contrast=contrast))
    for mri, tissue in zip(subject.mri, subject.tissue, strict=True):
        assert dice(inside_dark_ring(mri), np.isin(tissue, INTRACRANIAL)) > least


def test_real_t2_agrees_with_the_skull_of_the_registered_ct(real_data):
    """The independent truth of a real MRI slice is what bone encloses in its CT."""
    scores: dict[str, list[float]] = {"ring": [], "inset": []}
    for number in (21012, 21014, 21016, 34012, 34014, 34016, 34018, 41016, 41018):  # at brain level
        mri, ct = (LoadSlice()(real_data / "pairs" / name / f"{number}.png") for name in ("mri", "ct"))
        skull = np.asarray(BrainMask()(WindowCT()(ct)))[0] > 0
        for method, found in scores.items():
            mask = np.asarray(BrainMask(None, method=method)(NormalizeMRI()(mri)))[0] > 0
            found.append(dice(mask, skull))
    assert np.mean(scores["ring"]) > 0.9
    assert np.mean(scores["ring"]) > np.mean(scores["inset"])
