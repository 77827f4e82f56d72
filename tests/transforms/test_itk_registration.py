"""Registration against known mappings: mean distance in mm over the head between the true and the found mapping."""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from monai_ctmri.data.anatomy import load_template
from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.errors import InputError
from monai_ctmri.transforms import itk_registration
from monai_ctmri.transforms.head_volumes import prepare_head

SPACING = 4.0
register = partial(itk_registration.register_volumes, spacing_mm=SPACING, samples=8000)


@lru_cache
def heads(seed: int = 1, contrast: str = "T1") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CT in HU and MR of one phantom subject (60, 60, 40), and their affine."""
    settings = PhantomSettings(size=60, contrast=contrast, form="volumes")
    subject = draw_subject(seed, settings)
    affine = np.diag([settings.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [-118.0, -118.0, subject.levels_mm[0]]
    ct, mri = (np.ascontiguousarray(x[:, ::-1, ::-1].transpose(2, 1, 0)) for x in (subject.ct, subject.mri))
    return ct, mri, affine


def motion(degrees=(0.0, 0.0, 0.0), shift=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0), shear=0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ (
        np.diag(scale) + shear * np.eye(3, k=1)
    )
    matrix[:3, 3] = shift
    return matrix


def error_mm(image: np.ndarray, affine: np.ndarray, found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance over the head; moving an image's affine by ``true`` makes ``true`` the mapping to find."""
    points, _, head = prepare_head(image, affine, SPACING).samples()
    points = np.vstack([points[:, head], np.ones(head.sum())])
    return float(np.linalg.norm(((found - true) @ points)[:3], axis=0).mean())


@pytest.mark.parametrize(
    ("seed", "contrast", "degrees", "shift"),
    [
        (1, "T1", (8, 0, 0), (0, 12, 0)),
        (2, "T2", (-5, 6, 4), (8, -6, 7)),
        (3, "FLAIR", (15, -15, 10), (30, 0, -10)),
        (1, "T1", (0, 0, -15), (0, 0, 300)),  # frames of reference that have nothing to do with each other
    ],
)
def test_known_rigid_motion_is_recovered(seed, contrast, degrees, shift):
    ct, mri, affine = heads(seed, contrast)
    true = motion(degrees, shift)
    found = register(ct, affine, mri, true @ affine)
    assert error_mm(ct, affine, np.eye(4), true) > 8
    assert error_mm(ct, affine, found.matrix, true) < 1.2
    assert found.accepted
    assert (found.kind, found.reason) == ("rigid", "")
    assert found.angle_degrees == pytest.approx(np.degrees(Rotation.from_matrix(true[:3, :3]).magnitude()), abs=1)
    assert found.gain > 0.05
    assert found.quality - found.gain == found.quality_before
    assert found.overlap > 0.9
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)


def test_known_affine_is_recovered_better_than_by_a_rigid_mapping():
    ct, mri, affine = heads(2, "T2")
    true = motion((6, -5, 4), (10, 8, -5), (1.08, 0.93, 1.05), 0.04)
    rigid, found = (register(ct, affine, mri, true @ affine, kind=kind) for kind in ("rigid", "affine"))
    assert found.kind == "affine"
    assert error_mm(ct, affine, found.matrix, true) < 2
    assert error_mm(ct, affine, rigid.matrix, true) > 3
    assert found.quality > rigid.quality


def test_grid_of_an_image_does_not_matter():
    """The same voxels stored left-right and front-back flipped, on both sides."""
    ct, mri, affine = heads()
    flip = np.diag([-1.0, -1, 1, 1])
    flip[:2, 3] = 59
    true = motion((4, 5, -6), (3, -8, 2))
    stored = [(ct, affine), (np.ascontiguousarray(ct[::-1, ::-1]), affine @ flip)]
    moving = [(mri, true @ affine), (np.ascontiguousarray(mri[::-1, ::-1].transpose(2, 0, 1)), true @ affine @ flip)]
    moving[1] = (moving[1][0], moving[1][1][:, [2, 0, 1, 3]])
    plain, flipped = (register(*fixed, *other) for fixed, other in zip(stored, moving, strict=True))
    assert error_mm(ct, affine, flipped.matrix, true) < 1.2
    assert error_mm(ct, affine, flipped.matrix, plain.matrix) < 0.5


