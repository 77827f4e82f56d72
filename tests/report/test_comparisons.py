"""Figures that compare methods hold the numbers they were given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from monai_ctmri.errors import InputError
from monai_ctmri.report.canvas import figure_palette, save_figure
from monai_ctmri.report.comparisons import (
    auroc_forest,
    confusion_matrix,
    kind_by_method_heatmap,
    precision_recall_curves,
    roc_curves,
)

DASH = "\N{EN DASH}"
GENERATOR = np.random.default_rng(11)
TRUTH = np.repeat([0, 1], 40)
SCORES = TRUTH + GENERATOR.normal(size=80)
ROWS = [
    {"name": "Slice mean", "group": "trivial baseline", "value": 0.55, "low": 0.31, "high": 0.62},
    {"name": "Denoiser", "group": "network", "value": 0.86, "low": 0.8, "high": 0.91},
    {"name": "Custom", "group": "of a user", "value": 0.7, "low": None, "high": None},
    {"name": "Mahalanobis", "group": "one-class", "value": None, "low": None, "high": None},
    {"name": "Mirror", "group": "network", "value": 0.7, "low": 0.6, "high": 0.8},
]
KINDS, METHODS = ["haemorrhage", "infarct"], ["Denoiser", "Mean", "Random"]
VALUES = [[0.9, 0.6, 0.5], [0.2, None, float("nan")]]


def roc() -> tuple[np.ndarray, np.ndarray, str]:
    fpr, tpr, _ = roc_curve(TRUTH, SCORES)
    return fpr, tpr, f"{roc_auc_score(TRUTH, SCORES):.3f}"


def texts_of(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


EVERY = {
    "roc": lambda theme: roc_curves({"Denoiser": roc()}, theme=theme),
    "precision": lambda theme: precision_recall_curves({"Denoiser": ([0, 1], [1, 0.5], "0.7")}, 0.5, theme=theme),
    "confusion": lambda theme: confusion_matrix(5, 1, 9, 2, 0.7, theme=theme),
    "forest": lambda theme: auroc_forest(ROWS, theme=theme),
    "heatmap": lambda theme: kind_by_method_heatmap(KINDS, METHODS, VALUES, theme=theme),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", EVERY)
def test_every_figure_draws_in_both_themes(name: str, theme: str, tmp_path) -> None:
    figure = EVERY[name](theme)
    save_figure(figure, tmp_path / f"{name}.png", dpi=50)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert to_rgb(figure.get_facecolor()[:3]) == to_rgb(figure_palette(theme).surface)


@pytest.mark.parametrize("name", EVERY)
def test_an_unknown_theme_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="theme"):
        EVERY[name]("sepia")


def test_roc_curve_encloses_the_area_it_names() -> None:
    axes = roc_curves({"Denoiser": roc()}).axes[0]
    curve, chance = axes.lines
    assert auc(*curve.get_xydata().T) == pytest.approx(roc_auc_score(TRUTH, SCORES))
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    named = axes.get_legend_handles_labels()[1]
    assert named == [f"Denoiser: {roc_auc_score(TRUTH, SCORES):.3f}", "chance: 0.5"]


def test_curves_of_many_methods_differ_in_colour_or_line() -> None:
    axes = roc_curves({f"method {index}": roc() for index in range(8)}).axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines[:-1]}
    assert len(looks) == 8


def test_precision_is_drawn_in_steps_with_the_prevalence() -> None:
    precision, recall, _ = precision_recall_curve(TRUTH, SCORES)
    axes = precision_recall_curves({"Denoiser": (recall, precision, "")}, 0.5).axes[0]
    curve, line = axes.lines
    assert curve.get_xydata() == pytest.approx(np.column_stack([recall, precision]))
    assert curve.get_drawstyle().startswith("steps")
    assert set(line.get_ydata()) == {0.5}
    assert axes.get_legend_handles_labels()[1] == ["Denoiser", "random score: prevalence 0.50"]


def test_precision_without_prevalence_or_curves() -> None:
    assert precision_recall_curves({}, None).axes[0].get_legend() is None


@pytest.mark.parametrize("draw", [roc_curves, lambda curves: precision_recall_curves(curves, 0.5)])
def test_curves_of_unlike_length_are_refused(draw) -> None:
    with pytest.raises(InputError, match="Denoiser"):
        draw({"Denoiser": ([0, 1], [0], "")})


def test_confusion_matrix_states_counts_and_shares_of_each_class() -> None:
    axes = confusion_matrix(tp=6, fp=1, tn=9, fn=2, threshold=0.123456).axes[0]
    placed = {(text.get_position()[0], round(text.get_position()[1])): [] for text in axes.texts}
    for text in axes.texts:
        placed[text.get_position()[0], round(text.get_position()[1])].append(text.get_text())
    assert placed[0, 0] == ["9", "90% · correctly passed"]
    assert placed[1, 0] == ["1", "10% · false alarm"]
    assert placed[0, 1] == ["2", "25% · missed"]
    assert placed[1, 1] == ["6", "75% · correctly found"]
    assert axes.get_xlabel() == "Threshold: 0.1235"
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "normal truth is the top row"


@pytest.mark.parametrize("threshold", [None, float("inf")])
def test_confusion_matrix_of_an_empty_class_and_no_threshold(threshold: float | None) -> None:
    axes = confusion_matrix(0, 0, 4, 0, threshold).axes[0]
    assert axes.get_xlabel() == "Threshold: infinite"
    assert f"{DASH} · missed" in texts_of(axes)
    assert "100% · correctly passed" in texts_of(axes)


def test_forest_groups_the_methods_in_the_order_of_the_house() -> None:
    axes = auroc_forest(ROWS).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [
        "Network", "Denoiser", "Mirror", "One-class", "Mahalanobis", "Trivial baseline", "Slice mean",
        "Of a user", "Custom",
    ]  # fmt: skip


def test_forest_places_values_and_intervals() -> None:
    axes = auroc_forest(ROWS).axes[0]
    dots = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert dots == {1: 0.86, 2: 0.7, 6: 0.55, 8: 0.7}
    bars = [line.get_xdata() for line in axes.lines if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
    assert [0.8, 0.91] in [list(bar) for bar in bars]
    assert len(bars) == 3, "a row without an interval has a dot alone"
    assert texts_of(axes) == ["0.860  [0.800, 0.910]", "0.700  [0.600, 0.800]", DASH, "0.550  [0.310, 0.620]", "0.700"]
    assert axes.get_xlim()[0] < 0.31
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in axes.lines)


def test_forest_of_nothing_is_an_empty_axis() -> None:
    assert len(auroc_forest([]).axes) == 1


def test_kind_heatmap_is_centred_on_chance() -> None:
    axes, bar = kind_by_method_heatmap(KINDS, METHODS, VALUES).axes
    image = axes.images[0]
    assert image.get_clim() == (0, 1)
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False, False, False], [False, True, True]]
    assert texts_of(axes) == ["0.90", "0.60", "0.50", "0.20", DASH, DASH]
    above, chance, below = (np.asarray(image.cmap(value)[:3]) for value in (1.0, 0.5, 0.0))
    assert above[2] > above[0], "above chance is blue"
    assert below[0] > below[2], "below chance is orange"
    assert np.ptp(chance) < 0.1, "chance is grey"
    assert "0.5 chance" in [label.get_text() for label in bar.get_yticklabels()]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_on_the_heatmap_can_be_read(theme: str) -> None:
    values = np.linspace(0, 1, 21)[None]
    axes = kind_by_method_heatmap(["kind"], [str(index) for index in range(21)], values, theme=theme).axes[0]

    def luminance(colour) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for text, value in zip(axes.texts, values[0], strict=True):
        pair = sorted([luminance(text.get_color()), luminance(axes.images[0].cmap(float(value))[:3])])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def test_kind_heatmap_refuses_a_table_of_another_shape() -> None:
    with pytest.raises(InputError, match="2 kinds by 3 methods"):
        kind_by_method_heatmap(KINDS, METHODS, [[0.5, 0.5]])
