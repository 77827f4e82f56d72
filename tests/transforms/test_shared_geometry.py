"""One random geometry for a case: alike in every entry, invertible, on the grid it came on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.shared_geometry import RandSharedGeometryd

SIZE = 96
STILL = {"rotate_degrees": 0.0, "scale": 0.0, "shear": 0.0, "translate_mm": 0.0, "elastic_mm": 0.0}


def picture(seed: int = 0) -> np.ndarray:
    """Smooth picture (1, H, W) in [0, 1] that is 0 near the frame."""
    y, x = np.mgrid[:SIZE, :SIZE]
    smooth = ndimage.gaussian_filter(np.random.RandomState(seed).uniform(size=(SIZE, SIZE)), 4)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * (np.hypot(y - 47.5, x - 47.5) < 30))[None].astype(np.float32)


def case(**entries):
    affine = torch.diag(torch.tensor([1.8, 1.8, 5.0, 1.0], dtype=torch.float64))
    images = {key: MetaTensor(torch.tensor(picture(seed)), affine=affine) for seed, key in enumerate(("ct", "mri"))}
    mask = MetaTensor((torch.tensor(picture(0)) > 0.6).float(), affine=affine)
    return {**images, "mask": mask, "subject": "p1", **entries}


def moving(seed: int = 0, **options) -> RandSharedGeometryd:
    return RandSharedGeometryd(**{"prob": 1.0, **options}).set_random_state(seed)


def test_modalities_and_mask_move_alike():
    same = picture()
    out = moving()({"ct": same, "mri": same.copy(), "mask": (same > 0.5).astype(np.float32), "image": same})
    np.testing.assert_array_equal(np.asarray(out["ct"]), np.asarray(out["mri"]))
    assert np.abs(np.asarray(out["ct"]) - same).max() > 0.1
    disagree = (np.asarray(out["ct"]) > 0.5) != (np.asarray(out["mask"]) > 0.5)
    assert disagree.mean() < 0.02
    assert set(np.unique(np.asarray(out["mask"]))) == {0.0, 1.0}
    assert out["image"] is same


def test_stack_moves_like_its_channels():
    ct, mri = picture(0), picture(1)
    apart = moving(3)({"ct": ct, "mri": mri})
    stacked = moving(3, keys="image")({"image": np.concatenate([ct, mri])})
    np.testing.assert_array_equal(np.asarray(stacked["image"]), np.concatenate([apart["ct"], apart["mri"]]))


def test_translation_by_formula():
    """Without other motion, a shift of ``t`` pixels along each axis is what scipy gives for it."""
    transform = moving(1, **{**STILL, "translate_mm": 6.0}, pixel_spacing_mm=1.5)
    out = np.asarray(transform(case())["ct"])[0]
    shift = np.asarray(transform.affine_grid.get_transformation_matrix())[:2, -1]
    assert (np.abs(shift) <= 4).all()
    assert np.abs(shift).max() > 0.1
    np.testing.assert_allclose(out, ndimage.shift(picture()[0], -shift, order=1), atol=1e-4)


def test_nothing_allowed_is_nothing_done():
    out = moving(**STILL)(case())
    np.testing.assert_allclose(np.asarray(out["ct"]), picture(), atol=1e-5)


@pytest.mark.parametrize("limits", [{"rotate_degrees": 12.0}, {"scale": 0.2}, {"shear": 0.1}, {"elastic_mm": 6.0}])
def test_drawn_maps_stay_within_the_stated_range(limits):
    for seed in range(8):
        transform = moving(seed, **{**STILL, **limits})
        out = transform(case())
        info = out["ct"].applied_operations[-1]["extra_info"]
        linear = np.asarray(info["matrix"])[:2, :2]
        if "rotate_degrees" in limits:
            np.testing.assert_allclose(linear @ linear.T, np.eye(2), atol=1e-5)
            assert abs(np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))) <= 12.001
        if "scale" in limits:
            assert (np.abs(np.diag(linear) - 1) <= 0.2 + 1e-6).all()
        if "shear" in limits:
            assert np.abs(linear - np.eye(2)).max() <= 0.1 + 1e-6
        if "elastic_mm" not in limits:
            assert not np.asarray(info["elastic"]).any()


def test_elastic_displacement_is_as_long_as_stated():
    """Coordinates as pictures show the displacement itself."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    longest = []
    for seed in range(12):
        transform = moving(seed, **{**STILL, "elastic_mm": 5.4}, padding_mode="border")
        out = transform({"ct": y[None], "mri": x[None]})
        moved = np.hypot(np.asarray(out["ct"])[0] - y, np.asarray(out["mri"])[0] - x) * SIZE
        longest.append(moved[4:-4, 4:-4].max())
    assert max(longest) <= 3 + 0.01
    assert max(longest) > 2
    assert min(longest) < 1


