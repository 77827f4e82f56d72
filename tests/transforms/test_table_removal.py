"""Table removal on drawn heads with ears, scalp and holders of known place, and on real pictures."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.data.reading.volumes import read_volume
from monai_ctmri.transforms.loading import LoadSlice
from monai_ctmri.transforms.table_removal import RemoveTable, RemoveTabled

SIDE = 160
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
RADIUS = np.hypot(ROWS - 75, COLUMNS - 80)


def drawn(gap: float = 8.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head of radius 50 in HU with skull, fat, skin and two thin ears; its mask; the mask of a holder below."""
    hu = np.select([RADIUS < 42, RADIUS < 46, RADIUS < 49, RADIUS < 50], [35.0, 1000.0, -90.0, 45.0], -1000.0)
    ears = (np.abs(ROWS - 75) < 2) & (np.abs(COLUMNS - 80) < 61) & (RADIUS >= 50)
    holder = (np.abs(RADIUS - 51.5 - gap) < 1.5) & (ROWS > 100)
    hu[ears], hu[holder] = 20.0, 150.0
    return hu[None].astype(np.float32), (RADIUS < 50) | ears, holder


def window(hu: np.ndarray) -> np.ndarray:
    return (np.clip(hu / 80, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("gap", [4.0, 8.0, 15.0])
def test_holder_goes_and_head_stays(windowed: bool, gap: float):
    hu, head, holder = drawn(gap)
    image = window(hu) if windowed else hu
    out = np.asarray(RemoveTable()(image))[0]
    np.testing.assert_array_equal(out[head], image[0][head])
    far = holder & (RADIUS > 64)
    gone = holder if not (windowed and gap < 13) else far
    np.testing.assert_array_equal(out[gone], 0.0 if windowed else -1000.0)


def test_holder_that_touches_leaves_a_short_rest_only():
    hu, head, _ = drawn(15)
    shell = (np.abs(ROWS - 126) < 2) & (np.abs(COLUMNS - 80) < 70)  # a board the head lies on
    hu[0][shell] = 150.0
    out = np.asarray(RemoveTable()(hu))[0]
    np.testing.assert_array_equal(out[head], hu[0][head])
    assert (out[shell & (np.abs(COLUMNS - 80) > 40)] == -1000).all()


def test_letters_go():
    hu, head, _ = drawn()
    picture = window(hu)
    picture[0, 4:16, 4:6] = 255
    out = np.asarray(RemoveTable()(picture))[0]
    assert not out[:20, :20].any()
    np.testing.assert_array_equal(out[head], picture[0][head])


def test_mask_is_what_was_kept():
    hu, head, holder = drawn()
    out, mask = RemoveTable().separate(hu)
    kept = np.asarray(mask)[0] > 0
    assert kept[head].all()
    assert not kept[holder].any()
    np.testing.assert_array_equal(np.asarray(out)[0][kept], hu[0][kept])
    assert (np.asarray(out)[0][~kept] == -1000).all()


def test_margin_widens_the_mask():
    hu, *_ = drawn(15)
    areas = [float(RemoveTable(margin).separate(hu)[1].sum()) for margin in (0.0, 0.04, 0.1)]
    assert areas[0] < areas[1] < areas[2]
    # an annulus of 10 % of the radius: pi ((1.1 r)^2 - r^2), plus the ears'
    assert areas[2] - areas[0] == pytest.approx(0.21 * np.pi * 50**2, rel=0.35)


@pytest.mark.parametrize("value", [-1000.0, 0.0])
def test_nothing_stands_out(value: float):
    flat = np.full((1, 64, 64), value, dtype=np.float32)
    np.testing.assert_array_equal(RemoveTable()(flat), flat)


def test_large_pictures_are_worked_on_coarsely_and_nothing_is_lost():
    hu, head, holder = drawn()
    big = np.kron(hu[0], np.ones((4, 4), dtype=np.float32))[None]
    out = np.asarray(RemoveTable()(big))[0]
    many = np.kron(head, np.ones((4, 4))) > 0
    np.testing.assert_array_equal(out[many], big[0][many])
    assert (out[np.kron(holder, np.ones((4, 4))) > 0] == -1000).all()


def test_volume_knows_the_planes_above_the_head():
    """Planes with nothing but holder hold no head; slice by slice the holder would be it."""
    hu, head, holder = drawn()
    empty = np.where(holder, np.float32(150), np.float32(-1000))
    volume = MetaTensor(np.stack([hu[0]] * 4 + [empty] * 2, -1)[None], affine=np.diag([1.0, 1.0, 6.0, 1.0]))
    out = np.asarray(RemoveTable()(volume))[0]
    assert (out[..., 4:][holder] == -1000).all()
    for plane in range(4):
        np.testing.assert_array_equal(out[..., plane][head], hu[0][head])


def test_phantom_heads_lose_nothing():
    subject = draw_subject(5, PhantomSettings(size=96, slices=4))
    for hu, tissue in zip(subject.ct, subject.tissue, strict=True):
        out = np.asarray(RemoveTable()(hu[None]))[0]
        np.testing.assert_array_equal(out[tissue > 0], hu[tissue > 0])


def test_dictionary_and_mask_entry():
    hu, *_ = drawn()
    out = RemoveTabled(mask_key="head")({"ct": hu, "mri": hu})
    expected, mask = RemoveTable().separate(hu)
    np.testing.assert_array_equal(out["ct"], expected)
    np.testing.assert_array_equal(out["head"], mask)
    assert out["mri"] is hu
    assert "head" not in RemoveTabled()({"ct": hu})


def test_windowed_by_meta_or_option():
    hu, *_ = drawn()
    shown = window(hu).astype(np.float32)
    by_meta = RemoveTable()(MetaTensor(shown, meta={"windowed": True}))
    np.testing.assert_array_equal(by_meta, RemoveTable(windowed=True)(shown))
    assert by_meta.min() == 0
    after = MetaTensor(shown / 255, meta={"windowed": False, "window": (40.0, 80.0)})
    assert RemoveTable()(after).min() == 0


@pytest.mark.parametrize("margin", [-0.1, float("nan")])
def test_margin_out_of_range(margin: float):
    with pytest.raises(ValueError, match="margin"):
        RemoveTable(margin)


def test_shape_is_checked():
    with pytest.raises(ValueError, match="shape"):
        RemoveTable()(np.zeros((8, 8)))


def test_real_volume_loses_its_holder(real_data):
    volume = read_volume(real_data / "volumes" / "ct_head_ge_upper14_hu.nii.gz")
    image = MetaTensor(volume.array[None], affine=volume.affine, meta={"windowed": False})
    out, mask = (np.asarray(each)[0] for each in RemoveTable().separate(image))
    top = volume.array[..., 13] > -400
    assert (mask[..., 13][top] > 0).mean() < 0.95  # the side walls of the holder, clear of the head here
    assert (mask[volume.array > 300] > 0).mean() > 0.95
    bone = volume.array > 600
    np.testing.assert_array_equal(out[bone], volume.array[bone])


def test_real_pictures_lose_arcs_and_keep_the_brain(real_data):
    for name, corner in (("21014.png", (200, 240)), ("16015.png", (200, 240))):
        picture = LoadSlice()(real_data / "pairs" / "ct" / name)
        out = np.asarray(RemoveTable()(picture))[0]
        before = np.asarray(picture)[0]
        np.testing.assert_array_equal(out[60:180, 80:170], before[60:180, 80:170])
        assert before[corner[0] :, corner[1] :].any() or before[200:, :20].any()
        assert not out[corner[0] :, corner[1] :].any()
        assert not out[200:, :20].any()
