"""Residual maps against formulas and scikit-image; map scores against hand-computed masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage
from skimage.metrics import structural_similarity

from monai_ctmri.transforms import MapScore, ResidualMap, ResidualMapd


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.random((2, 40, 48)), (0, 2, 2)).astype(np.float32)
    image = (image - image.min()) / (image.max() - image.min())
    return image, np.clip(image + rng.normal(0, 0.1, image.shape), 0, 1).astype(np.float32)


# --------------------------------------------------------------------------------------------------------------- map


def test_l1_and_l2(pair: tuple[np.ndarray, np.ndarray]):
    image, pred = pair
    np.testing.assert_allclose(ResidualMap("l1")(image, pred), np.abs(image - pred), atol=1e-7)
    np.testing.assert_allclose(ResidualMap("l2")(image, pred), (image - pred) ** 2, atol=1e-7)


def test_ssim_is_that_of_scikit_image(pair: tuple[np.ndarray, np.ndarray]):
    image, pred = (each.astype(np.float64) for each in pair)
    expected = np.zeros_like(image)
    for channel in range(2):
        for window in (7, 11):
            _, local = structural_similarity(
                image[channel],
                pred[channel],
                full=True,
                gaussian_weights=True,
                sigma=1.5 * window / 11,
                truncate=(window // 2) / (1.5 * window / 11),  # so that scikit-image takes the same window
                use_sample_covariance=False,
                data_range=1.0,
            )
            expected[channel] += (1 - local) / 4
    np.testing.assert_allclose(ResidualMap("ssim")(*pair), expected, atol=1e-4)  # single precision


@pytest.mark.parametrize("kind", ["l1", "l2", "ssim"])
def test_properties(pair: tuple[np.ndarray, np.ndarray], kind: str):
    image, pred = pair
    made = ResidualMap(kind)
    out = made(image, pred).numpy()
    assert out.shape == image.shape
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 1
    np.testing.assert_allclose(made(pred, image), out, atol=1e-6)
    np.testing.assert_allclose(made(image, image), 0, atol=1e-6)
    np.testing.assert_allclose(made(image[1:], pred[1:]), out[1:], atol=1e-6)


@pytest.mark.parametrize("kind", ["l1", "l2", "ssim"])
def test_a_lesion_stands_out(kind: str):
    pred = np.full((1, 64, 64), 0.4, dtype=np.float32) + 0.05 * np.sin(np.arange(64) / 3).astype(np.float32)
    image = pred.copy()
    image[0, 20:30, 30:40] += 0.3
    out = ResidualMap(kind)(image, pred).numpy()[0]
    far = np.ones_like(out, dtype=bool)
    far[14:36, 24:46] = False
    assert out[20:30, 30:40].max() > 100 * max(out[far].max(), 1e-7)


def test_ssim_sees_lost_texture_of_equal_mean():
    """A smooth reconstruction of texture: l1 is small, ssim near its value for unrelated signals (1 / 2)."""
    texture = np.random.default_rng(0).normal(0.5, 0.05, (1, 64, 64)).astype(np.float32)
    smooth = np.full_like(texture, 0.5)
    assert float(ResidualMap("l1")(texture, smooth).mean()) < 0.05
    assert float(ResidualMap("ssim")(texture, smooth).mean()) > 0.25


def test_ssim_of_an_image_smaller_than_its_window():
    image = np.random.default_rng(0).random((1, 4, 5)).astype(np.float32)
    out = ResidualMap("ssim")(image, image[:, ::-1].copy())
    assert out.shape == (1, 4, 5)
    assert torch.isfinite(out).all()


def test_meta_is_that_of_the_image(pair: tuple[np.ndarray, np.ndarray]):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.tensor(pair[0]), affine=affine, meta={"filename_or_obj": "image.png"})
    out = ResidualMap()(image, MetaTensor(torch.tensor(pair[1]), meta={"filename_or_obj": "pred"}))
    np.testing.assert_array_equal(out.affine, affine)
    assert out.meta["filename_or_obj"] == "image.png"


def test_gradient_is_not_carried(pair: tuple[np.ndarray, np.ndarray]):
    assert not ResidualMap()(pair[0], torch.tensor(pair[1], requires_grad=True)).requires_grad


def test_map_errors(pair: tuple[np.ndarray, np.ndarray]):
    with pytest.raises(ValueError, match="l1, l2, ssim"):
        ResidualMap("l3")
    with pytest.raises(ValueError, match="one shape"):
        ResidualMap()(pair[0], pair[1][:1])


def test_dictionary(pair: tuple[np.ndarray, np.ndarray]):
    image, pred = pair
    out = ResidualMapd(kind="l2")({"image": image, "pred": pred})
    np.testing.assert_array_equal(out["anomaly_map"], ResidualMap("l2")(image, pred))
    assert out["image"] is image


def test_dictionary_with_two_keys(pair: tuple[np.ndarray, np.ndarray]):
    image, pred = pair
    made = ResidualMapd(("ct", "mri"), ("ct_pred", "mri_pred"), ("ct_map", "mri_map"), allow_missing_keys=True)
    out = made({"mri": image, "mri_pred": pred})
    assert "ct_map" not in out
    np.testing.assert_array_equal(out["mri_map"], ResidualMap()(image, pred))
    with pytest.raises(ValueError, match="2 keys"):
        ResidualMapd(("ct", "mri"))


# ----------------------------------------------------------------------------------------- several scales, 3 dimensions


def volumes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    image = ndimage.gaussian_filter(rng.random((1, 16, 18, 14)), (0, 1.5, 1.5, 1.5)).astype(np.float32)
    return image, np.clip(image + rng.normal(0, 0.05, image.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_formulas_hold_in_three_dimensions(kind: str):
    image, pred = volumes()
    expected = np.abs(image - pred) ** (2 if kind == "l2" else 1)
    np.testing.assert_allclose(ResidualMap(kind)(image, pred), expected, atol=1e-7)


def test_ssim_in_three_dimensions_is_that_of_scikit_image():
    image, pred = (each[0].astype(np.float64) for each in volumes())
    expected = np.zeros_like(image)
    for window in (7, 11):
        _, local = structural_similarity(
            image,
            pred,
            full=True,
            gaussian_weights=True,
            sigma=1.5 * window / 11,
            truncate=(window // 2) / (1.5 * window / 11),
            use_sample_covariance=False,
            data_range=1.0,
        )
        expected += (1 - local) / 4
    np.testing.assert_allclose(ResidualMap("ssim")(*volumes())[0], expected, atol=3e-4)  # single precision


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("scale", [2, 4])
def test_coarse_l1_is_the_difference_of_block_means(dims: int, scale: int):
    rng = np.random.default_rng(2)
    image, pred = rng.random((2, 1, *(16,) * dims)).astype(np.float32)
    split = [part for _ in range(dims) for part in (16 // scale, scale)]
    blocks = image[0].reshape(split).mean(axis=tuple(range(1, 2 * dims, 2)))
    others = pred[0].reshape(split).mean(axis=tuple(range(1, 2 * dims, 2)))
    coarse = np.abs(blocks - others)
    centres = (np.arange(16) + 0.5) / scale - 0.5  # of the voxels, in blocks
    expected = ndimage.map_coordinates(coarse, np.meshgrid(*[centres] * dims, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(ResidualMap("l1", scales=(scale,))(image, pred)[0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["l1", "l2", "ssim"])
@pytest.mark.parametrize("shape", [(1, 37, 45), (1, 13, 17, 11)])
def test_scales_are_joined_voxel_by_voxel(kind: str, shape: tuple[int, ...]):
    image, pred = np.random.default_rng(3).random((2, *shape)).astype(np.float32)
    single = [ResidualMap(kind, scales=(scale,))(image, pred).numpy() for scale in (1, 2, 4)]
    for join, rule in (("mean", np.mean), ("max", np.max)):
        joined = ResidualMap(kind, scales=(1, 2, 4), join=join)(image, pred).numpy()
        assert joined.shape == shape
        np.testing.assert_allclose(joined, rule(single, axis=0), atol=1e-6)
    np.testing.assert_array_equal(single[0], ResidualMap(kind)(image, pred))
    np.testing.assert_allclose(ResidualMap(kind, scales=(1, 2, 4))(image, image), 0, atol=1e-6)


def test_coarse_scales_find_a_faint_large_lesion_in_noise():
    rng = np.random.default_rng(4)
    pred = np.full((1, 128, 128), 0.5, dtype=np.float32)
    image = (pred + 0.1 * rng.standard_normal(pred.shape)).astype(np.float32)
    lesion = np.hypot(*(np.mgrid[:128, :128] - 63.5)) < 16
    image[0][lesion] += 0.1

    def contrast(scales: tuple[int, ...]) -> float:
        out = ResidualMap("l1", scales=scales)(image, pred).numpy()[0]
        return (out[lesion].mean() - out[~lesion].mean()) / out[~lesion].std()

    assert contrast((8,)) > 3 * contrast((1,))


def test_a_lesion_stays_at_its_place_at_every_scale():
    pred = np.zeros((1, 64, 64), dtype=np.float32)
    image = pred.copy()
    image[0, 24:32, 40:48] = 1
    for scale in (1, 2, 4, 8):
        out = ResidualMap("l1", scales=(scale,))(image, pred).numpy()[0]
        np.testing.assert_allclose(ndimage.center_of_mass(out), (27.5, 43.5), atol=1e-3)


@pytest.mark.parametrize("options", [{"scales": ()}, {"scales": (0,)}, {"scales": (1.5,)}, {"join": "sum"}])
def test_scale_arguments(options: dict):
    with pytest.raises(ValueError, match=r"scales|join"):
        ResidualMap(**options)


def test_dictionary_passes_scales_on(pair: tuple[np.ndarray, np.ndarray]):
    image, pred = pair
    out = ResidualMapd(scales=(2, 4), join="max")({"image": image, "pred": pred})
    np.testing.assert_array_equal(out["anomaly_map"], ResidualMap(scales=(2, 4), join="max")(image, pred))


# ------------------------------------------------------------------------------------------------------------- score


def test_score_by_hand():
    values = np.arange(100.0).reshape(10, 10)
    mask = np.zeros((10, 10))
    mask[1:9, 1:9] = 1
    score = MapScore(top_fraction=0.125, erode=2, median=1)(values, mask)
    assert score["mean"] == pytest.approx(49.5)
    assert score["top"] == pytest.approx((66 + 65) / 2)  # the eroded mask is [3:7, 3:7], 16 pixels, its top 2


def test_top_is_the_median_filtered_one():
    rng = np.random.default_rng(0)
    values, mask = rng.random((50, 50)), np.zeros((50, 50))
    mask[5:45, 8:40] = 1
    smooth = ndimage.median_filter(values, 5)[ndimage.binary_erosion(mask > 0, iterations=5)]
    count = int(np.ceil(0.01 * smooth.size))
    assert MapScore()(values, mask)["top"] == pytest.approx(np.sort(smooth)[-count:].mean())


def test_single_pixels_and_the_rim_do_not_reach_top():
    mask = np.zeros((40, 40))
    mask[5:35, 5:35] = 1
    values = np.zeros((40, 40))
    values[20, 20] = 1.0
    values[5:9, 5:35] = 1.0
    score = MapScore()(values, mask)
    assert score["top"] == 0.0
    assert score["mean"] == pytest.approx((1 + 4 * 30) / 900)
    values[15:22, 15:22] = 0.8
    assert MapScore()(values, mask)["top"] == pytest.approx(0.8)


def test_outside_the_mask_does_not_count():
    mask = np.zeros((40, 40))
    mask[5:35, 5:35] = 1
    values = np.where(mask > 0, 0.1, 9.0)
    assert MapScore()(values, mask) == {"mean": pytest.approx(0.1), "top": pytest.approx(0.1)}


def test_thin_mask_is_eroded_less():
    mask = np.zeros((20, 20))
    mask[8:12, 4:16] = 1  # gone after two erosions, not after one
    values = np.where(ndimage.binary_erosion(mask > 0), 0.5, 0.1)
    assert MapScore(1.0, erode=5, median=1)(values, mask)["top"] == pytest.approx(0.5)
    line = np.zeros((20, 20))
    line[3, 4:9] = 1
    assert MapScore(1.0, erode=5, median=1)(np.ones((20, 20)), line)["top"] == 1.0


def test_empty_mask_gives_zero():
    assert MapScore()(np.ones((8, 8)), np.zeros((8, 8))) == {"mean": 0.0, "top": 0.0}


@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor, MetaTensor])
@pytest.mark.parametrize("channel", [False, True])
def test_any_array_and_one_channel(wrap, channel: bool):
    values, mask = np.random.default_rng(0).random((30, 30)), np.ones((30, 30))
    expected = MapScore()(values, mask)
    index = None if channel else ...
    got = MapScore()(wrap(values[index]), wrap(mask[index]))
    assert got == pytest.approx(expected)
    assert all(type(value) is float for value in got.values())


def test_higher_is_more_abnormal():
    values, mask = np.random.default_rng(0).random((30, 30)), np.ones((30, 30))
    low, high = MapScore()(values, mask), MapScore()(values + 0.2, mask)
    assert all(high[name] > low[name] for name in low)


@pytest.mark.parametrize(
    ("options", "word"), [({"top_fraction": 0}, "top_fraction"), ({"erode": -1}, "erode"), ({"median": 0}, "median")]
)
def test_score_arguments(options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        MapScore(**options)


def test_score_shapes():
    with pytest.raises(ValueError, match="one shape"):
        MapScore()(np.ones((8, 8)), np.ones((8, 9)))
    with pytest.raises(ValueError, match="expected shape"):
        MapScore()(np.ones((2, 8, 8)), np.ones((8, 8)))
