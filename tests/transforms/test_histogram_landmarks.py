"""Nyul normalisation against numpy.interp and against what it is for: gains that fall away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from monai.data import MetaTensor

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.histogram_landmarks import DECILES, HistogramLandmarks, NyulNormalize, NyulNormalized


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    subjects = [draw_subject(seed, PhantomSettings(size=64, slices=3, contrast="T2")) for seed in (301, 302, 303, 304)]
    return [each.mri[1][None] for each in subjects]


@pytest.fixture(scope="module")
def masks(images: list[np.ndarray]) -> list[np.ndarray]:
    return [image > 0.15 for image in images]


@pytest.fixture(scope="module")
def fitted(images: list[np.ndarray], masks: list[np.ndarray]) -> NyulNormalize:
    return NyulNormalize().fit(images, masks)


def test_landmarks_are_the_mean_of_the_mapped_percentiles(fitted, images, masks):
    rows = [np.percentile(image[mask], DECILES) for image, mask in zip(images, masks, strict=True)]
    expected = np.mean([np.interp(row, [row[0], row[-1]], [0, 1]) for row in rows], axis=0)
    np.testing.assert_allclose(fitted.landmarks_.values, expected, atol=1e-6)
    assert fitted.landmarks_.images == 4


def test_same_as_interp_between_the_ends(fitted, images, masks):
    image, mask = images[0], masks[0]
    row = np.percentile(image[mask], DECILES)
    within = (image >= row[0]) & (image <= row[-1])
    expected = np.interp(image, row, fitted.landmarks_.values)
    np.testing.assert_allclose(np.asarray(fitted(image, mask))[within], expected[within], atol=1e-5)


def test_end_pieces_go_on_beyond_the_ends():
    landmarks = HistogramLandmarks((20.0, 50.0, 80.0), (0.2, 0.5, 0.6), 1)
    image = np.arange(11.0)[None, None]  # percentiles 20, 50, 80 are 2, 5, 8
    out = np.asarray(NyulNormalize(landmarks)(image, np.ones_like(image)))[0, 0]
    np.testing.assert_allclose(out, [0, 0.1, 0.2, 0.3, 0.4, 0.5, *(0.5 + np.arange(1, 6) / 30)], atol=1e-6)


def test_clipped_to_one():
    landmarks = HistogramLandmarks((0.0, 50.0), (0.0, 0.9), 1)
    out = np.asarray(NyulNormalize(landmarks)(np.arange(11.0)[None, None], np.ones((1, 1, 11))))
    assert out.max() == 1.0


@pytest.mark.parametrize(("gain", "offset"), [(0.01, 0), (37.0, 0), (4.0, 12.0)])
def test_gain_and_offset_fall_away(fitted, images, masks, gain: float, offset: float):
    for image, mask in zip(images, masks, strict=True):
        np.testing.assert_allclose(fitted(gain * image + offset, mask), fitted(image, mask), atol=2e-4)


def test_landmarks_coincide_after_it_and_not_before(fitted, images, masks):
    gains = (0.5, 1.0, 3.0, 8.0)
    before = [np.percentile(g * i[m], DECILES) for g, i, m in zip(gains, images, masks, strict=True)]
    after = [
        np.percentile(np.asarray(fitted(g * i, m))[m], DECILES) for g, i, m in zip(gains, images, masks, strict=True)
    ]
    assert np.ptp(np.array(before)[:, 5]) > 1
    np.testing.assert_allclose(after, np.tile(fitted.landmarks_.values, (4, 1)), atol=0.01)


def test_a_nonlinear_scanner_is_undone(images, masks, fitted):
    """Any monotone curve keeps the deciles' order, so what lies at a decile goes where it belongs."""
    curved = np.sqrt(images[0])
    np.testing.assert_allclose(np.asarray(fitted(curved, masks[0])), np.asarray(fitted(images[0], masks[0])), atol=0.08)


def test_monotone(fitted, images, masks):
    out = np.asarray(fitted(images[1], masks[1])).ravel()[np.argsort(images[1].ravel(), kind="stable")]
    assert (np.diff(out) >= -1e-6).all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_few_grey_levels(fitted):
    """Percentiles that coincide become one landmark; the map stays finite and monotone."""
    image = np.repeat([1.0, 2.0, 3.0], 30)[None, None]
    out = np.asarray(fitted(image, np.ones_like(image)))[0, 0]
    assert np.isfinite(out).all()
    assert out[0] < out[40] < out[-1]


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_gives_zeros(fitted, value: float):
    assert not np.asarray(fitted(np.full((1, 8, 8), value), np.ones((1, 8, 8)))).any()


def test_head_is_the_foreground_without_a_mask(images):
    fitted = NyulNormalize().fit(images)
    np.testing.assert_allclose(fitted(5 * images[0]), fitted(images[0]), atol=2e-4)


def test_saved_and_loaded(fitted, images, masks, tmp_path: Path):
    path = tmp_path / "landmarks.json"
    fitted.save(path)
    assert json.loads(path.read_text())["schema"] == 1
    for again in (NyulNormalize(path), NyulNormalize(str(path)), NyulNormalize(HistogramLandmarks.load(path))):
        np.testing.assert_array_equal(again(images[0], masks[0]), fitted(images[0], masks[0]))
        assert again.landmarks_ == fitted.landmarks_


GOOD = {"kind": "histogram landmarks", "schema": 1, "images": 2, "percentiles": [1, 50, 99], "values": [0, 0.4, 1]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": 2}, "schema"),
        ({"kind": "other"}, "no histogram landmarks"),
        ({"values": [0, 1]}, "impossible"),
        ({"values": [0, 0.4, 0.4]}, "impossible"),
        ({"values": [0, float("nan"), 1]}, "impossible"),
        ({"percentiles": [1, 50, 101]}, "impossible"),
        ({"percentiles": None}, "impossible"),
    ],
)
def test_bad_file_is_one_line(tmp_path: Path, change: dict, problem: str):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(InputError, match=problem) as caught:
        NyulNormalize(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no json", "[1]"])
def test_no_landmarks_file(tmp_path: Path, content: str | None):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"x\.json"):
        HistogramLandmarks.load(path)


def test_not_fitted(images):
    with pytest.raises(InputError, match="fit"):
        NyulNormalize()(images[0])
    with pytest.raises(InputError, match="fit"):
        NyulNormalize().save("never.json")


def test_fit_refuses_what_teaches_nothing(images):
    with pytest.raises(InputError, match="none"):
        NyulNormalize().fit([])
    with pytest.raises(InputError, match="image 1"):
        NyulNormalize().fit([images[0], np.zeros((1, 8, 8))])


@pytest.mark.parametrize("percentiles", [(50,), (50, 40), (0, 101)])
def test_percentiles_out_of_range(percentiles):
    with pytest.raises(ValueError, match="percentiles"):
        NyulNormalize(percentiles=percentiles)


def test_dictionary(fitted, images, masks):
    case = {"mri": MetaTensor(images[0], meta={"windowed": False}), "brain": masks[0], "ct": images[1]}
    out = NyulNormalized(landmarks=fitted.landmarks_)(case)
    np.testing.assert_array_equal(out["mri"], fitted(images[0], masks[0]))
    assert out["mri"].meta["windowed"] is False
    assert out["ct"] is images[1]
