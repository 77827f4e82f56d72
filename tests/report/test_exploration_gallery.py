"""Checkerboards and differences against arrays worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ctmri.errors import InputError
from monai_ctmri.report.exploration_gallery import (
    GalleryImage,
    checkerboard,
    finding_gallery,
    pair_gallery,
    sample_gallery,
    signed_difference,
    unit_range,
)

RAMP = np.arange(101.0)[None] * np.ones((4, 1))


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def pictures(figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_checkerboard_by_hand():
    found = checkerboard(np.zeros((4, 6)), np.ones((4, 6)), tiles=2)
    assert found.tolist() == [
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
    ]


def test_checkerboard_of_a_tiny_plane_has_fields_of_one_pixel():
    assert checkerboard(np.zeros((2, 2)), np.ones((2, 2))).tolist() == [[0, 1], [1, 0]]


def test_checkerboard_of_one_picture_with_itself_is_that_picture():
    plane = np.random.default_rng(0).random((33, 47))
    assert np.array_equal(checkerboard(plane, plane), plane)


def test_unit_range_by_hand():
    # Of 0 to 100 the 1st percentile is 1 and the 99th is 99.
    found = unit_range(RAMP)
    assert found[0, [0, 1, 50, 99, 100]] == pytest.approx([0, 0, 0.5, 1, 1])


def test_one_hot_pixel_does_not_set_the_range():
    plane = RAMP.copy()
    plane[0, 0] = 1e6
    assert unit_range(plane)[1, 50] == pytest.approx(0.5, abs=0.02)


def test_a_few_bright_pixels_on_black_still_show():
    plane = np.zeros((100, 100))
    plane[3, 3] = 7
    assert unit_range(plane)[3, 3] == 1
    assert unit_range(np.full((3, 3), 5.0)).tolist() == np.zeros((3, 3)).tolist()


def test_difference_by_hand_and_its_sign():
    found = signed_difference(RAMP, RAMP[:, ::-1])
    assert found[0, [0, 50, 100]] == pytest.approx([-1, 0, 1])
    assert signed_difference(RAMP[:, ::-1], RAMP) == pytest.approx(-found)


def test_difference_does_not_depend_on_either_scale():
    assert signed_difference(3 * RAMP + 40, RAMP - 1000) == pytest.approx(np.zeros_like(RAMP))


@pytest.mark.parametrize("compare", [checkerboard, signed_difference])
def test_unequal_sizes_are_not_compared(compare):
    with pytest.raises(InputError, match="differ in size"):
        compare(np.zeros((2, 3)), np.zeros((3, 2)))


def test_a_row_a_pair_with_checkerboard_and_difference():
    ct, mri = RAMP, RAMP[:, ::-1]
    figure = pair_gallery([(GalleryImage("ct/1.png", ct), GalleryImage("mri/1.png", mri))] * 2)
    shown = pictures(figure)
    assert len(shown) == 8
    assert shown[0] == pytest.approx(unit_range(ct))
    assert shown[1] == pytest.approx(unit_range(mri))
    assert shown[2] == pytest.approx(checkerboard(unit_range(ct), unit_range(mri)))
    assert shown[3] == pytest.approx(signed_difference(ct, mri))
    difference = next(axes for axes in figure.axes if axes.images and axes.images[0].get_cmap().name == "RdBu_r")
    assert difference.images[0].get_clim() == (-1, 1)
    assert {"CT", "MRI", "Checkerboard", "CT − MRI", "ct/1.png", "mri/1.png"} <= set(texts(figure))
    assert [axes.get_label() for axes in figure.axes].count("scale") == 1
    assert any("CT brighter" in text for text in texts(figure))


def test_a_pair_of_unequal_sizes_or_a_broken_file_says_so():
    pairs = [
        (GalleryImage("a", np.eye(5)), GalleryImage("b", np.eye(6))),
        (GalleryImage("c", None), GalleryImage("d", np.eye(6))),
    ]
    shown = "\n".join(texts(pair_gallery(pairs)))
    assert shown.count("sizes differ:\n5 × 5 and 6 × 6") == 2
    assert shown.count("not both\ncould be read") == 2
    assert "cannot be\ndecoded" in shown


def test_samples_have_a_row_a_modality_and_no_comparison():
    rows = {"CT": [GalleryImage("x", np.eye(4))] * 3, "MRI": [GalleryImage("y", np.eye(4))]}
    figure = sample_gallery(rows)
    assert len(pictures(figure)) == 4
    assert {"CT", "MRI"} <= set(texts(figure))
    assert not any("Checkerboard" in text for text in texts(figure))


def test_findings_stand_below_their_file(tmp_path):
    images = [GalleryImage(f"{number}.png", np.eye(4), remarks=("wrong modality", "cut off")) for number in range(7)]
    figure = finding_gallery(images, theme="dark")
    assert len(pictures(figure)) == 7
    assert texts(figure).count("wrong modality\ncut off") == 7
    figure.savefig(tmp_path / "x.png", dpi=30)


def test_every_cell_is_square_whatever_the_picture_is():
    tall, thick = np.zeros((40, 10)), np.zeros((10, 20))
    figure = finding_gallery([GalleryImage("a", tall), GalleryImage("b", thick, aspect=4.0)])
    for axes, (rows, aspect) in zip(figure.axes, ((40, 1.0), (10, 4.0)), strict=False):
        left, right = axes.get_xlim()
        bottom, top = axes.get_ylim()
        assert abs(right - left) == pytest.approx(abs(top - bottom) * aspect)
        assert abs(right - left) == pytest.approx(40)
        assert (bottom + top) / 2 == pytest.approx(rows / 2 - 0.5)


def test_names_with_signs_of_formulas_are_shown_as_they_are(tmp_path):
    figure = sample_gallery({"CT": [GalleryImage("$x^{$_\\frac.png", np.eye(3)), GalleryImage("a" * 80, np.eye(3))]})
    figure.savefig(tmp_path / "x.png", dpi=30)
    assert any(text.startswith("…aaa") and len(text) == 26 for text in texts(figure))
