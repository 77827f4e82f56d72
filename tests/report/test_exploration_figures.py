"""Densities integrate to one, background is out of the curves, bars and points carry the counts."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ctmri.errors import InputError
from monai_ctmri.report.exploration_figures import IntensityCurve, image_sizes, intensity_distributions

GENERATOR = np.random.default_rng(3)


def curve(modality: str = "ct", unit: str = "grey level", background: float = 0) -> IntensityCurve:
    counts = np.bincount(np.clip(GENERATOR.normal(100, 20, 20000), 1, 255).astype(int), minlength=256)
    counts[0] = 30000
    return IntensityCurve(modality, unit, np.arange(256.0), counts, background)


def texts(figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_background_is_stated_and_not_drawn():
    one = curve()
    assert one.background_share == pytest.approx(0.6)
    density, edges = one.density()
    assert edges[0] >= 0.5
    assert np.sum(density * np.diff(edges)) == pytest.approx(1, abs=0.01)
    assert "60% of pixels are background" in texts(intensity_distributions([one]))


def test_bins_of_whole_grey_levels_hold_equally_many():
    values = np.arange(1.0, 201.0)
    density, edges = IntensityCurve("ct", "grey level", values, np.full(200, 7), 0).density()
    widths = np.diff(edges)
    assert np.all(widths == widths[0])
    assert widths[0] == np.rint(widths[0])
    # Every level is as frequent as any other, so the density is flat; the last bin may reach past the last level.
    assert density[:-1] == pytest.approx(np.full(density.size - 1, 1 / 200), rel=0.02)


def test_values_between_whole_numbers_get_even_bins():
    values = np.linspace(0.05, 0.95, 1000)
    density, edges = IntensityCurve("mri", "arbitrary unit", values, np.ones(1000), 0).density()
    assert density.size == 48
    assert np.sum(density * np.diff(edges)) == pytest.approx(1, abs=0.01)


def test_nothing_but_background_is_no_error():
    empty = IntensityCurve("ct", "grey level", np.array([0.0]), np.array([9]), 0)
    assert empty.background_share == 1
    assert intensity_distributions([empty]).axes


def test_a_window_that_clipped_much_does_not_press_the_rest_flat():
    one = curve()
    one.counts[255] = 20000
    figure = intensity_distributions([one])
    density, _ = one.density()
    axes = figure.axes[0]
    assert axes.get_ylim()[1] < density.max()
    assert axes.get_ylim()[1] >= density[:-1].max()
    assert "have the highest value" in texts(figure)


def test_one_panel_a_modality_and_one_with_both():
    assert len(intensity_distributions([curve()]).axes) == 1
    figure = intensity_distributions([curve(), curve("mri")])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["CT", "MRI", "Both"]
    assert figure.axes[-1].get_xlabel() == "Grey level"
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["CT", "MRI"]


def test_unlike_units_are_laid_over_each_other_on_their_own_ranges():
    figure = intensity_distributions([curve(unit="HU"), curve("mri", "arbitrary unit")])
    assert figure.axes[-1].get_xlabel() == "Share of each one's own range"
    low, high = figure.axes[-1].get_xlim()
    assert low > -0.2
    assert high < 1.2


def test_bars_have_the_lengths_of_the_counts():
    sizes = [
        {"shape": [512, 512], "modality": "ct", "images": 30},
        {"shape": [512, 512], "modality": "mri", "images": 12},
        {"shape": [225, 300], "modality": "mri", "images": 5},
    ]
    axes = image_sizes(sizes).axes[0]
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert widths == [[30, 0], [12, 5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["512 × 512", "225 × 300"]


def test_many_sizes_become_points_with_width_to_the_right():
    sizes = [{"shape": [100 + index, 300 - index], "modality": "mri", "images": index + 1} for index in range(20)]
    axes = image_sizes(sizes).axes[0]
    (points,) = axes.collections
    assert points.get_offsets().tolist() == [[300 - index, 100 + index] for index in range(20)]
    assert "210 images, 20 sizes" in texts(axes.figure)


def test_many_sizes_of_volumes_stay_bars():
    sizes = [{"shape": [10, 10, index + 1], "modality": "ct", "images": 1} for index in range(20)]
    axes = image_sizes(sizes).axes[0]
    assert len(axes.containers[0]) == 12


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_can_be_saved(theme, tmp_path):
    intensity_distributions([curve()], theme=theme).savefig(tmp_path / "a.png", dpi=40)
    assert (tmp_path / "a.png").stat().st_size > 500
    with pytest.raises(InputError, match="light or dark"):
        intensity_distributions([curve()], theme="blue")
