"""Decoding by ITK: order of axes and of files, RAS, own memory, and no noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_ctmri.data.reading.itk_reading import decode, quiet_itk


def test_axes_and_affine(tmp_path: Path):
    import itk

    stored = np.arange(24, dtype=np.int16).reshape(4, 3, 2)  # z, y, x
    image = itk.image_from_array(stored)
    image.SetSpacing([1.0, 2.0, 3.0])
    image.SetOrigin([10.0, 20.0, 30.0])
    itk.imwrite(image, str(tmp_path / "a.mha"))
    array, affine = decode(tmp_path / "a.mha", "MetaImageIO")
    np.testing.assert_array_equal(array, stored.transpose(2, 1, 0))
    assert array.dtype == np.float32
    assert array.flags.owndata
    np.testing.assert_allclose(affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


@pytest.mark.parametrize("order", [1, -1])
def test_files_stay_in_the_order_given(tmp_path: Path, write_series, order: int):
    planes = [np.full((3, 4), level) for level in (10, 20, 30)]
    paths = write_series(tmp_path, planes, np.array([[0, 0, z] for z in (5.0, 7.0, 9.0)]))[::order]
    array, affine = decode(paths, "GDCMImageIO")
    np.testing.assert_array_equal(array[0, 0], [10, 20, 30][::order])
    if order == 1:  # ITK takes the slices as rising along their normal
        np.testing.assert_allclose(affine[:3, 2:], [[0, 0], [0, 0], [2, 5]], atol=1e-6)
    assert array.shape == (4, 3, 3)


def test_only_the_named_format_is_tried(tmp_path: Path, write_series):
    (path,) = write_series(tmp_path, [np.zeros((3, 4))], np.zeros((1, 3)))
    with pytest.raises(Exception, match=r"(?i)nrrd"):
        decode(path, "NrrdImageIO")


@pytest.mark.parametrize("shown", [True, False])
def test_warnings_come_back(shown: bool):
    import itk

    before = itk.Object.GetGlobalWarningDisplay()
    itk.Object.SetGlobalWarningDisplay(shown)
    try:
        with quiet_itk():
            assert not itk.Object.GetGlobalWarningDisplay()
        assert bool(itk.Object.GetGlobalWarningDisplay()) is shown
        with pytest.raises(FileNotFoundError), quiet_itk():
            raise FileNotFoundError
        assert bool(itk.Object.GetGlobalWarningDisplay()) is shown
    finally:
        itk.Object.SetGlobalWarningDisplay(before)