def test_swapped_images_give_the_inverse_mapping():
    ct, mri, affine = heads()
    moved = motion((4, 5, -6), (5, -9, 3)) @ affine
    there = register(ct, affine, mri, moved)
    back = register(mri, moved, ct, affine)
    np.testing.assert_allclose(there.matrix @ back.matrix, np.eye(4), atol=1e-8)


def test_one_seed_one_result_and_threads_do_not_matter():
    import itk

    ct, mri, affine = heads()
    moved = motion((4, 5, -6), (5, -9, 3)) @ affine
    before = itk.MultiThreaderBase.GetGlobalDefaultNumberOfThreads()
    runs = []
    try:
        for threads, seed in ((1, 3), (2, 3), (1, 4)):
            itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
            runs.append(register(ct, affine, mri, moved, seed=seed))
    finally:
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(before)
    assert np.array_equal(runs[0].matrix, runs[1].matrix)
    assert runs[0].summary() == runs[1].summary()
    assert not np.array_equal(runs[0].matrix, runs[2].matrix)


def test_input_is_not_changed():
    ct, mri, affine = (part.copy() for part in heads())
    register(ct, affine, mri, motion((3, 0, 0)) @ affine, spacing_mm=8.0)
    for now, then in zip((ct, mri, affine), heads(), strict=True):
        np.testing.assert_array_equal(now, then)


def noise(kind: str) -> np.ndarray:
    values = np.random.default_rng(0).random(heads()[0].shape)
    smooth = ndimage.gaussian_filter(values, 3)
    return {"noise": values, "smooth noise": smooth, "blank": values * 0, "nan": values * np.nan}[kind]


@pytest.mark.parametrize("kind", ["noise", "smooth noise", "blank", "nan"])
def test_nothing_to_register_gives_the_identity_and_says_so(kind, caplog):
    ct, _, affine = heads()
    with caplog.at_level(logging.WARNING, logger="monai_ctmri"):
        found = register(ct, affine, noise(kind), affine)
    assert not found.accepted
    assert np.array_equal(found.matrix, np.eye(4))
    assert (found.kind, found.gain, found.angle_degrees, found.shift_mm) == ("identity", 0, 0, 0)
    assert found.reason
    assert found.reason in caplog.text
    if kind in ("blank", "nan"):
        assert found.reason == "no head found in the moving image"


def test_registered_pair_is_left_alone_or_hardly_moved():
    ct, mri, affine = heads()
    found = register(ct, affine, mri, affine)
    assert error_mm(ct, affine, found.matrix, np.eye(4)) < 1
    assert found.quality >= found.quality_before


def test_failing_optimiser_is_reported(monkeypatch):
    def fail(*_):
        raise RuntimeError("somewhere.hxx:12:\nAll samples map outside moving image buffer.")

    monkeypatch.setattr(itk_registration._Search, "_optimise", fail)
    ct, mri, affine = heads()
    found = register(ct, affine, mri, affine)
    assert not found.accepted
    assert found.reason == "the optimiser failed: All samples map outside moving image buffer."


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (motion((0, 0, 60)), "rotation of 60 degrees"),
        (motion(scale=(1.6, 1, 1)), "scales 1.00 to 1.60"),
        (motion(scale=(1, 1, 0.5)), "scales 0.50 to 1.00"),
        (motion(scale=(-1, 1, 1)), "rotation of 180 degrees"),
        (motion(shift=(0, 130, 0)), "130 mm apart"),
        (motion(shift=(90, 0, 0)), "the heads overlap by"),
    ],
)
def test_implausible_result_is_refused(wrong, reason, monkeypatch):
    ct, mri, affine = heads()
    # The search maps the smaller head; keep what is returned a mapping of the fixed one.
    swapped = prepare_head(ct, affine, SPACING).head_size > prepare_head(mri, affine, SPACING).head_size
    centre = prepare_head(ct, affine, SPACING).centre
    about = motion(shift=centre) @ wrong @ motion(shift=-centre)
    monkeypatch.setattr(
        itk_registration._Search, "run", lambda *_: np.linalg.inv(about) if swapped else about
    )  # fmt: skip
    found = register(ct, affine, mri, affine)
    assert not found.accepted
    assert reason in found.reason
    assert np.array_equal(found.matrix, np.eye(4))


