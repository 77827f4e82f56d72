"""Figures show the numbers they were given: read back from the artists and compared with formulas."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import StepPatch

from monai_ctmri.errors import InputError
from monai_ctmri.report import figures
from monai_ctmri.report.canvas import figure_palette
from monai_ctmri.report.figures import (
    calibration_curve,
    latent_view,
    p_value_histogram,
    save_figure,
    score_distributions,
    training_curves,
)

GENERATOR = np.random.default_rng(5)
NORMAL = GENERATOR.gamma(6, 0.5, 60)
KINDS = {"haemorrhage": GENERATOR.gamma(6, 0.5, 20) + 3, "infarct": GENERATOR.gamma(6, 0.5, 25) + 1}
KIND_LIST = ["normal"] * 40 + ["haemorrhage"] * 10 + ["infarct"] * 5
PLANE = GENERATOR.normal(size=(55, 2))
DISTANCES = np.hypot(*PLANE.T)

EVERY = {
    "training_curves": lambda theme: training_curves([1, 2, 3], [3, 2, 1], [3.5, 2.5, 2.6], 2, theme=theme),
    "score_distributions": lambda theme: score_distributions(NORMAL, KINDS, 5.0, "residual", theme=theme),
    "latent_view": lambda theme: latent_view(PLANE, KIND_LIST, DISTANCES, theme=theme),
    "p_value_histogram": lambda theme: p_value_histogram([0.1, 0.5, 0.9], [0.01, 0.02], theme=theme),
    "calibration_curve": lambda theme: calibration_curve([0.05, 0.1], [0.04, 0.12], [0, 0.05], [0.1, 0.2], theme=theme),
}


def labels_of(axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def stairs_of(axes) -> list[np.ndarray]:
    """Values of the outlines (the filled twin of each is left out)."""
    return [patch.get_data().values for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", EVERY)
def test_every_figure_draws_in_both_themes(name: str, theme: str, tmp_path) -> None:
    figure = EVERY[name](theme)
    save_figure(figure, tmp_path / f"{name}.png", dpi=50)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert to_rgb(figure.get_facecolor()[:3]) == to_rgb(figure_palette(theme).surface)
    assert all(axes.get_xlabel() for axes in figure.axes[-1:])


@pytest.mark.parametrize("name", EVERY)
def test_an_unknown_theme_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="theme"):
        EVERY[name]("sepia")


def test_the_names_of_all_figures_are_offered_here() -> None:
    wanted = ["roc_curves", "precision_recall_curves", "confusion_matrix", "auroc_forest", "kind_by_method_heatmap"]
    assert set(wanted) < set(figures.__all__)
    assert all(callable(getattr(figures, name)) for name in figures.__all__)


def test_training_curves_hold_the_losses_and_the_kept_epoch() -> None:
    axes = training_curves([1, 2, 3], [3, 2, 1], [None, 2.5, float("nan")], 2).axes[0]
    train, validation, kept = axes.lines
    assert train.get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    assert validation.get_xydata().tolist() == [[2, 2.5]]
    assert kept.get_xdata()[0] == 2
    assert labels_of(axes) == ["training", "validation", "kept: epoch 2"]
    assert axes.get_yscale() == "linear"


def test_training_curves_turn_logarithmic_over_a_wide_range() -> None:
    assert training_curves([1, 2], [1.0, 0.04], None, None).axes[0].get_yscale() == "log"
    assert training_curves([1, 2], [1.0, -0.04], None, None).axes[0].get_yscale() == "linear"


def test_training_curves_without_validation_or_epochs() -> None:
    assert labels_of(training_curves([1, 2], [2, 1], None, None).axes[0]) == ["training"]
    assert not training_curves([], [], None, None).axes[0].lines


def test_training_curves_refuse_columns_of_unlike_length() -> None:
    with pytest.raises(InputError, match=r"\[2, 1, 2\]"):
        training_curves([1, 2], [1], None, 1)


def test_score_histograms_are_shares_of_their_own_group() -> None:
    top, _ = score_distributions(NORMAL, KINDS, None, "residual").axes
    normal, abnormal = stairs_of(top)
    assert normal.sum() == pytest.approx(1)
    assert abnormal.sum() == pytest.approx(1)
    everything = np.concatenate([NORMAL, *KINDS.values()])
    edges = np.linspace(everything.min(), everything.max(), 41)
    assert normal == pytest.approx(np.histogram(NORMAL, edges)[0] / 60)
    assert labels_of(top) == ["normal (n = 60)", "abnormal (n = 45)"]


def test_score_rows_show_every_case_and_the_median() -> None:
    _, below = score_distributions(NORMAL, KINDS, None, "residual").axes
    assert [label.get_text() for label in below.get_yticklabels()] == [
        "normal (60)",
        "haemorrhage (20)",
        "infarct (25)",
    ]
    for points, values in zip(below.collections, [NORMAL, *KINDS.values()], strict=True):
        assert np.asarray(points.get_offsets())[:, 0] == pytest.approx(values)
    medians = [line.get_xdata()[0] for line in below.lines if line.get_marker() == "o"]
    assert medians == pytest.approx([np.median(values) for values in (NORMAL, *KINDS.values())])
    assert below.get_xlabel() == "Score: residual"
    assert below.get_ylim()[0] > below.get_ylim()[1], "normal cases are the top row"


def test_threshold_line_is_drawn_only_when_finite() -> None:
    top, below = score_distributions(NORMAL, KINDS, 5.0, "residual").axes
    assert "threshold 5" in labels_of(top)
    assert [5.0, 5.0] in [list(line.get_xdata()) for line in below.lines]
    for none in (None, float("inf")):
        assert not any(
            "threshold" in label for label in labels_of(score_distributions(NORMAL, KINDS, none, "x").axes[0])
        )


def test_scores_over_decades_take_a_logarithmic_axis() -> None:
    assert score_distributions([1, 1.1, 1.2, 1.3], {"kind": [1000.0]}, None, "x").axes[0].get_xscale() == "log"
    assert score_distributions([1, 1.1, 1.2, 1.3], {"kind": [10.0]}, None, "x").axes[0].get_xscale() == "linear"


def test_score_distributions_of_few_or_odd_values(tmp_path) -> None:
    for index, (normal, kinds) in enumerate(
        [([], {}), ([1.0], {}), ([1.0, 1.0], {"a": [None, np.nan]}), ([], {"a": [2]})]
    ):
        save_figure(score_distributions(normal, kinds, None, "x"), tmp_path / f"{index}.png", dpi=40)
        assert (tmp_path / f"{index}.png").stat().st_size > 0


def test_no_kind_wears_the_colour_of_normal_cases() -> None:
    kinds = {f"kind {index}": [float(index)] for index in range(10)}
    _, below = score_distributions([0.0, 1.0], kinds, None, "x").axes
    colours = [tuple(points.get_facecolor()[0][:3]) for points in below.collections]
    assert colours[0] not in colours[1:]


def test_latent_view_places_cases_and_centroid() -> None:
    left, right = latent_view(PLANE, KIND_LIST, DISTANCES).axes
    normal, haemorrhage, infarct = (np.asarray(points.get_offsets()) for points in left.collections)
    assert normal == pytest.approx(PLANE[:40])
    assert haemorrhage == pytest.approx(PLANE[40:50])
    assert infarct == pytest.approx(PLANE[50:])
    assert left.lines[0].get_xydata()[0] == pytest.approx(PLANE[:40].mean(axis=0))
    assert labels_of(left) == ["normal (40)", "haemorrhage (10)", "infarct (5)", "normal centroid"]
    shares = stairs_of(right)
    assert [share.sum() for share in shares] == pytest.approx([1, 1])
    assert shares[0] == pytest.approx(np.histogram(DISTANCES[:40], np.linspace(0, DISTANCES.max(), 31))[0] / 40)


def test_latent_view_without_normals_or_cases() -> None:
    assert not latent_view(PLANE[:3], ["a", "b", "a"], [1, 2, 3]).axes[0].lines
    assert len(latent_view(np.empty((0, 2)), [], []).axes) == 2


@pytest.mark.parametrize("shape", [(5, 3), (5,)])
def test_latent_view_refuses_other_than_a_plane(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(N, 2\)"):
        latent_view(np.zeros(shape), ["normal"] * 5, np.zeros(5))


def test_latent_view_refuses_unlike_lengths() -> None:
    with pytest.raises(InputError, match="lengths"):
        latent_view(np.zeros((5, 2)), ["normal"] * 4, np.zeros(5))


def test_p_values_are_counted_in_twenty_bins() -> None:
    normal = np.linspace(0.025, 0.975, 20)
    axes = p_value_histogram(normal, [0.01, 0.02, 0.03, 0.99, None]).axes[0]
    even, near = stairs_of(axes)
    assert even == pytest.approx(np.full(20, 0.05)), "evenly spread p-values lie on the expected line"
    assert near[0] == pytest.approx(0.75)
    assert near[-1] == pytest.approx(0.25)
    assert axes.lines[0].get_ydata()[0] == pytest.approx(0.05)


def test_p_values_may_be_absent() -> None:
    assert labels_of(p_value_histogram([], []).axes[0]) == ["expected of normal cases"]


def test_calibration_curve_shows_rates_intervals_and_the_diagonal() -> None:
    alphas, realised, low, high = [0.01, 0.05, 0.1], [0.0, 0.06, 0.09], [0.0, 0.03, 0.05], [0.02, 0.1, 0.15]
    axes = calibration_curve(alphas, realised, low, high).axes[0]
    diagonal, rates = axes.lines
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert rates.get_xydata() == pytest.approx(np.column_stack([alphas, realised]))
    segments = axes.collections[0].get_segments()
    assert [segment[:, 1].tolist() for segment in segments] == [[0.0, 0.02], [0.03, 0.1], [0.05, 0.15]]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[1] > 0.15


def test_many_rates_take_a_band_instead_of_bars() -> None:
    alphas = np.linspace(0.01, 0.5, 50)
    axes = calibration_curve(alphas, alphas, alphas * 0.8, np.minimum(alphas * 1.2, 1)).axes[0]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.6)
    assert axes.lines[1].get_marker() in ("None", None, "")


def test_calibration_curve_refuses_unlike_lengths() -> None:
    with pytest.raises(InputError, match="calibration curve"):
        calibration_curve([0.1], [0.1], [0.0], [])
