"""Head and brain masks: drawn heads whose truth is known, and real pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.transforms import BrainMask, BrainMaskd, HeadMask, HeadMaskd, LoadSlice, NormalizeMRI, WindowCT

Y, X = np.mgrid[:128, :128]
R = np.hypot((Y - 63.5) / 56, (X - 63.5) / 46)


def head(gap_degrees: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """CT (1, 128, 128) and the true intracranial region; the skull is open over ``gap_degrees`` at the front."""
    brain, skull, scalp = R < 0.84, (R >= 0.84) & (R < 0.94), (R >= 0.94) & (R < 1)
    front = np.abs(np.rad2deg(np.arctan2(X - 63.5, 63.5 - Y))) < gap_degrees / 2
    ct = np.select([brain, skull & ~front, skull | scalp], [0.42, 1.0, 0.35], 0.0)
    ct[60:66, 50:78] = np.where(brain[60:66, 50:78], 0.05, ct[60:66, 50:78])  # ventricle
    return ct[None].astype(np.float32), brain


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def as_bool(mask: object) -> np.ndarray:
    values = np.asarray(mask)
    assert values.shape[0] == 1
    assert set(np.unique(values)) <= {0.0, 1.0}
    return values[0] > 0


# -------------------------------------------------------------------------------------------------------------- head


def test_head_is_the_filled_ellipse():
    np.testing.assert_array_equal(as_bool(HeadMask()(head()[0])), R < 1)


def test_head_ignores_table_and_fills_holes():
    ct, _ = head()
    ct[0, 124:126, 10:118] = 1.0  # table
    ct[0, 2, 2] = 0.9
    ct[0, 70:80, 60:70] = 0.0  # air inside
    np.testing.assert_array_equal(as_bool(HeadMask()(ct)), R < 1)


def test_head_is_the_union_of_channels():
    left, right = (np.where(side, head()[0], 0) for side in (X < 70, X >= 60))
    np.testing.assert_array_equal(as_bool(HeadMask()(np.concatenate([left, right]))), R < 1)


@pytest.mark.parametrize("erode", [1, 4])
def test_head_erosion_is_scipys(erode: int):
    expected = ndimage.binary_erosion(R < 1, iterations=erode)
    np.testing.assert_array_equal(as_bool(HeadMask(erode=erode)(head()[0])), expected)


def test_head_threshold():
    image = np.zeros((1, 9, 9), dtype=np.float32)
    image[0, 2:7, 2:7], image[0, 3:6, 3:6] = 0.2, 0.5
    assert as_bool(HeadMask(0.1)(image)).sum() == 25
    assert as_bool(HeadMask(0.3)(image)).sum() == 9


def test_blank_gives_an_empty_mask():
    blank = np.zeros((2, 16, 16), dtype=np.float32)
    assert not as_bool(HeadMask(erode=2)(blank)).any()
    assert not as_bool(BrainMask()(blank)).any()


@pytest.mark.parametrize(("options", "word"), [({"threshold": 1.0}, "threshold"), ({"erode": -1}, "erode")])
def test_head_arguments(options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        HeadMask(**options)


# ------------------------------------------------------------------------------------------------------------- brain


def test_brain_inside_a_closed_skull_is_exact():
    ct, brain = head()
    np.testing.assert_array_equal(as_bool(BrainMask()(ct)), brain)


@pytest.mark.parametrize("gap_degrees", [4, 10, 25])
def test_brain_with_an_open_skull(gap_degrees: float):
    """Sutures and orbits open the ring; the region must not leak into the scalp by more than the gap's corner."""
    ct, brain = head(gap_degrees)
    assert dice(as_bool(BrainMask()(ct)), brain) > 0.98


def test_calcification_and_dense_blood_belong_to_the_brain():
    ct, brain = head()
    ct[0, 80:86, 70:78] = 1.0
    np.testing.assert_array_equal(as_bool(BrainMask()(ct)), brain)


