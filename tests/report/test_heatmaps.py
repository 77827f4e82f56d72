"""Heatmaps: one fixed scale, nothing hidden, truth where it is, shapes checked."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from skimage.segmentation import find_boundaries

from monai_ctmri.errors import InputError
from monai_ctmri.report.canvas import save_figure
from monai_ctmri.report.heatmaps import heatmap_panel, overlay

GENERATOR = np.random.default_rng(3)
IMAGE = GENERATOR.uniform(0, 1, (24, 20))
CYAN = (87, 235, 250)


def disc(shape: tuple[int, int] = (24, 20), centre: tuple[int, int] = (8, 12), radius: float = 4.5) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.hypot(rows - centre[0], columns - centre[1]) < radius


def case(**changes) -> dict:
    entry = {
        "title": "sub-01",
        "images": {"CT": IMAGE, "MRI": IMAGE[::-1]},
        "reconstructions": {"CT": IMAGE * 0.9, "MRI": IMAGE[::-1] * 0.9},
        "map": disc() * 0.8,
        "mask": disc(),
    }
    return {**entry, **changes}


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def pictures(figure) -> list[np.ndarray]:
    """Pictures in colour: heatmaps over anatomy (the colour bar has one column)."""
    arrays = [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]
    return [array for array in arrays if array.ndim == 3 and array.shape[1] > 1]


def test_where_nothing_is_abnormal_the_anatomy_is_untouched() -> None:
    picture = overlay(IMAGE, np.zeros_like(IMAGE), 1.0)
    assert picture.dtype == np.uint8
    assert picture.shape == (24, 20, 3)
    assert np.array_equal(picture, np.repeat(np.rint(IMAGE * 255).astype(np.uint8)[..., None], 3, axis=2))


def test_blending_follows_the_formula() -> None:
    share = 0.5
    opacity = 0.9 * share**0.75
    colour = np.asarray(colormaps["inferno"](0.25 + 0.75 * share)[:3])
    expected = np.rint(255 * (0.4 * (1 - opacity) + colour * opacity))
    assert overlay(np.full((1, 1), 0.4), np.full((1, 1), 3.0), 6.0)[0, 0].tolist() == expected.tolist()


def test_the_scale_is_fixed_whatever_else_is_in_the_map() -> None:
    quiet, loud = np.zeros((4, 4)), np.full((4, 4), 9.0)
    quiet[1, 1] = loud[1, 1] = 0.3
    grey = np.full((4, 4), 0.5)
    assert np.array_equal(overlay(grey, quiet, 1.0)[1, 1], overlay(grey, loud, 1.0)[1, 1])


def test_values_beyond_the_scale_take_its_ends() -> None:
    grey = np.full((1, 5), 0.5)
    row = overlay(grey, np.array([[1.0, 7.0, np.inf, -2.0, np.nan]]), 1.0)[0]
    assert row[0].tolist() == row[1].tolist() == row[2].tolist()
    assert row[3].tolist() == row[4].tolist() == [128, 128, 128]


def test_hotter_means_more_on_dark_and_on_bright_anatomy() -> None:
    values = np.linspace(0, 1, 50)[None]
    on_black = overlay(np.zeros((1, 50)), values, 1.0)[0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(on_black) >= -0.5).all()
    on_white = overlay(np.ones((1, 50)), values, 1.0)[0].astype(float)
    saturation = on_white.max(axis=1) - on_white.min(axis=1)
    assert saturation[-1] > 50 > saturation[0]


def test_row_zero_is_the_top() -> None:
    values = np.zeros((6, 4))
    values[0] = 1
    picture = overlay(np.zeros((6, 4)), values, 1.0)
    assert picture[0].min() > 0
    assert picture[1:].max() == 0


def test_images_beyond_their_range_and_with_a_channel_are_taken() -> None:
    picture = overlay(np.array([[[-1.0, 2.0, np.nan]]]), np.zeros((1, 1, 3)), 1.0)
    assert picture.tolist() == [[[0] * 3, [255] * 3, [0] * 3]]


def test_the_outline_is_the_inner_border_of_the_truth() -> None:
    mask = disc()
    picture = overlay(np.zeros(mask.shape), np.zeros(mask.shape), 1.0, mask)
    drawn = (picture == CYAN).all(axis=2)
    assert np.array_equal(drawn, find_boundaries(mask, connectivity=1, mode="inner"))


def test_an_empty_truth_draws_nothing() -> None:
    plain = overlay(IMAGE, disc() * 0.5, 1.0)
    assert np.array_equal(overlay(IMAGE, disc() * 0.5, 1.0, np.zeros_like(IMAGE)), plain)


def test_inputs_are_left_as_they_were() -> None:
    image, values, mask = IMAGE.copy(), disc() * 0.5, disc()
    overlay(image, values, 1.0, mask)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(mask, disc())


@pytest.mark.parametrize("vmax", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_without_an_end_is_refused(vmax: float) -> None:
    with pytest.raises(InputError, match="vmax"):
        overlay(IMAGE, IMAGE, vmax)


@pytest.mark.parametrize(
    ("image", "values", "mask", "named"),
    [
        (IMAGE, IMAGE[1:], None, "anomaly map"),
        (IMAGE, IMAGE, IMAGE[1:], "mask"),
        (IMAGE[None].repeat(2, axis=0), IMAGE, None, "image"),
        (IMAGE[0], IMAGE, None, "image"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(image, values, mask, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        overlay(image, values, 1.0, mask)
    assert "\n" not in str(caught.value)


def test_panel_names_its_columns_once() -> None:
    figure = heatmap_panel([case(), case()], 1.0)
    assert titles(figure) == ["CT", "MRI", "CT expected", "MRI expected", "Anomaly map"]


def test_panel_shows_the_images_on_the_range_of_the_contract() -> None:
    figure = heatmap_panel([case()], 1.0)
    greys = [image for axes in figure.axes for image in axes.images if np.asarray(image.get_array()).ndim == 2]
    assert len(greys) == 4
    assert all(image.get_clim() == (0, 1) for image in greys)
    assert np.array_equal(np.asarray(greys[0].get_array()), IMAGE)
    assert all(image.axes.get_ylim()[0] > image.axes.get_ylim()[1] for image in greys), "row 0 is the top"


def test_panel_lays_the_map_over_the_last_modality_on_one_scale_for_all_rows() -> None:
    faint = case(map=disc() * 0.1)
    figure = heatmap_panel([case(), faint], 0.8)
    first, second = pictures(figure)
    assert np.array_equal(first, overlay(IMAGE[::-1], disc() * 0.8, 0.8))
    assert np.array_equal(second, overlay(IMAGE[::-1], disc() * 0.1, 0.8))


def test_panel_outlines_the_truth_where_it_is() -> None:
    figure = heatmap_panel([case(), case(mask=None), case(mask=np.zeros((24, 20)))], 1.0)
    outlines = [axes.collections for axes in figure.axes if axes.collections]
    assert len(outlines) == 1
    vertices = np.concatenate([path.vertices for path in outlines[0][0].get_paths()])
    assert np.hypot(vertices[:, 0] - 12, vertices[:, 1] - 8) == pytest.approx(4.5, abs=0.75)


def test_panel_labels_case_kind_score_and_p_value() -> None:
    figure = heatmap_panel([case(kind="haemorrhage", score=1.2345, p_value=0.00499), case(title="sub-02\nnote")], 1.0)
    assert texts(figure)[:4] == ["sub-01", "haemorrhage", "score 1.23", "p = 0.00499"]
    assert {"sub-02", "note"} <= set(texts(figure))


def test_panel_leaves_a_missing_modality_open() -> None:
    only_mri = case(images={"MRI": IMAGE}, reconstructions={"MRI": IMAGE})
    figure = heatmap_panel([case(), only_mri], 1.0)
    assert titles(figure) == ["CT", "MRI", "CT expected", "MRI expected", "Anomaly map"]
    assert texts(figure).count("not given") == 2


def test_panel_of_one_modality_without_reconstruction() -> None:
    figure = heatmap_panel([case(images={"CT": IMAGE}, reconstructions={})], 1.0)
    assert titles(figure) == ["CT", "Anomaly map"]


def test_panel_bar_reads_zero_to_the_end_of_the_scale() -> None:
    figure = heatmap_panel([case()], 0.8)
    bar = figure.axes[-1]
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "0.4", "≥ 0.8"]
    assert bar.get_ylim() == (0, 0.8)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("rows", [1, 3])
def test_panel_is_written_in_both_themes(theme: str, rows: int, tmp_path) -> None:
    save_figure(heatmap_panel([case()] * rows, 1.0, theme=theme), tmp_path / "panel.png", dpi=50)
    assert (tmp_path / "panel.png").read_bytes().startswith(b"\x89PNG")


def test_panel_refuses_no_case_no_image_and_no_scale() -> None:
    with pytest.raises(InputError, match="no case"):
        heatmap_panel([], 1.0)
    with pytest.raises(InputError, match=r"sub-01 second line.*no image"):
        heatmap_panel([case(images={}, title="sub-01\nsecond line")], 1.0)
    with pytest.raises(InputError, match="vmax"):
        heatmap_panel([case()], 0.0)
