"""Figures of a run: every function turns numbers into a Matplotlib :class:`~matplotlib.figure.Figure`.

Training, scores, latent space and calibration are drawn here; those that compare methods come from
:mod:`monai_ctmri.report.comparisons` and are offered here too. All take ``theme="light"`` or ``"dark"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from monai_ctmri.errors import InputError
from monai_ctmri.report.canvas import (
    FULL_WIDTH,
    HALF_WIDTH,
    FigurePalette,
    draw_axes,
    draw_legend,
    draw_title,
    figure_palette,
    finish,
    finite,
    new_figure,
    same_length,
    save_figure,
)
from monai_ctmri.report.comparisons import (
    auroc_forest,
    confusion_matrix,
    kind_by_method_heatmap,
    precision_recall_curves,
    roc_curves,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "auroc_forest",
    "calibration_curve",
    "confusion_matrix",
    "kind_by_method_heatmap",
    "latent_view",
    "p_value_histogram",
    "precision_recall_curves",
    "roc_curves",
    "save_figure",
    "score_distributions",
    "training_curves",
]

NORMAL_KIND = "normal"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


def _kind_colours(kinds: Sequence[str], colours: FigurePalette) -> dict[str, str]:
    """Normal keeps its colour; the kinds take the others in order."""
    # The second blue of the cycle would be taken for normal.
    others = [colour for colour in colours.cycle if colour not in (colours.normal, colours.cycle[5])]
    return {kind: others[index % len(others)] for index, kind in enumerate(kinds)}


def _share_bars(axes: Axes, values: np.ndarray, edges: np.ndarray, colour: str, label: str) -> None:
    """A histogram as the share of its own cases, so that groups of unequal size compare."""
    if values.size:
        share = np.histogram(values, edges)[0] / values.size
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(share, edges, color=colour, linewidth=1.6, label=f"{label} (n = {values.size})")


def training_curves(
    epochs: Sequence[int],
    train_loss: Sequence[float],
    validation_loss: Sequence[float] | None,
    best_epoch: int | None,
    *,
    theme: str = "light",
) -> Figure:
    """Loss against epoch, with the epoch whose weights were kept. The loss axis turns logarithmic past a factor of 20.

    Args:
        epochs: epoch numbers, length E.
        train_loss: mean training loss an epoch, length E.
        validation_loss: validation loss an epoch, length E (NaN or None where it was not computed), or None.
        best_epoch: the epoch that was kept, or None.
        theme: ``light`` or ``dark``.

    Raises:
        InputError: when the columns differ in length.
    """
    from matplotlib.ticker import MaxNLocator

    colours = figure_palette(theme)
    validation = [None] * len(epochs) if validation_loss is None else list(validation_loss)
    same_length("training curves", epochs, train_loss, validation)
    figure = new_figure(theme, HALF_WIDTH, 3.5)
    axes = draw_axes(figure, colours, grid="both")
    every = np.concatenate([finite(train_loss), finite(validation)])
    if every.size and every.min() > 0 and every.max() / every.min() > 20:
        axes.set_yscale("log")
    for losses, colour, style, label in (
        (train_loss, colours.normal, "-", "training"),
        (validation, colours.abnormal, "--", "validation"),
    ):
        points = [(x, y) for x, y in zip(epochs, losses, strict=True) if y is not None and np.isfinite(y)]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                linestyle=style,
                linewidth=2,
                label=label,
                marker="o",
                markersize=2.5,
            )
    if best_epoch is not None:
        axes.axvline(best_epoch, color=colours.muted, linewidth=1, linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.set(xlabel="Epoch", ylabel="Loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if every.size or best_epoch is not None:
        draw_legend(axes)
    return finish(figure, colours)


def score_distributions(
    normal: Sequence[float],
    abnormal_by_kind: Mapping[str, Sequence[float]],
    threshold: float | None,
    method: str,
    *,
    theme: str = "light",
) -> Figure:
    """Scores of normal against abnormal cases: histograms above, every case by kind below, on one axis.

    Args:
        normal: scores of normal cases; higher is more abnormal.
        abnormal_by_kind: kind of anomaly to the scores of its cases.
        threshold: a case is called abnormal above it; None (or infinity) draws no line.
        method: name of the score, the label of the axis.
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    groups = {NORMAL_KIND: finite(normal), **{str(kind): finite(values) for kind, values in abnormal_by_kind.items()}}
    kinds = list(groups)[1:]
    abnormal = np.concatenate([groups[kind] for kind in kinds]) if kinds else np.empty(0)
    every = np.concatenate([groups[NORMAL_KIND], abnormal])
    height = 2.3 + 0.36 * len(groups)
    figure = new_figure(theme, FULL_WIDTH, height + 0.5)
    grid = figure.add_gridspec(2, 1, height_ratios=[2.0, 0.36 * len(groups) + 0.3])
    top = draw_axes(figure, colours, grid[0])
    below = draw_axes(figure, colours, grid[1], grid="x", sharex=top)
    low, high = (every.min(), every.max()) if every.size else (0.0, 1.0)
    # Errors of unlike cases span decades; a linear axis would then press all normals into one bar.
    logarithmic = bool(every.size and low > 0 and high > 30 * np.median(every))
    high = high if high > low else low + 1.0
    edges = np.geomspace(low, high, 41) if logarithmic else np.linspace(low, high, 41)
    if logarithmic:
        top.set_xscale("log")
    _share_bars(top, groups[NORMAL_KIND], edges, colours.normal, "normal")
    _share_bars(top, abnormal, edges, colours.abnormal, "abnormal")
    tint = {NORMAL_KIND: colours.normal, **_kind_colours(kinds, colours)}
    scatter = np.random.default_rng(0)
    for row, (kind, values) in enumerate(groups.items()):
        if not values.size:
            continue
        below.scatter(values, row + scatter.uniform(-0.24, 0.24, values.size), s=9, color=tint[kind], alpha=0.45, lw=0)
        quarter, median, third = np.percentile(values, [25, 50, 75])
        below.plot([quarter, third], [row, row], color=tint[kind], linewidth=5, alpha=0.55, solid_capstyle="round")
        below.plot(median, row, "o", markersize=7, color=tint[kind], markeredgecolor=colours.surface)
    if threshold is not None and np.isfinite(threshold):
        for axes, label in ((top, f"threshold {threshold:.3g}"), (below, None)):
            axes.axvline(threshold, color=colours.ink, linewidth=1.2, linestyle=(0, (4, 3)), label=label)
    below.set(xlabel=f"Score: {method}", yticks=range(len(groups)), ylim=(len(groups) - 0.45, -0.55))
    below.set_yticklabels([f"{kind} ({values.size})" for kind, values in groups.items()], color=colours.ink)
    below.spines["left"].set_visible(False)
    below.tick_params(axis="y", length=0)
    top.tick_params(labelbottom=False)
    top.set(ylabel="Share of cases", ylim=(0, None))
    if every.size:
        draw_legend(top, loc="upper right")
    return finish(figure, colours)


