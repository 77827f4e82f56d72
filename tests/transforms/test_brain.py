"""Head and brain masks: drawn heads whose truth is known, and real pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.data.anatomy import TISSUES
from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.data.reading.volumes import read_volume
from monai_ctmri.errors import InputError
from monai_ctmri.transforms import BrainMask, BrainMaskd, HeadMask, HeadMaskd, LoadSlice, NormalizeMRI, WindowCT

Y, X = np.mgrid[:128, :128]
R = np.hypot((Y - 63.5) / 56, (X - 63.5) / 46)


def head(gap_degrees: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """CT (1, 128, 128) and the true intracranial region; the skull is open over ``gap_degrees`` at the front."""
    brain, skull, scalp = R < 0.84, (R >= 0.84) & (R < 0.94), (R >= 0.94) & (R < 1)
    front = np.abs(np.rad2deg(np.arctan2(X - 63.5, 63.5 - Y))) < gap_degrees / 2
    ct = np.select([brain, skull & ~front, skull | scalp], [0.42, 1.0, 0.35], 0.0)
    ct[60:66, 50:78] = np.where(brain[60:66, 50:78], 0.05, ct[60:66, 50:78])  # ventricle
    return ct[None].astype(np.float32), brain


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def as_bool(mask: object) -> np.ndarray:
    values = np.asarray(mask)
    assert values.shape[0] == 1
    assert set(np.unique(values)) <= {0.0, 1.0}
    return values[0] > 0


# -------------------------------------------------------------------------------------------------------------- head


def test_head_is_the_filled_ellipse():
    np.testing.assert_array_equal(as_bool(HeadMask()(head()[0])), R < 1)


def test_head_ignores_table_and_fills_holes():
    ct, _ = head()
    ct[0, 124:126, 10:118] = 1.0  # table
    ct[0, 2, 2] = 0.9
    ct[0, 70:80, 60:70] = 0.0  # air inside
    np.testing.assert_array_equal(as_bool(HeadMask()(ct)), R < 1)


def test_head_is_the_union_of_channels():
    left, right = (np.where(side, head()[0], 0) for side in (X < 70, X >= 60))
    np.testing.assert_array_equal(as_bool(HeadMask()(np.concatenate([left, right]))), R < 1)


@pytest.mark.parametrize("erode", [1, 4])
def test_head_erosion_is_scipys(erode: int):
    expected = ndimage.binary_erosion(R < 1, iterations=erode)
    np.testing.assert_array_equal(as_bool(HeadMask(erode=erode)(head()[0])), expected)


def test_head_threshold():
    image = np.zeros((1, 9, 9), dtype=np.float32)
    image[0, 2:7, 2:7], image[0, 3:6, 3:6] = 0.2, 0.5
    assert as_bool(HeadMask(0.1)(image)).sum() == 25
    assert as_bool(HeadMask(0.3)(image)).sum() == 9


def test_blank_gives_an_empty_mask():
    blank = np.zeros((2, 16, 16), dtype=np.float32)
    assert not as_bool(HeadMask(erode=2)(blank)).any()
    assert not as_bool(BrainMask()(blank)).any()


@pytest.mark.parametrize(("options", "word"), [({"threshold": 1.0}, "threshold"), ({"erode": -1}, "erode")])
def test_head_arguments(options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        HeadMask(**options)


# ------------------------------------------------------------------------------------------------------------- brain


def test_brain_inside_a_closed_skull_is_exact():
    ct, brain = head()
    np.testing.assert_array_equal(as_bool(BrainMask()(ct)), brain)


@pytest.mark.parametrize("gap_degrees", [4, 10, 25])
def test_brain_with_an_open_skull(gap_degrees: float):
    """Sutures and orbits open the ring; the region must not leak into the scalp by more than the gap's corner."""
    ct, brain = head(gap_degrees)
    assert dice(as_bool(BrainMask()(ct)), brain) > 0.98


def test_calcification_and_dense_blood_belong_to_the_brain():
    ct, brain = head()
    ct[0, 80:86, 70:78] = 1.0
    np.testing.assert_array_equal(as_bool(BrainMask()(ct)), brain)


def test_ct_channel_is_the_one_asked_for():
    ct, brain = head()
    mri = np.where(R < 1, 0.6, 0).astype(np.float32)[None]
    np.testing.assert_array_equal(as_bool(BrainMask(ct_channel=1)(np.concatenate([mri, ct]))), brain)


