"""Which values can be Hounsfield units: real volumes, the phantom, and the ways values go wrong."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ctmri.data.reading.hounsfield import hounsfield_problem


def head(seed: int = 0) -> np.ndarray:
    """Air -1000, scalp fat -90, skull about 1000, brain 35, ventricles 8, with noise; textbook values."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[-1:1:24j, -1:1:64j, -1:1:64j]
    r = np.sqrt(x**2 + y**2 + z**2 / 1.5)
    tissue = np.select([r < 0.15, r < 0.7, r < 0.8, r < 0.85], [8.0, 35.0, 1000.0, -90.0], -1000.0)
    return tissue + rng.normal(0, 6, r.shape)


def real(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(folder / "volumes" / f"{name}.nii.gz").dataobj, dtype=np.float32)


def test_a_head_in_hu():
    assert hounsfield_problem(head()) is None


@pytest.mark.parametrize("padding", [-1024, -1500, -2000, -3024, -32768])
def test_padding_of_any_value_around_the_scan(padding: int):
    values = head()
    values[:, [0, 1, 2, 3, 4, -5, -4, -3, -2, -1], :] = padding
    assert hounsfield_problem(values) is None


@pytest.mark.parametrize("background", [0, -1000, -1024, -2000])
def test_extracted_brain_on_a_constant_background(background: int):
    values = head()
    values[(values < -20) | (values > 70)] = background
    assert hounsfield_problem(values) is None


def test_clipped_hu():
    assert hounsfield_problem(np.clip(head(), -100, 240)) is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda hu: hu + 1000, "shifted"),
        (lambda hu: hu + 1024, "shifted"),
        (lambda hu: np.maximum(hu + 1024, 0), "shifted"),
        (lambda hu: hu / 1000, "scaled"),
        (lambda hu: hu * 10, "scaled"),
        (lambda hu: hu / 2, "scaled"),
        (lambda hu: np.clip((hu + 1024) / 4095, 0, 1), "scaled"),
        (lambda hu: np.round(255 * np.clip(hu / 80, 0, 1)), "windowed"),
        (lambda hu: np.round(255 * np.clip((hu + 100) / 300, 0, 1)), "windowed"),
        (lambda hu: np.round(255 * np.clip((hu + 500) / 2000, 0, 1)), "windowed"),
        (lambda hu: 255 * np.clip(hu / 80, 0, 1) * 0.9, "windowed"),
        (lambda hu: -hu, "no air|scaled|tissue"),
        (lambda hu: np.full_like(hu, 40.0), "one value"),
        (lambda hu: np.full_like(hu, np.nan), "no finite"),
        (lambda hu: np.full(0, 0.0), "no finite"),
    ],
)
def test_other_values_are_named(change, word: str):
    problem = hounsfield_problem(change(head()))
    assert problem is not None
    assert any(each in problem for each in word.split("|")), problem
    assert "\n" not in problem


def test_some_values_not_finite_do_not_matter():
    values = head()
    values[0, 0, :5] = np.nan
    assert hounsfield_problem(values) is None


def test_input_is_left_alone_and_order_does_not_matter():
    values = head()
    before = values.copy()
    assert hounsfield_problem(values) == hounsfield_problem(values[::-1].T)
    np.testing.assert_array_equal(values, before)


def test_phantom_volumes(tmp_path: Path):
    from monai_ctmri.data.phantom import write_phantom

    write_phantom(tmp_path, 1, size=48, form="volumes")
    (ct,), (mri,) = ((tmp_path / name).glob("*.nii.gz") for name in ("ct", "mri"))
    assert hounsfield_problem(np.asarray(nib.load(ct).dataobj)) is None
    assert hounsfield_problem(np.asarray(nib.load(mri).dataobj)) is not None


def test_real_ct_is_hu(real_data: Path):
    assert hounsfield_problem(real(real_data, "ct_head_ge_upper14_hu")) is None


@pytest.mark.parametrize(
    "name",
    ["healthy_chris_pd", "stroke_T2", *(f"tcga_fg_6692_{contrast}" for contrast in ("t1", "t1c", "t2", "fla"))],
)
def test_real_mr_is_no_hu(real_data: Path, name: str):
    assert hounsfield_problem(real(real_data, name)) is not None


def test_real_template_is_shifted(real_data: Path):
    assert "shifted" in str(hounsfield_problem(real(real_data, "ct_template_scct")))
