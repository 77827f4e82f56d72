"""Shapes of the training anomalies against areas and slopes known by formula."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.transforms import foreign_patches, training_anomalies, training_anomaly, training_shapes
from monai_ctmri.transforms.training_shapes import box_profile, bump_profile, coarse_noise, sample_pixel, star_profile

SHAPE = (96, 110)
CENTRE = (47.0, 55.0)
DRAWN = [star_profile, box_profile]


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize("diameter", [8.0, 30.0])
def test_area_is_that_of_the_disc(draw, diameter: float):
    for seed in range(5):
        profile = draw(np.random.RandomState(seed), SHAPE, CENTRE, diameter)
        area = np.count_nonzero(profile > 0.5)
        assert area == pytest.approx(np.pi / 4 * diameter**2, rel=0.12 if diameter < 10 else 0.03)


@pytest.mark.parametrize("draw", DRAWN)
def test_profile_is_one_piece_in_range_with_an_edge_of_the_wished_width(draw):
    profile = draw(np.random.RandomState(3), SHAPE, CENTRE, 40.0, 5.0)
    assert profile.dtype == np.float32
    assert profile.min() == 0
    assert profile.max() == 1
    assert ndimage.label(profile > 0.5)[1] == 1
    inside = ndimage.distance_transform_edt(profile > 0.5)
    outside = ndimage.distance_transform_edt(profile <= 0.5)
    assert (profile[outside > 9] == 0).all()
    assert (profile[inside > 9] == 1).all()
    assert (profile > 0).sum() > (profile == 1).sum()


@pytest.mark.parametrize("draw", DRAWN)
def test_shapes_vary_with_the_state_and_only_with_it(draw):
    one, same, other = (draw(np.random.RandomState(seed), SHAPE, CENTRE, 30.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize("centre", [(0.0, 0.0), (95.0, 109.0), (0.0, 60.0)])
def test_shape_at_the_frame_is_clipped(draw, centre: tuple[float, float]):
    profile = draw(np.random.RandomState(0), SHAPE, centre, 30.0)
    assert profile.shape == SHAPE
    assert 0 < np.count_nonzero(profile > 0.5) < 0.75 * np.pi / 4 * 30**2


def test_box_has_straight_sides():
    profile = box_profile(np.random.RandomState(4), SHAPE, CENTRE, 40.0)
    rows, columns = np.nonzero(profile > 0.5)
    points = np.stack([rows, columns], 1) - np.mean([rows, columns], 1)
    along, across = np.abs(points @ np.linalg.eigh(np.cov(points.T))[1]).max(0) * 2 + 1
    assert along * across == pytest.approx(len(rows), rel=0.08)


def test_bump_by_formula():
    profile = bump_profile(SHAPE, CENTRE, 20.0)
    assert profile[47, 55] == 1
    assert profile[47, 65] == pytest.approx(0.5)
    assert profile[47, 75] == pytest.approx(0.0, abs=1e-7)
    assert (profile[47, 76:] == 0).all()
    assert np.abs(np.diff(profile, axis=1)).max() <= np.pi / 40 + 1e-6


def test_coarse_noise_is_standard_normal_at_its_grain():
    white = coarse_noise(np.random.RandomState(0), (200, 200), 1.0)
    smooth = coarse_noise(np.random.RandomState(0), (200, 200), 8.0)
    assert white.shape == smooth.shape == (200, 200)
    assert abs(smooth.mean()) < 0.15

    def neighbour(field: np.ndarray) -> float:
        return float(np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1])

    assert neighbour(smooth) > 0.95
    assert neighbour(white) < 0.6
    # Between grid values it is bilinear: no curvature along a row but at the knots.
    bends = np.abs(np.diff(smooth, 2, axis=1)).mean(0) > 1e-5
    assert np.count_nonzero(bends) <= 2 * 200 / 8


def test_sampled_pixels_cover_the_region():
    region = np.zeros((5, 6), dtype=bool)
    region[1, 2] = region[3, 4] = True
    random = np.random.RandomState(0)
    assert {sample_pixel(random, region) for _ in range(30)} == {(1, 2), (3, 4)}


@pytest.mark.parametrize("module", [training_shapes, training_anomaly, training_anomalies, foreign_patches])
def test_shapes_of_the_test_lesions_are_not_used(module):
    imported = {
        f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert not [name for name in imported if "shapes" in name and "training_shapes" not in name]
    assert {name for name in imported if name.startswith("lesion")} <= {"lesion.ANOMALY", "lesion.case_name"}