@pytest.mark.parametrize("ct_channel", [0, None])
def test_without_ct_the_head_is_eroded_by_a_share_of_its_radius(ct_channel: int | None):
    disc = np.hypot(Y - 63.5, X - 63.5) < 50
    mask = as_bool(BrainMask(ct_channel)(np.where(disc, 0.6, 0).astype(np.float32)[None]))
    assert mask.sum() / disc.sum() == pytest.approx(0.85**2, abs=0.02)  # a disc of radius r - 0.15 r
    assert not (mask & ~disc).any()


def test_empty_ct_falls_back_to_the_other_channel():
    mri = np.where(R < 1, 0.6, 0).astype(np.float32)[None]
    alone = as_bool(BrainMask(None)(mri))
    np.testing.assert_array_equal(as_bool(BrainMask()(np.concatenate([np.zeros_like(mri), mri]))), alone)


def test_size_of_a_pixel_does_not_matter():
    ct, brain = head(10)
    large = np.kron(ct, np.ones((1, 3, 3), dtype=np.float32))
    assert dice(as_bool(BrainMask()(large)), np.kron(brain, np.ones((3, 3))) > 0) > 0.98


def test_head_cut_by_the_edge_of_the_picture():
    ct, brain = head()
    cut = ct[:, 20:, 24:]
    mask = as_bool(BrainMask()(cut))
    assert mask.any()
    assert mask[brain[20:, 24:]].mean() > 0.5


def test_brain_threshold_is_checked():
    with pytest.raises(ValueError, match="threshold"):
        BrainMask(threshold=-0.1)


# --------------------------------------------------------------------------------------- Hounsfield units and volumes


