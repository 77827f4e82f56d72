"""CT windows against the formula and MONAI's own ScaleIntensityRange."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import ScaleIntensityRange

from monai_ctmri.errors import InputError
from monai_ctmri.transforms import LoadSliced, WindowCT, WindowCTd
from monai_ctmri.transforms.ct import CT_WINDOWS, ClampMetal, ClampMetald, holds_hounsfield

HU = np.array([[-1000, -1, 0, 20], [40, 60, 80, 3000]], dtype=np.int16)[None]


def test_brain_window_by_hand():
    expected = [[0, 0, 0, 0.25], [0.5, 0.75, 1, 1]]
    np.testing.assert_allclose(WindowCT()(HU)[0], expected)


@pytest.mark.parametrize(("centre", "width"), [(40, 80), (75, 215), (32, 8), (600, 2800)])
def test_same_as_scale_intensity_range(centre: float, width: float):
    theirs = ScaleIntensityRange(centre - width / 2, centre + width / 2, 0.0, 1.0, clip=True)
    np.testing.assert_allclose(WindowCT(centre, width)(HU), theirs(HU), atol=1e-6)


def test_windowed_picture_is_only_divided():
    grey = MetaTensor(torch.tensor([[[0.0, 51.0, 255.0]]]), meta={"windowed": True})
    out = WindowCT(600, 2800)(grey)
    np.testing.assert_allclose(out[0, 0], [0, 0.2, 1])
    assert all(math.isnan(each) for each in out.meta["window"])
    assert out.meta["windowed"] is True


def test_meta_decides_before_dtype():
    physical = MetaTensor(torch.tensor([[[0, 40, 80]]], dtype=torch.uint8), meta={"windowed": False})
    np.testing.assert_allclose(WindowCT()(physical)[0, 0], [0, 0.5, 1])


def test_plain_uint8_is_windowed_and_other_types_are_not():
    values = np.array([[[0, 51, 255]]])
    np.testing.assert_allclose(WindowCT()(values.astype(np.uint8))[0, 0], [0, 0.2, 1])
    np.testing.assert_allclose(WindowCT()(values.astype(np.float32))[0, 0], [0, 51 / 80, 1])


def test_override_goes_first():
    grey = MetaTensor(torch.tensor([[[0.0, 40.0, 80.0]]]), meta={"windowed": True})
    np.testing.assert_allclose(WindowCT(windowed=False)(grey)[0, 0], [0, 0.5, 1])
    np.testing.assert_allclose(WindowCT(windowed=True)(HU.clip(0, 255))[0, 0, 3], 20 / 255)


def test_window_is_recorded_and_the_rest_kept():
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    source = MetaTensor(torch.tensor(HU, dtype=torch.float32), affine=affine, meta={"filename_or_obj": "a.nii"})
    out = WindowCT(75, 215)(source)
    assert out.meta["window"] == (75.0, 215.0)
    assert out.meta["filename_or_obj"] == "a.nii"
    np.testing.assert_array_equal(out.affine, affine)
    assert "window" not in source.meta


@pytest.mark.parametrize("width", [0, -80, math.nan])
def test_width_must_be_positive(width: float):
    with pytest.raises(ValueError, match="width must be positive"):
        WindowCT(40, width)


def test_dictionary_touches_its_keys_only():
    out = WindowCTd("ct", centre=75, width=215)({"ct": HU, "mri": HU})
    np.testing.assert_array_equal(out["ct"], WindowCT(75, 215)(HU))
    assert out["mri"] is HU


def test_hu_and_pictures_share_a_batch(tmp_path):
    np.save(tmp_path / "hu.npy", HU[0].astype(np.float32))
    np.save(tmp_path / "grey.npy", HU[0].clip(0, 255).astype(np.uint8))
    cases = [{"ct": tmp_path / "hu.npy"}, {"ct": tmp_path / "grey.npy"}]
    data = Dataset(cases, lambda case: WindowCTd()(LoadSliced("ct")(case)))
    batch = next(iter(DataLoader(data, batch_size=2, num_workers=0)))
    np.testing.assert_allclose(batch["ct"][0, 0, 0], [0, 0, 0, 0.25])
    np.testing.assert_allclose(batch["ct"][1, 0, 0], [0, 0, 0, 20 / 255])


def test_real_picture_spans_the_range(real_data):
    case = WindowCTd()(LoadSliced("ct")({"ct": real_data / "pairs" / "ct" / "16012.png"}))
    assert case["ct"].min() == 0.0
    assert case["ct"].max() == 1.0
    assert 0.2 < float(case["ct"][0, 100:150, 100:150].median()) < 0.7  # brain is mid grey in a brain window


@pytest.mark.parametrize("name", sorted(CT_WINDOWS))
def test_named_window_is_its_pair(name: str):
    centre, width = CT_WINDOWS[name]
    np.testing.assert_array_equal(WindowCT(window=name)(HU), WindowCT(centre, width)(HU))
    np.testing.assert_array_equal(WindowCT(window=(centre, width))(HU), WindowCT(centre, width)(HU))


def test_named_windows_lie_in_radiological_ranges():
    """Radiopaedia, Windowing (CT)."""
    ranges = {"subdural": ((50, 100), (130, 300)), "soft_tissue": ((20, 60), (350, 400))}
    exact = {"brain": (40, 80), "stroke": (40, 40), "bone": (600, 2800)}
    assert set(CT_WINDOWS) == set(ranges) | set(exact)
    for name, ((low, high), (narrow, wide)) in ranges.items():
        assert low <= CT_WINDOWS[name][0] <= high
        assert narrow <= CT_WINDOWS[name][1] <= wide
    for name, pair in exact.items():
        assert CT_WINDOWS[name] == pair


def test_several_windows_are_channels_window_by_window():
    two = np.concatenate([HU, HU + 10])
    out = WindowCT(window=["brain", "bone", (50, 100)])(MetaTensor(two, meta={"windowed": False}))
    assert out.shape == (6, 2, 4)
    for index, pair in enumerate([(40, 80), (600, 2800), (50, 100)]):
        np.testing.assert_array_equal(out[2 * index : 2 * index + 2], WindowCT(*pair)(two))
    assert out.meta["window"] == [(40.0, 80.0), (600.0, 2800.0), (50.0, 100.0)]
    one = WindowCT(window=["brain"])(MetaTensor(HU))
    assert one.meta["window"] == [(40.0, 80.0)]


def test_several_windows_of_a_picture_are_refused():
    picture = MetaTensor(HU.clip(0, 255).astype(np.uint8), meta={"windowed": True, "filename_or_obj": "a.png"})
    with pytest.raises(InputError, match=r"a\.png.*HU are lost"):
        WindowCT(window=["brain", "bone"])(picture)
    np.testing.assert_array_equal(WindowCT(window="bone")(picture), WindowCT()(picture))


@pytest.mark.parametrize("window", ["lung", [], ["brain", "lung"], (40, 0), [(40, -1)]])
def test_window_that_is_none(window):
    with pytest.raises(ValueError, match=r"unknown|at least one|width"):
        WindowCT(window=window)


def test_windows_in_a_dictionary():
    out = WindowCTd("ct", window=["brain", "subdural"])({"ct": HU})
    np.testing.assert_array_equal(out["ct"], WindowCT(window=["brain", "subdural"])(HU))


def test_metal_is_clamped_and_counted():
    hu = MetaTensor(np.array([[[0.0, 3070.0, 3071.0, 30000.0]]]), meta={"windowed": False})
    out = ClampMetal()(hu)
    np.testing.assert_array_equal(out[0, 0], [0, 3070, 3071, 3071])
    assert out.meta["metal_share"] == 0.5
    out = ClampMetald(limit=2000)({"ct": hu})["ct"]
    assert float(out.max()) == 2000
    assert out.meta["metal_share"] == 0.75


def test_a_picture_has_no_metal_to_clamp():
    picture = MetaTensor(np.array([[[0, 255]]], dtype=np.uint8))
    out = ClampMetal(limit=100)(picture)
    np.testing.assert_array_equal(out[0, 0], [0, 255])
    assert math.isnan(out.meta["metal_share"])


def test_limit_must_be_finite():
    with pytest.raises(ValueError, match="limit"):
        ClampMetal(math.nan)


def test_what_holds_hounsfield_units():
    assert holds_hounsfield(torch.zeros(1))
    assert not holds_hounsfield(torch.zeros(1, dtype=torch.uint8))
    assert not holds_hounsfield(MetaTensor(torch.zeros(1), meta={"windowed": True}))
    assert not holds_hounsfield(WindowCT()(MetaTensor(HU, meta={"windowed": False})))
    assert holds_hounsfield(torch.zeros(1, dtype=torch.uint8), windowed=False)