@pytest.mark.parametrize(
    ("affine_found", "reason"),
    [
        (motion(scale=(1.7, 1, 1)), "affine: scales"),
        (motion((8, 0, 0), (0, 24, 0)), "affine: mutual information 1."),  # 12 mm off, and more alike than the headers
    ],
)
def test_affine_that_fails_leaves_the_rigid_result(affine_found, reason, monkeypatch):
    run, ct, mri, affine = itk_registration._Search.run, *heads()
    true = motion((8, 0, 0), (0, 12, 0))
    swapped = prepare_head(ct, affine, SPACING).head_size > prepare_head(mri, true @ affine, SPACING).head_size
    other = np.linalg.inv(affine_found) if swapped else affine_found
    monkeypatch.setattr(
        itk_registration._Search,
        "run",
        lambda self, kind, *rest: run(self, kind, *rest) if kind == "rigid" else other,
    )
    found = register(ct, affine, mri, true @ affine, kind="affine")
    assert (found.kind, found.accepted) == ("rigid", True)
    assert found.reason.startswith(reason)
    assert error_mm(ct, affine, found.matrix, true) < 1.2


def test_pictures():
    ct, mri, _ = heads()
    affine = np.diag([4.0, 4.0, 1.0])
    true = np.eye(3)
    true[:2, :2] = Rotation.from_euler("z", 9, degrees=True).as_matrix()[:2, :2]
    true[:2, 2] = 12, -6
    found = register(ct[:, :, 20], affine, mri[:, :, 20], true @ affine)
    assert found.accepted
    corners = np.array([[60.0, 180, 60, 180], [60, 60, 180, 180], [1, 1, 1, 1]])
    assert np.linalg.norm(((found.matrix - true) @ corners)[:2], axis=0).mean() < 2


def template_t1() -> tuple[np.ndarray, np.ndarray]:
    """A T1-like contrast of the MNI152 tissue maps at 3 mm, skull-stripped: (X, Y, Z) and its affine."""
    template = load_template()
    csf = np.clip(1 - template.gm - template.wm, 0, 1) * (template.depth < 0)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = template.origin
    return (0.56 * template.gm + 0.78 * template.wm + 0.2 * csf)[::3, ::3, ::3], affine


@pytest.mark.parametrize(("kind", "apart_mm"), [("rigid", 3.0), ("affine", 5.0)])
def test_ct_template_against_mr_template(real_data: Path, kind, apart_mm):
    """Two templates of one space differ a little; beyond that, a known motion has to be found again."""
    import nibabel

    image = nibabel.load(real_data / "volumes" / "ct_template_scct.nii.gz")
    ct, affine = image.get_fdata(dtype=np.float32), image.affine
    mri, mri_affine = template_t1()
    true = motion((7, -5, 8), (10, -14, 6))
    still, moved = (register(ct, affine, mri, each @ mri_affine, kind=kind) for each in (np.eye(4), true))
    assert moved.accepted
    assert error_mm(mri, mri_affine, np.linalg.inv(still.matrix), np.eye(4)) < apart_mm
    assert error_mm(mri, mri_affine, np.linalg.inv(moved.matrix) @ true, np.linalg.inv(still.matrix)) < 1.0


def test_summary_holds_plain_values():
    ct, mri, affine = heads()
    summary = register(ct, affine, mri, motion((3, 0, 0), (9, 0, 0)) @ affine, spacing_mm=8.0).summary()
    assert {type(value) for value in summary.values()} <= {float, str}
    assert "seconds" not in summary


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "elastic"}, "^kind: "), ({"spacing_mm": 0.0}, "^spacing_mm: "), ({"samples": 0}, "^samples: "),
     ({"levels": 0}, "^levels: ")],
)  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        register(np.zeros((8, 8, 8)), np.eye(4), np.zeros((8, 8, 8)), np.eye(4), **options)


def test_volume_against_picture():
    with pytest.raises(InputError, match="got 3 and 2 axes"):
        register(np.zeros((8, 8, 8)), np.eye(4), np.zeros((8, 8)), np.eye(3))