def latent_view(
    features: np.ndarray, kinds: Sequence[str], distances: Sequence[float], *, theme: str = "light"
) -> Figure:
    """The latent space: its plane of two principal components, and the distance of every case to the normal centroid.

    Args:
        features: PCA coordinates, shape (N, 2); the PCA is fitted by the caller, on normal cases.
        kinds: ``normal`` or the kind of anomaly, length N.
        distances: distance to the centroid of the normal cases in the full latent space, length N.
        theme: ``light`` or ``dark``.

    Raises:
        InputError: when ``features`` is not of shape (N, 2) or the columns differ in length.
    """
    colours = figure_palette(theme)
    plane = np.asarray(features, float)
    if plane.ndim != 2 or plane.shape[1] != 2:
        raise InputError.about(
            "latent features", f"shape {plane.shape} is not (N, 2)", "give two PCA coordinates a case"
        )
    same_length("latent view", plane, kinds, distances)
    names, far = np.asarray([str(kind) for kind in kinds]), np.asarray(distances, float)
    others = list(dict.fromkeys(name for name in names if name != NORMAL_KIND))
    tint = {NORMAL_KIND: colours.normal, **_kind_colours(others, colours)}
    figure = new_figure(theme, FULL_WIDTH, 4.4)
    grid = figure.add_gridspec(1, 2, width_ratios=[1.15, 1])
    left, right = draw_axes(figure, colours, grid[0], grid="both"), draw_axes(figure, colours, grid[1])
    for index, kind in enumerate([NORMAL_KIND, *others]):
        at = names == kind
        size, opacity = (16, 0.5) if kind == NORMAL_KIND else (26, 0.85)
        marker = _MARKERS[index % len(_MARKERS)]
        label = f"{kind} ({at.sum()})"
        left.scatter(
            plane[at, 0], plane[at, 1], s=size, color=tint[kind], label=label, marker=marker, alpha=opacity, lw=0
        )
    normal = plane[names == NORMAL_KIND]
    if len(normal):
        left.plot(
            *normal.mean(axis=0), "+", color=colours.ink, markersize=13, markeredgewidth=2, label="normal centroid"
        )
    left.set(xlabel="Principal component 1", ylabel="Principal component 2")
    draw_title(left, colours, "Latent features, first two components")
    left.margins(0.06)
    if names.size:
        columns = 2 if len(others) > 3 else 1
        draw_legend(left, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=columns + 1, handletextpad=0.3)
    every = finite(far)
    edges = np.linspace(0, (every.max() if every.size else 1.0) or 1.0, 31)
    _share_bars(right, finite(far[names == NORMAL_KIND]), edges, colours.normal, "normal")
    _share_bars(right, finite(far[names != NORMAL_KIND]), edges, colours.abnormal, "abnormal")
    right.set(xlabel="Distance to the normal centroid", ylabel="Share of cases", xlim=(0, None), ylim=(0, None))
    draw_title(right, colours, "How far from normal")
    if every.size:
        draw_legend(right, loc="upper right")
    return finish(figure, colours)