def test_ct_channel_is_the_one_asked_for():
    ct, brain = head()
    mri = np.where(R < 1, 0.6, 0).astype(np.float32)[None]
    np.testing.assert_array_equal(as_bool(BrainMask(ct_channel=1)(np.concatenate([mri, ct]))), brain)


@pytest.mark.parametrize("ct_channel", [0, None])
def test_without_ct_the_head_is_eroded_by_a_share_of_its_radius(ct_channel: int | None):
    disc = np.hypot(Y - 63.5, X - 63.5) < 50
    mask = as_bool(BrainMask(ct_channel)(np.where(disc, 0.6, 0).astype(np.float32)[None]))
    assert mask.sum() / disc.sum() == pytest.approx(0.85**2, abs=0.02)  # a disc of radius r - 0.15 r
    assert not (mask & ~disc).any()


def test_empty_ct_falls_back_to_the_other_channel():
    mri = np.where(R < 1, 0.6, 0).astype(np.float32)[None]
    alone = as_bool(BrainMask(None)(mri))
    np.testing.assert_array_equal(as_bool(BrainMask()(np.concatenate([np.zeros_like(mri), mri]))), alone)


def test_size_of_a_pixel_does_not_matter():
    ct, brain = head(10)
    large = np.kron(ct, np.ones((1, 3, 3), dtype=np.float32))
    assert dice(as_bool(BrainMask()(large)), np.kron(brain, np.ones((3, 3))) > 0) > 0.98


def test_head_cut_by_the_edge_of_the_picture():
    ct, brain = head()
    cut = ct[:, 20:, 24:]
    mask = as_bool(BrainMask()(cut))
    assert mask.any()
    assert mask[brain[20:, 24:]].mean() > 0.5


def test_brain_threshold_is_checked():
    with pytest.raises(ValueError, match="threshold"):
        BrainMask(threshold=-0.1)


# ------------------------------------------------------------------------------------------------------ dictionaries


@pytest.mark.parametrize(
    ("transform", "array", "output"), [(HeadMaskd, HeadMask, "head"), (BrainMaskd, BrainMask, "brain")]
)
def test_dictionary(transform: type, array: type, output: str):
    ct, _ = head()
    out = transform()({"image": ct, "subject": "a"})
    np.testing.assert_array_equal(out[output], array()(ct))
    assert out["image"] is ct


@pytest.mark.parametrize("transform", [HeadMaskd, BrainMaskd])
def test_one_output_a_key(transform: type):
    ct, _ = head()
    out = transform(("a", "b"), ("mask_a", "mask_b"), allow_missing_keys=True)({"b": ct})
    assert "mask_a" not in out
    assert out["mask_b"].shape == (1, 128, 128)
    with pytest.raises(ValueError, match="output_key"):
        transform(("a", "b"))


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize("number", range(16009, 16017))
def test_real_pairs(real_data, number: int):
    pairs = real_data / "pairs"
    ct = np.asarray(WindowCT()(LoadSlice()(pairs / "ct" / f"{number}.png")))
    mri = np.asarray(NormalizeMRI()(LoadSlice()(pairs / "mri" / f"{number}.png")))
    image = np.concatenate([ct, mri])
    whole = as_bool(HeadMask()(image))
    masks = {"both": BrainMask()(image), "ct": BrainMask()(ct), "mri": BrainMask(None)(mri)}
    for name, mask in masks.items():
        share = as_bool(mask).sum() / whole.sum()
        assert 0.2 < share < 0.8, name
        assert whole[as_bool(mask)].mean() > 0.99, name
    inside = ct[0][as_bool(masks["both"])]
    assert (inside >= 0.99).mean() < 0.01  # no skull
    assert (inside > 0.1).mean() > 0.9  # no air
    assert dice(as_bool(masks["both"]), as_bool(masks["ct"])) > 0.97