def hounsfield(gap_degrees: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The head of :func:`head` in HU: air -1000, fat of the scalp -80, brain 35, bone 900."""
    ct, brain = head(gap_degrees)
    return np.interp(ct, [0, 0.05, 0.35, 0.42, 1.0], [-1000, 5, -80, 35, 900]).astype(np.float32), brain


def volume(sizes: np.ndarray, orientation: str, hu: bool = False) -> tuple[MetaTensor, np.ndarray]:
    """A stack of heads scaled in size, and the true regions, stored in an orientation; (C, X, Y, Z)."""
    import nibabel

    ct, brain = hounsfield() if hu else head()
    planes, regions = [], []
    for size in sizes:
        index = np.stack([(Y - 63.5) / size + 63.5, (X - 63.5) / size + 63.5])
        planes.append(ndimage.map_coordinates(ct[0], index, order=0, cval=ct.min()))
        regions.append(ndimage.map_coordinates(brain.astype(float), index, order=0) > 0)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(orientation)
    )
    out = []
    for stack in (planes, regions):
        image = nibabel.Nifti1Image(np.stack(stack, axis=-1).astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0]))
        out.append(image.as_reoriented(turn))
    arrays = [np.array(each.dataobj, dtype=np.float32) for each in out]
    return MetaTensor(torch.from_numpy(arrays[0][None]), affine=torch.from_numpy(out[0].affine)), arrays[1] > 0


def test_brain_from_hounsfield_units():
    ct, brain = hounsfield()
    np.testing.assert_array_equal(as_bool(BrainMask()(ct)), brain)
    np.testing.assert_array_equal(as_bool(HeadMask()(ct)), R < 1)  # fat is head, though under 0 HU


def test_dense_blood_at_the_skull_stays_brain_in_hounsfield_units():
    """At 90 HU it saturates a brain window and joins the bone; in HU it does not."""
    ct, brain = hounsfield()
    clot = brain & (R > 0.74) & (X > 80)
    ct[0][clot] = 90
    assert as_bool(BrainMask()(ct))[clot].all()
    assert not as_bool(BrainMask()(np.asarray(WindowCT(windowed=False)(ct))))[clot].all()


def test_clipped_hounsfield_units_are_known_by_meta():
    ct, brain = hounsfield()
    clipped = MetaTensor(torch.tensor(ct.clip(-200, 1000)), meta={"windowed": False, "modality": "ct"})
    np.testing.assert_array_equal(as_bool(BrainMask()(clipped)), brain)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SRA", "ASL"])
@pytest.mark.parametrize("hu", [False, True])
def test_volume_is_taken_along_its_axial_axis(orientation: str, hu: bool):
    image, brain = volume(np.array([0.8, 0.9, 1.0, 0.9, 0.7]), orientation, hu)
    mask = BrainMask()(image)
    assert mask.shape == image.shape
    np.testing.assert_array_equal(as_bool(mask), brain)
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_volume_keeps_one_component():
    image, brain = volume(np.array([1.0, 1.0, 1.0]), "RAS")
    array = np.concatenate([np.asarray(image), np.zeros_like(image), np.asarray(image)[..., :1]], axis=-1)
    mask = as_bool(BrainMask()(array))
    np.testing.assert_array_equal(mask[..., :3], brain)
    assert not mask[..., 3:].any()
    assert not as_bool(HeadMask()(array))[..., 3:].any()


def test_slices_without_a_skull_stay_empty_where_others_have_one():
    image, _ = volume(np.array([1.0, 1.0, 1.0]), "RAS")
    array = np.asarray(image).copy()
    array[..., 2] = np.minimum(array[..., 2], 0.5)
    mask = BrainMask()(array)
    assert not as_bool(mask)[..., 2].any()
    assert mask.meta["brain_method"] == "skull"


def test_other_numbers_of_axes():
    for made in (HeadMask(), BrainMask()):
        with pytest.raises(ValueError, match="expected a slice"):
            made(np.ones((4, 4)))


# ----------------------------------------------------------------------------------------------- millimetres, methods


@pytest.mark.parametrize("spacing", [0.5, 2.0])
def test_erosion_in_millimetres(spacing: float):
    ct, brain = head()
    for mask, truth in (
        (HeadMask(erode_mm=6.0, pixel_spacing_mm=spacing)(ct), R < 1),
        (BrainMask(erode_mm=6.0, pixel_spacing_mm=spacing)(ct), brain),
    ):
        np.testing.assert_array_equal(as_bool(mask), ndimage.distance_transform_edt(truth) * spacing > 6.0)


def test_erosion_asks_the_affine_of_a_volume():
    image, brain = volume(np.ones(6), "SRA")
    mask = as_bool(BrainMask(erode_mm=6.0)(image))
    expected = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=(5.0, 2.0, 2.0))[1:-1, 1:-1, 1:-1] > 6
    np.testing.assert_array_equal(mask, expected)
    assert mask[2:4].any()
    assert not mask[0].any()


def test_erosion_needs_a_size():
    for made in (HeadMask(erode_mm=2.0), BrainMask(erode_mm=2.0)):
        with pytest.raises(InputError, match="pixel_spacing_mm"):
            made(head()[0])
    for transform in (HeadMask, BrainMask):
        with pytest.raises(ValueError, match="erode_mm"):
            transform(erode_mm=-1)
    with pytest.raises(ValueError, match="inset, ring"):
        BrainMask(method="best")


def test_meta_says_what_was_used():
    ct, _ = head()
    subject = draw_subject(3, PhantomSettings(size=96, slices=1, contrast="T2"))
    disc = (R < 1).astype(np.float32)[None]
    assert BrainMask()(ct).meta["brain_method"] == "skull"
    assert BrainMask(None)(subject.mri).meta["brain_method"] == "inset"
    assert BrainMask(None, method="ring")(subject.mri).meta["brain_method"] == "ring"
    assert BrainMask(None, method="ring")(disc).meta["brain_method"] == "inset"
    assert BrainMask()(np.zeros((1, 32, 32), dtype=np.float32)).meta["brain_method"] == ""


def test_ring_takes_the_channel_that_is_not_ct_and_only_where_ct_fails():
    subject = draw_subject(3, PhantomSettings(size=96, slices=1, contrast="T2"))
    ct = np.asarray(WindowCT(windowed=False)(subject.ct))
    mri = np.asarray(NormalizeMRI()(subject.mri))
    truth = np.isin(subject.tissue[0], [TISSUES.index(name) for name in ("csf", "gm", "wm", "dura", "calcification")])
    ring = as_bool(BrainMask(None, method="ring")(mri))
    assert dice(ring, truth) > 0.97
    both = np.concatenate([np.zeros_like(ct), mri])
    np.testing.assert_array_equal(as_bool(BrainMask(0, method="ring")(both)), ring)
    with_ct = np.concatenate([ct, mri])
    np.testing.assert_array_equal(as_bool(BrainMask(method="ring")(with_ct)), as_bool(BrainMask()(with_ct)))


def test_phantom_ct_in_hounsfield_units_is_closer_than_in_its_window():
    subject = draw_subject(5, PhantomSettings(size=128, slices=3))
    inside = [TISSUES.index(name) for name in ("csf", "gm", "wm", "dura", "calcification")]
    for ct, tissue in zip(subject.ct, subject.tissue, strict=True):
        truth = np.isin(tissue, inside)
        hu, windowed = (as_bool(BrainMask()(one)) for one in (ct[None], WindowCT(windowed=False)(ct[None])))
        assert dice(hu, truth) > 0.97
        assert dice(hu, truth) > dice(windowed, truth)


# ------------------------------------------------------------------------------------------------------ dictionaries


def test_dictionary_passes_options_on():
    ct, _ = head()
    out = BrainMaskd(erode_mm=4.0, pixel_spacing_mm=1.0, method="ring")({"image": ct})
    np.testing.assert_array_equal(out["brain"], BrainMask(erode_mm=4.0, pixel_spacing_mm=1.0)(ct))
    out = HeadMaskd(erode_mm=4.0, pixel_spacing_mm=1.0)({"image": ct})
    np.testing.assert_array_equal(out["head"], HeadMask(erode_mm=4.0, pixel_spacing_mm=1.0)(ct))


@pytest.mark.parametrize(
    ("transform", "array", "output"), [(HeadMaskd, HeadMask, "head"), (BrainMaskd, BrainMask, "brain")]
)
def test_dictionary(transform: type, array: type, output: str):
    ct, _ = head()
    out = transform()({"image": ct, "subject": "a"})
    np.testing.assert_array_equal(out[output], array()(ct))
    assert out["image"] is ct


@pytest.mark.parametrize("transform", [HeadMaskd, BrainMaskd])
def test_one_output_a_key(transform: type):
    ct, _ = head()
    out = transform(("a", "b"), ("mask_a", "mask_b"), allow_missing_keys=True)({"b": ct})
    assert "mask_a" not in out
    assert out["mask_b"].shape == (1, 128, 128)
    with pytest.raises(ValueError, match="output_key"):
        transform(("a", "b"))


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize("number", range(16009, 16017))
def test_real_pairs(real_data, number: int):
    pairs = real_data / "pairs"
    ct = np.asarray(WindowCT()(LoadSlice()(pairs / "ct" / f"{number}.png")))
    mri = np.asarray(NormalizeMRI()(LoadSlice()(pairs / "mri" / f"{number}.png")))
    image = np.concatenate([ct, mri])
    whole = as_bool(HeadMask()(image))
    masks = {"both": BrainMask()(image), "ct": BrainMask()(ct), "mri": BrainMask(None)(mri)}
    for name, mask in masks.items():
        share = as_bool(mask).sum() / whole.sum()
        assert 0.2 < share < 0.8, name
        assert whole[as_bool(mask)].mean() > 0.99, name
    inside = ct[0][as_bool(masks["both"])]
    assert (inside >= 0.99).mean() < 0.01  # no skull
    assert (inside > 0.1).mean() > 0.9  # no air
    assert dice(as_bool(masks["both"]), as_bool(masks["ct"])) > 0.97


def test_real_ct_volume(real_data):
    """Upper half of a head in HU: the region shrinks from slice to slice up to the vertex, where there is none."""
    ct = read_volume(real_data / "volumes" / "ct_head_ge_upper14_hu.nii.gz", "ct")
    image = MetaTensor(torch.tensor(ct.array[None]), affine=torch.tensor(ct.affine), meta={"modality": "ct"})
    mask = as_bool(BrainMask()(image))
    areas = mask.sum(axis=(0, 1)) * 0.9765624**2 / 100
    assert areas[:4].min() > 150
    assert areas[:4].max() < 210  # cm2
    assert (np.diff(areas[3:]) < 0).all()
    assert areas[-1] == 0
    inside = ct.array[mask]
    assert (inside > 300).mean() < 0.01
    assert (inside < -100).mean() < 0.001