def p_value_histogram(normal_p: Sequence[float], abnormal_p: Sequence[float], *, theme: str = "light") -> Figure:
    """Conformal p-values: even over [0, 1] for normal cases when the calibration holds, near 0 for found anomalies.

    Args:
        normal_p: p-values of normal test cases, in [0, 1].
        abnormal_p: p-values of abnormal test cases, in [0, 1].
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    figure = new_figure(theme, HALF_WIDTH, 4.0)
    axes = draw_axes(figure, colours)
    edges = np.linspace(0, 1, 21)
    _share_bars(axes, finite(normal_p), edges, colours.normal, "normal")
    _share_bars(axes, finite(abnormal_p), edges, colours.abnormal, "abnormal")
    axes.axhline(1 / 20, color=colours.muted, linewidth=1.2, linestyle=(0, (2, 3)), label="expected of normal cases")
    axes.set(xlabel="p-value", ylabel="Share of cases", xlim=(0, 1))
    draw_legend(axes, loc="upper right")
    return finish(figure, colours)


def calibration_curve(
    alphas: Sequence[float],
    realised: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    theme: str = "light",
) -> Figure:
    """False-alarm rate that was asked for against the one realised on normal test cases, with its interval.

    Args:
        alphas: nominal rates in [0, 1], length A.
        realised: realised rates in [0, 1], length A.
        low: lower ends of the 95 % intervals, length A.
        high: upper ends, length A.
        theme: ``light`` or ``dark``.

    Raises:
        InputError: when the columns differ in length.
    """
    colours = figure_palette(theme)
    same_length("calibration curve", alphas, realised, low, high)
    nominal, rate, bottom, top = (np.asarray(column, float) for column in (alphas, realised, low, high))
    figure = new_figure(theme, HALF_WIDTH, 4.0)
    axes = draw_axes(figure, colours, grid="both", aspect="equal")
    reach = 1.08 * float(np.nanmax(np.concatenate([nominal, top, [0.01]])))
    axes.plot([0, reach], [0, reach], color=colours.muted, linewidth=1.2, linestyle=(0, (2, 3)), label="as asked for")
    dense = nominal.size > 12  # that many bars would touch
    if dense:
        axes.fill_between(nominal, bottom, top, color=colours.normal, alpha=0.22, lw=0, label="95 % interval")
    else:
        axes.vlines(nominal, bottom, top, color=colours.normal, linewidth=4, alpha=0.35, label="95 % interval")
    style = "-" if dense else "-o"
    axes.plot(nominal, rate, style, color=colours.normal, linewidth=1.8, markersize=5.5, label="realised")
    axes.set(xlim=(0, reach), ylim=(0, reach), xlabel="False-alarm rate asked for", ylabel="False-alarm rate realised")
    draw_legend(axes, loc="upper left")
    return finish(figure, colours)
