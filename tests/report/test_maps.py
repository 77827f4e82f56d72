"""Maps come back to the grid of their case."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Resized, ResizeWithPadOrCropd
from PIL import Image

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.report.maps import to_case_grid, write_map

SIZES = [(100, 80), (101, 77), (77, 101), (64, 64), (63, 64), (37, 64), (129, 50), (256, 256), (30, 41), (65, 2)]


@pytest.fixture(scope="module")
def to_network_grid(phantom_benchmark):
    """The steps of the bundle's own preprocessing that move pixels."""
    steps = phantom_benchmark.run.trained.preprocess.flatten().transforms
    geometry = [step for step in steps if isinstance(step, Resized | ResizeWithPadOrCropd)]
    assert len(geometry) == 2

    def apply(picture):
        item = {"ct": torch.as_tensor(picture, dtype=torch.float32)[None]}
        item["mri"] = item["ct"].clone()
        for step in geometry:
            item = step(item)
        return np.asarray(item["ct"])[0]

    return apply


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_picture_of_its_own_coordinates_comes_back(to_network_grid, height, width):
    """Each pixel that went through the preprocessing and back says where it came from: itself."""
    for picture in np.mgrid[:height, :width].astype(np.float32):
        there, ones = to_network_grid(picture), to_network_grid(np.ones_like(picture))
        assert there.shape == (64, 64)
        # Smoothing before the resampling mixes black into the border; the same happens to a picture of ones.
        there = np.divide(there, ones, out=np.zeros_like(there), where=ones > 0)
        back = to_case_grid(there, height, width)
        assert back.shape == (height, width)
        assert back.dtype == np.float32
        step = max(1.0, max(height, width) / 64)  # pixels of the case in one of the network
        # At the border a resampled ramp is flat over half a pixel of the network, and twice it was resampled.
        assert np.abs(back - picture).max() <= 1.05 * step
        edge = int(np.ceil(2 * step))
        inside = (slice(edge, -edge), slice(edge, -edge))
        if min(height, width) > 4 * edge:
            assert np.abs(back - picture)[inside].max() <= 0.5 * step


@pytest.mark.parametrize(("height", "width"), [(200, 120), (121, 200), (48, 31)])
def test_a_bright_spot_comes_back_to_its_place(to_network_grid, height, width):
    picture = np.zeros((height, width), np.float32)
    row, column = height // 4, 2 * width // 3
    picture[row - 6 : row + 7, column - 6 : column + 7] = 1
    back = to_case_grid(to_network_grid(picture), height, width)
    weights = back / back.sum()
    rows, columns = np.mgrid[:height, :width]
    assert (weights * rows).sum() == pytest.approx(row, abs=0.6)
    assert (weights * columns).sum() == pytest.approx(column, abs=0.6)


def test_padding_is_cut_off():
    padded = np.full((64, 64), 9.0)
    padded[:, 16:48] = 1  # 64 x 32 in the middle
    np.testing.assert_allclose(to_case_grid(padded, 128, 64), 1)
    np.testing.assert_allclose(to_case_grid(padded.T, 64, 128), 1)


def test_the_networks_own_size_is_left_as_it_is():
    values = np.random.default_rng(0).random((64, 64))
    np.testing.assert_array_equal(to_case_grid(values, 64, 64), values.astype(np.float32))


def test_the_written_file_is_float32_and_complete(tmp_path):
    values = np.random.default_rng(0).random((32, 32)).astype(np.float16)
    write_map(tmp_path / "new" / "a.tif", values, 48, 40)
    with Image.open(tmp_path / "new" / "a.tif") as image:
        assert image.mode == "F"
        np.testing.assert_array_equal(np.asarray(image), to_case_grid(values, 48, 40))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.tif"]


@pytest.mark.parametrize("name", ["phantom_benchmark", "few_subjects_benchmark"])
def test_every_test_case_of_a_run_has_a_map_of_its_own_height_and_width(request, name):
    finished = request.getfixturevalue(name)
    test = Manifest.read(finished.out / "manifest.csv").select(split="test")
    assert {path.stem for path in (finished.out / "maps").iterdir()} == {case.name for case in test}
    maps = {case.case: case.map for case in finished.run.originals}
    for case in test:
        with Image.open(case.ct) as picture, Image.open(finished.out / "maps" / f"{case.name}.tif") as written:
            assert written.size == picture.size
            values = np.asarray(written)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() <= float(maps[case.name].max())