def test_elastic_map_never_folds_however_strong():
    for seed in range(5):
        still = moving(seed, **{**STILL, "elastic_mm": 500.0}, elastic_spacing_mm=20.0, padding_mode="border")
        y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
        out = still({"ct": y[None], "mri": x[None]})
        rows, columns = (np.asarray(out[key])[0] * SIZE for key in ("ct", "mri"))
        inner = (slice(30, 66), slice(30, 66))
        determinant = np.gradient(rows, axis=0) * np.gradient(columns, axis=1) - np.gradient(rows, axis=1) * (
            np.gradient(columns, axis=0)
        )
        assert (determinant[inner] > 0).all()
        assert np.abs(determinant[inner] - 1).max() > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_inverse_brings_everything_back(seed: int):
    before = case()
    transform = moving(seed, elastic_mm=8.0)
    after = transform(before)
    assert np.abs(np.asarray(after["ct"]) - np.asarray(before["ct"])).mean() > 0.01
    back = transform.inverse(after)
    inner = ndimage.binary_erosion(np.asarray(before["ct"])[0] > 0, iterations=3)
    for key in ("ct", "mri"):
        error = np.abs(np.asarray(back[key]) - np.asarray(before[key]))[0][inner]
        assert error.mean() < 0.01, key
        assert back[key].applied_operations == []
    wrong = np.asarray(back["mask"]) != np.asarray(before["mask"])
    assert wrong.mean() < 0.03


def test_inverse_map_undoes_the_map_to_a_hundredth_of_a_pixel():
    """Coordinates as pictures: linear in the middle, so that interpolation adds no error of its own."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    transform = moving(5, elastic_mm=8.0, padding_mode="border")
    before = {"ct": MetaTensor(y[None]), "mri": MetaTensor(x[None])}
    back = transform.inverse(transform(before))
    inner = (slice(30, 66), slice(30, 66))
    for key in before:
        error = np.abs(np.asarray(back[key]) - np.asarray(before[key]))[0][inner] * SIZE
        assert error.mean() < 0.01, key


def test_inverse_of_a_map_made_from_the_result():
    transform = moving(2)
    after = transform(case())
    made = after["ct"] * 0.5
    back = transform.inverse({"ct": made})
    expected = transform.inverse({"ct": after["ct"]})["ct"] * 0.5
    np.testing.assert_allclose(np.asarray(back["ct"]), np.asarray(expected), atol=1e-6)


def test_unchosen_case_stays_and_can_be_inverted():
    before = case()
    transform = moving(prob=0.0)
    after = transform(before)
    for key in ("ct", "mri", "mask"):
        np.testing.assert_array_equal(np.asarray(after[key]), np.asarray(before[key]))
        assert before[key].applied_operations == []
    back = transform.inverse(after)
    assert back["ct"].applied_operations == []


def test_input_and_affine_stay():
    before = case()
    kept = before["ct"].clone()
    after = moving()(before)
    np.testing.assert_array_equal(np.asarray(before["ct"]), np.asarray(kept))
    assert before["ct"].applied_operations == []
    torch.testing.assert_close(after["ct"].affine, before["ct"].affine)


def test_repeat_without_drawing_and_compose():
    transform = moving(4)
    first = transform(case())
    again = transform(case(), randomize=False)
    np.testing.assert_array_equal(np.asarray(first["mri"]), np.asarray(again["mri"]))
    chain = Compose([transform])
    after = chain.set_random_state(1)(case())
    assert chain.inverse(after)["ct"].applied_operations == []


def test_transformed_cases_collate():
    batch = list_data_collate([moving(seed, prob=0.5)(case()) for seed in range(4)])
    assert batch["ct"].shape == (4, 1, SIZE, SIZE)


def test_case_without_pictures_and_one_modality():
    assert moving()({"subject": "p1"}) == {"subject": "p1"}
    alone = moving()({"mri": picture(), "ct": None})
    assert alone["ct"] is None
    assert alone["mri"].shape == (1, SIZE, SIZE)


def test_entries_of_two_grids_are_refused():
    with pytest.raises(InputError, match="p1: has entries of shape"):
        moving()(case(mri=np.zeros((1, SIZE, SIZE - 1), np.float32)))


@pytest.mark.parametrize(
    "options", [{"rotate_degrees": -1.0}, {"scale": 1.0}, {"elastic_spacing_mm": 0.0}, {"elastic_mm": float("nan")}]
)
def test_bad_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        RandSharedGeometryd(**options)
