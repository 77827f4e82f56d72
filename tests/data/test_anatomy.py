"""Normal heads: against known anatomy in MNI space and against symmetry, not against saved heads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.data.anatomy import NEAR_HEAD_MM, TISSUES, Head, load_template

INDEX = {name: number for number, name in enumerate(TISSUES)}
SEEDS = range(6)
MIRROR = np.array([[-1.0], [1.0], [1.0]])


def sheet(z: float, half_mm: float = 118.0, step_mm: float = 2.0) -> tuple[np.ndarray, tuple[int, int]]:
    """Points of one axial level."""
    axis = np.arange(-half_mm, half_mm + step_mm, step_mm)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, z)]), x.shape


def around(centre: tuple[float, float, float], head: Head, radius_mm: float = 3.0) -> np.ndarray:
    """Head coordinates of points that this head maps to within ``radius_mm`` of a place of the template."""
    points = np.random.default_rng(0).uniform(-28, 28, (3, 60_000)) + np.array(centre)[:, None] + [[0], [18], [-15]]
    near = np.linalg.norm(head.to_template(points) - np.array(centre)[:, None], axis=0) < radius_mm
    assert near.sum() >= 8
    return points[:, near]


def upright(seed: int, **options: float) -> Head:
    """A head without pose: rotation and shift are no part of its own symmetry."""
    head = Head(seed, **options)
    head.angles, head.shift_mm = np.zeros(3), np.zeros(3)
    return head


def test_template_is_in_mni_space_and_symmetric_about_x_0():
    template = load_template()
    assert template.gm.shape == template.wm.shape == template.depth.shape
    size = np.array(template.gm.shape)
    assert template.origin[0] == -(size[0] - 1) / 2
    for image in (template.gm, template.wm, template.depth):
        np.testing.assert_allclose(image, image[::-1], atol=1e-4)
    for image in (template.gm, template.wm):
        assert image.min() >= 0
        assert image.max() == pytest.approx(1)


def test_depth_is_a_signed_distance_to_the_cavity():
    template = load_template()
    brain = template.gm + template.wm > 0.6
    assert (template.depth[brain] < 1).mean() > 0.999
    border = np.ones(template.depth.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    # A brain stem leaves through the lowest plane.
    border[:, :, 0] = False
    assert template.depth[border].min() > 0
    outside = (template.depth > 3) & (template.depth < 20)
    slope = np.linalg.norm(np.gradient(template.depth), axis=0)[outside]
    # The gradient of a distance has length 1.
    assert slope.mean() == pytest.approx(1, abs=0.06)
    # A human intracranial cavity holds 1.1 to 1.8 litres; the average template is large.
    assert 1.1e6 < (template.depth < 0).sum() < 2.1e6


@pytest.mark.parametrize("seed", SEEDS)
def test_fractions_are_shares_that_sum_to_1(seed):
    points = np.random.default_rng(seed).uniform(-120, 120, (3, 4000))
    fractions = Head(seed).tissue_fractions(points)
    assert fractions.shape == (len(TISSUES), 4000)
    assert fractions.dtype == np.float32
    assert fractions.min() >= 0
    assert fractions.max() <= 1 + 1e-6
    np.testing.assert_allclose(fractions.sum(0), 1, atol=1e-5)


def test_a_point_does_not_depend_on_the_others():
    head = Head(3)
    points = np.random.default_rng(1).uniform(-90, 90, (3, 300))
    together = head.tissue_fractions(points)
    np.testing.assert_array_equal(head.tissue_fractions(points[:, 100:101]), together[:, 100:101])
    np.testing.assert_array_equal(head.tissue_fractions(points[:, ::-1]), together[:, ::-1])


def test_a_seed_is_one_head_and_another_seed_another():
    points, _ = sheet(20)
    first = Head(4).tissue_fractions(points)
    np.testing.assert_array_equal(first, Head(4).tissue_fractions(points))
    assert np.abs(first - Head(5).tissue_fractions(points)).max() > 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("z", [-25, 0, 20, 40])
def test_skull_is_closed_around_the_brain(seed, z):
    points, shape = sheet(z, step_mm=1.5)
    fractions = Head(seed).tissue_fractions(points).reshape(len(TISSUES), *shape)
    skull = fractions[INDEX["bone"]] + fractions[INDEX["diploe"]] > 0.5
    regions, _ = ndimage.label(~skull)
    brain = fractions[INDEX["gm"]] + fractions[INDEX["wm"]] > 0.5
    assert brain.sum() > 1000
    # Regions are 4-connected: nothing leads from the corner of the picture to the brain but through bone.
    assert not (brain & (regions == regions[0, 0])).any()
    assert not (brain & skull).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_corners_of_the_field_are_air_and_skin_lies_outside_bone(seed):
    points, shape = sheet(15)
    fractions = Head(seed).tissue_fractions(points).reshape(len(TISSUES), *shape)
    assert (fractions[0][[0, 0, -1, -1], [0, -1, 0, -1]] == 1).all()
    head = fractions[0] < 0.5
    rim = ndimage.binary_fill_holes(head) & ~ndimage.binary_erosion(ndimage.binary_fill_holes(head))
    assert (fractions[INDEX["skin"]][rim] > 0.2).mean() > 0.9
    assert fractions[INDEX["bone"]][rim].max() < 0.1


def test_beyond_the_near_zone_all_is_air():
    points = np.array([[0, 118, 0], [118, 0, 0], [0, 0, 118.0]]) + 3 * NEAR_HEAD_MM
    fractions = Head(0).tissue_fractions(points)
    assert (fractions[0] == 1).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", [-1, 1])
def test_bodies_of_the_lateral_ventricles_are_fluid(seed, side):
    # MNI (+-8, -10, 20) lies in the body of the lateral ventricle.
    head = Head(seed)
    fluid = head.tissue_fractions(around((side * 8.0, -10.0, 20.0), head))[INDEX["csf"]]
    assert fluid.mean() > 0.55


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", [-1, 1])
def test_thalamus_is_brain_and_the_centrum_semiovale_white_matter(seed, side):
    head = Head(seed)
    thalamus = head.tissue_fractions(around((side * 10.0, -18.0, 8.0), head))
    assert (thalamus[INDEX["gm"]] + thalamus[INDEX["wm"]]).mean() > 0.85
    white = head.tissue_fractions(around((side * 26.0, -20.0, 34.0), head))
    assert white[INDEX["wm"]].mean() > 0.7


def test_more_weight_of_fluid_means_more_fluid():
    points, _ = sheet(20)
    head = Head(2)
    shares = []
    for weight in (0.5, 1.0, 2.0):
        head.csf_weight = weight
        shares.append(float(head.tissue_fractions(points)[INDEX["csf"]].sum()))
    assert shares == sorted(shares)
    assert shares[2] > 1.3 * shares[0]


def test_a_wider_ventricle_pulls_inwards_and_is_odd_in_x():
    head = Head(0)
    points = np.array([[12.0, -12.0, 0.0], [-15.0, -15.0, -15.0], [15.0, 15.0, 15.0]])
    head._ventricle = 2.0
    moved = head._open_ventricles(points)
    # The pull is largest, and equal to the amplitude, 12 mm from the midline.
    np.testing.assert_allclose(moved[0], [10.0, -10.0, 0.0], atol=1e-9)
    np.testing.assert_array_equal(moved[1:], points[1:])


@pytest.mark.parametrize("seed", SEEDS)
def test_without_asymmetry_the_displacement_is_mirrored(seed):
    points = np.random.default_rng(seed).uniform(-85, 85, (3, 2000))
    head = upright(seed, asymmetry=0.0)
    np.testing.assert_allclose(head.to_template(points) * MIRROR, head.to_template(points * MIRROR), atol=2e-3)


def test_without_asymmetry_the_whole_head_is_mirrored():
    head = upright(1, asymmetry=0.0)
    # The choroid plexus of each side calcifies by itself.
    head.calcified = False
    points, _ = sheet(12)
    gap = np.abs(head.tissue_fractions(points) - head.tissue_fractions(points * MIRROR))
    assert gap.max() < 0.02


def test_more_asymmetry_means_less_mirrored():
    points = np.random.default_rng(0).uniform(-70, 70, (3, 2000))
    gaps = []
    for asymmetry in (0.0, 0.2, 0.4, 0.8):
        head = upright(7, asymmetry=asymmetry)
        gap = head.to_template(points) * MIRROR - head.to_template(points * MIRROR)
        gaps.append(float(np.sqrt((gap**2).mean())))
    assert gaps == sorted(gaps)
    assert gaps[0] < 1e-3
    # The amplitude is a factor of the field: twice the asymmetry, about twice the gap.
    assert gaps[2] / gaps[1] == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize("seed", SEEDS)
def test_deformation_folds_nowhere_in_the_brain(seed):
    head = Head(seed)
    points, _ = sheet(15, half_mm=60, step_mm=1.0)
    steps = []
    for axis in range(3):
        shift = np.zeros((3, 1))
        shift[axis] = 0.5
        steps.append(head.to_template(points + shift) - head.to_template(points - shift))
    determinant = np.linalg.det(np.stack(steps).transpose(2, 0, 1))
    # A fold shows as a negative volume; single points may touch it where two lattice cells meet.
    assert (determinant <= 0).mean() < 0.01
    assert 0.5 < np.median(determinant) < 2


def test_pose_alone_is_a_rotation_a_shift_and_a_size():
    head = Head(5)
    middle = np.array([[0.0], [-18.0], [15.0]])
    np.testing.assert_allclose(head._undo_pose(head.shift_mm[:, None]), middle, atol=1e-9)
    units = (head._undo_pose(np.eye(3) + head.shift_mm[:, None]) - middle) * head.scale[:, None]
    np.testing.assert_allclose(units @ units.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(units) == pytest.approx(1)


def test_noise_on_the_lattice_has_unit_spread_and_the_scale_asked_for():
    rng = np.random.default_rng(0)
    long, short = (Head._noise_lattice(rng, scale, 1)[0] for scale in (60.0, 16.0))
    assert long.std() == pytest.approx(1, abs=1e-3)
    assert short.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(long, axis=0)).mean() < 0.5 * np.abs(np.diff(short, axis=0)).mean()
