"""Preparation for registration: positions against formulas, likeness against scikit-image, heads against drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import normalized_mutual_information

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.head_volumes import HeadVolume, likeness, prepare_head

CENTRE = np.array([12.0, -20.0, 35.0])
OBLIQUE = np.array([[-1.9, 0.3, 0.1, 60.0], [0.3, 1.9, -0.2, -70.0], [0.1, 0.2, 3.0, -40.0], [0, 0, 0, 1]])
SHEARED = np.array([[2.0, 0, 0, -40.0], [0, 2.0, 0.9, -80.0], [0, 0, 3.0, -40.0], [0, 0, 0, 1]])


def ball(affine: np.ndarray, shape: tuple[int, ...] = (64, 64, 48), air: float = -1000.0, radius: float = 30.0):
    """A ball of 40 (HU) in air around CENTRE, drawn at the world position of every voxel."""
    dims = len(shape)
    world = np.tensordot(affine[:dims, :dims], np.indices(shape), axes=1)
    world += (affine[:dims, dims] - CENTRE[:dims]).reshape(-1, *[1] * dims)
    return np.where(np.sqrt((world**2).sum(0)) <= radius, 40.0, air).astype(np.float32)


@pytest.mark.parametrize("affine", [np.diag([2.0, 2, 2, 1]) + np.eye(4, k=3) * -30, OBLIQUE, SHEARED])
def test_head_is_found_where_it_lies_in_the_world(affine):
    if affine[0, 3] == -30:
        affine[:3, 3] = (-50, -80, -20)
    head = prepare_head(ball(affine), affine, 4.0)
    np.testing.assert_allclose(head.centre, CENTRE, atol=0.6)
    assert head.head_size == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.08)
    assert head.values.min() >= 0
    assert head.values.max() <= 1


def test_finer_voxels_are_averaged_and_stay_in_place():
    fine = np.diag([1.0, 1, 1, 1])
    fine[:3, 3] = CENTRE - 40
    one, two = (prepare_head(ball(fine, (80, 80, 80)), fine, spacing) for spacing in (1.0, 4.0))
    np.testing.assert_allclose(one.centre, two.centre, atol=0.3)
    assert two.values.size < one.values.size / 40


def test_picture_in_two_dimensions():
    affine = np.array([[0.0, -1.5, 60.0], [1.5, 0.0, -70.0], [0, 0, 1]])
    head = prepare_head(ball(affine, (70, 80), air=0.0), affine, 2.0)
    np.testing.assert_allclose(head.centre, CENTRE[:2], atol=0.6)
    assert head.head_size == pytest.approx(np.pi * 30**2, rel=0.06)


def test_headrest_is_no_head():
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = CENTRE - 70
    image = ball(affine, (46, 46, 46))
    rest = image.copy()
    rest[5:40, 2:4] = 100
    np.testing.assert_allclose(prepare_head(rest, affine, 3.0).centre, CENTRE, atol=0.6)


@pytest.mark.parametrize("value", [0.0, -1000.0, 7.5, np.nan])
def test_blank_image_has_no_head(value):
    assert not prepare_head(np.full((20, 20, 20), value), np.diag([3.0, 3, 3, 1]), 3.0).head.any()


def test_what_lies_outside_the_field_of_view_is_not_seen():
    head = prepare_head(ball(OBLIQUE), OBLIQUE, 4.0, margin_mm=200.0)
    assert 0.4 < head.seen.mean() < 0.98


def test_coarser_keeps_place_and_mean():
    fine = prepare_head(ball(OBLIQUE), OBLIQUE, 2.0)
    coarse = fine.coarser(3)
    assert fine.coarser(1) is fine
    assert coarse.spacing_mm == 6.0
    np.testing.assert_allclose(coarse.centre, fine.centre, atol=1.0)
    np.testing.assert_allclose(coarse.values[2, 2, 2], fine.values[6:9, 6:9, 6:9].mean(), rtol=1e-5)


def test_likeness_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    a = rng.random((24, 24, 24)).astype(np.float32)
    b = np.clip(0.7 * a**2 + 0.3 * rng.random(a.shape), 0, 1).astype(np.float32)
    everywhere = np.ones(a.shape, dtype=bool)
    one, other = (HeadVolume(x, everywhere, everywhere, np.zeros(3), 2.0) for x in (a, b))
    levels = [np.round(x * 31) for x in (a, b)]
    expected = normalized_mutual_information(*levels, bins=32)
    quality, overlap = likeness(one, other, np.eye(4))
    assert quality == pytest.approx(expected, abs=1e-3)
    assert overlap == 1.0
    assert likeness(one, one, np.eye(4))[0] == pytest.approx(2.0)
    assert likeness(one, other, np.eye(4), shuffled=True)[0] < 1.03 < quality


def test_likeness_follows_the_mapping():
    head = prepare_head(ball(OBLIQUE), OBLIQUE, 3.0)
    moved_affine = OBLIQUE.copy()
    moved_affine[0, 3] += 45
    moved = prepare_head(ball(OBLIQUE), moved_affine, 3.0)
    right = np.eye(4)
    right[0, 3] = 45
    assert likeness(head, moved, right)[1] > 0.95
    # Two balls of radius r, 1.5 r apart, share a lens of (1 - .75)^2 (1 + .75 / 2) = 8.6 % of their volume.
    assert likeness(head, moved, np.eye(4))[1] == pytest.approx(0.086, abs=0.04)
    assert likeness(head, moved, right)[0] > likeness(head, moved, np.eye(4))[0] + 0.1
    far = np.eye(4)
    far[0, 3] = 1000
    assert likeness(head, moved, far) == (1.0, 0.0)


@pytest.mark.parametrize("affine", [np.eye(3), np.diag([1.0, 0, 1, 1]), np.diag([1.0, np.nan, 1, 1])])
def test_bad_affine(affine):
    with pytest.raises(InputError, match=r"^affine: "):
        prepare_head(np.zeros((8, 8, 8)), affine, 2.0)
