"""Figures that compare methods: curves, the forest of AUROCs, kinds by methods, decisions against truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ctmri.errors import InputError
from monai_ctmri.report.canvas import (
    FULL_WIDTH,
    HALF_WIDTH,
    MISSING,
    FigurePalette,
    draw_axes,
    draw_legend,
    figure_palette,
    finish,
    new_figure,
    same_length,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["auroc_forest", "confusion_matrix", "kind_by_method_heatmap", "precision_recall_curves", "roc_curves"]

_GROUP_COLOURS = {"network": 0, "one-class": 2, "fused": 1, "trivial baseline": 6, "source notes": 4}
_LINES = ("-", "--", "-.", ":")


def _square_curves(colours: FigurePalette, theme: str, curves: Mapping[str, Any], name: str, steps: bool) -> Figure:
    """Curves in the unit square, the legend below it so that it hides none."""
    figure = new_figure(theme, HALF_WIDTH, 4.3 + 0.22 * len(curves))
    axes = draw_axes(figure, colours, grid="both", aspect="equal")
    for index, (label, (across, up, text)) in enumerate(curves.items()):
        same_length(f"{name} {label}", across, up)
        colour, style = colours.cycle[index % len(colours.cycle)], _LINES[index % len(_LINES)]
        full = f"{label}: {text}" if text else str(label)
        axes.plot(
            across, up, style, color=colour, linewidth=1.9, label=full, drawstyle="steps-pre" if steps else "default"
        )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    return figure


def roc_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float], str]], *, theme: str = "light") -> Figure:
    """Receiver operating characteristic of several methods, with the diagonal of chance.

    Args:
        curves: method to (false-positive rate, true-positive rate, text of its AUROC), rates in [0, 1].
        theme: ``light`` or ``dark``.

    Raises:
        InputError: when the rates of a method differ in length.
    """
    colours = figure_palette(theme)
    figure = _square_curves(colours, theme, curves, "ROC of", steps=False)
    axes = figure.axes[0]
    axes.plot([0, 1], [0, 1], color=colours.muted, linewidth=1, linestyle=(0, (2, 3)), label="chance: 0.5")
    axes.set(xlabel="False-positive rate (1 \N{MINUS SIGN} specificity)", ylabel="True-positive rate (sensitivity)")
    draw_legend(axes, loc="upper left", bbox_to_anchor=(0, -0.16))
    return finish(figure, colours)


def precision_recall_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float], str]],
    prevalence: float | None,
    *,
    theme: str = "light",
) -> Figure:
    """Precision against recall of several methods, with the precision of a random score (the prevalence).

    Args:
        curves: method to (recall, precision, text of its average precision), in [0, 1].
        prevalence: share of abnormal cases in the set, or None.
        theme: ``light`` or ``dark``.

    Raises:
        InputError: when recall and precision of a method differ in length.
    """
    colours = figure_palette(theme)
    figure = _square_curves(colours, theme, curves, "precision-recall of", steps=True)
    axes = figure.axes[0]
    if prevalence is not None:
        label = f"random score: prevalence {prevalence:.2f}"
        axes.axhline(prevalence, color=colours.muted, linewidth=1, linestyle=(0, (2, 3)), label=label)
    axes.set(xlabel="Recall (sensitivity)", ylabel="Precision (positive predictive value)")
    if axes.get_legend_handles_labels()[0]:
        draw_legend(axes, loc="upper left", bbox_to_anchor=(0, -0.16))
    return finish(figure, colours)


def confusion_matrix(tp: int, fp: int, tn: int, fn: int, threshold: float | None, *, theme: str = "light") -> Figure:
    """Decisions at the calibrated threshold against truth: counts, and the share of each true class.

    Args:
        tp: abnormal cases called abnormal.
        fp: normal cases called abnormal.
        tn: normal cases called normal.
        fn: abnormal cases called normal.
        threshold: the threshold used; None for an infinite one.
        theme: ``light`` or ``dark``.
    """
    from matplotlib.colors import to_rgb

    colours = figure_palette(theme)
    figure = new_figure(theme, HALF_WIDTH, 4.0)
    axes = draw_axes(figure, colours, grid="")
    counts = np.array([[tn, fp], [fn, tp]])
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros((2, 2)), where=totals > 0)
    surface = np.asarray(to_rgb(colours.surface))
    right, wrong = np.asarray(to_rgb(colours.normal)), np.asarray(to_rgb(colours.abnormal))
    names = (("correctly passed", "false alarm"), ("missed", "correctly found"))
    for row in range(2):
        for column in range(2):
            tone = right if row == column else wrong
            blend = 0.06 + 0.34 * shares[row, column]
            axes.add_patch(_tile(column, row, tuple(surface * (1 - blend) + tone * blend)))
            share = f"{shares[row, column]:.0%}" if totals[row, 0] else MISSING
            for text, lift, size, weight, colour in (
                (f"{counts[row, column]}", -0.06, 21, "bold", colours.ink),
                (f"{share} · {names[row][column]}", 0.24, 9, "normal", colours.ink),
            ):
                axes.text(column, row + lift, text, ha="center", va="center", size=size, weight=weight, color=colour)
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), xticks=[0, 1], yticks=[0, 1])
    axes.set_xticklabels(["called normal", "called abnormal"])
    axes.set_yticklabels([f"normal\nn = {totals[0, 0]}", f"abnormal\nn = {totals[1, 0]}"])
    bare = threshold is None or not np.isfinite(threshold)
    axes.set(xlabel="Threshold: infinite" if bare else f"Threshold: {threshold:.4g}", ylabel="Truth")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return finish(figure, colours)


def _tile(column: float, row: float, colour: Any) -> Any:
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (column - 0.46, row - 0.45), 0.92, 0.9, boxstyle="round,pad=0,rounding_size=0.05", facecolor=colour, linewidth=0
    )


def auroc_forest(rows: Sequence[Mapping[str, Any]], *, theme: str = "light") -> Figure:
    """Forest of AUROCs: a line a method, by group, with its 95 % interval and the line of chance.

    Args:
        rows: dictionaries with ``name``, ``group``, ``value``, ``low``, ``high`` (in [0, 1]; None where unknown), in
            this order within a group, networks first, trivial baselines after the one-class detectors.
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get("group") or "other"), []).append(row)
    groups = dict(sorted(groups.items(), key=lambda item: (*_GROUP_COLOURS, item[0]).index(item[0])))
    lines = len(rows) + len(groups)
    figure = new_figure(theme, FULL_WIDTH, 1.1 + 0.29 * lines)
    axes = draw_axes(figure, colours, grid="x")
    labels: list[tuple[str, bool]] = []
    lowest = 0.4
    for index, (group, members) in enumerate(groups.items()):
        colour = colours.cycle[_GROUP_COLOURS.get(group, index + 1) % len(colours.cycle)]
        labels.append((group.capitalize(), True))
        for row in members:
            at = len(labels)
            labels.append((str(row["name"]), False))
            value, low, high = (_known(row.get(key)) for key in ("value", "low", "high"))
            text = MISSING if value is None else f"{value:.3f}"
            if low is not None and high is not None:
                axes.plot([low, high], [at, at], color=colour, linewidth=4, alpha=0.4, solid_capstyle="round")
                text += f"  [{low:.3f}, {high:.3f}]"
            if value is not None:
                axes.plot(value, at, "o", color=colour, markersize=7, markeredgecolor=colours.surface)
            axes.text(1.015, at, text, transform=axes.get_yaxis_transform(), va="center", size=9, color=colours.ink)
            lowest = min([lowest, *(number for number in (value, low) if number is not None)])
    axes.axvline(0.5, color=colours.muted, linewidth=1.2, linestyle=(0, (2, 3)))
    axes.set(xlim=(lowest - 0.02, 1.01), ylim=(lines - 0.3, -0.7), yticks=range(lines), xlabel="AUROC (0.5 is chance)")
    axes.set_yticklabels([text for text, _ in labels])
    for tick, (_, heading) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set(color=colours.muted if heading else colours.ink, fontweight="bold" if heading else "normal")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return finish(figure, colours)


def _known(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def kind_by_method_heatmap(
    kinds: Sequence[str], methods: Sequence[str], values: Any, *, theme: str = "light"
) -> Figure:
    """AUROC of every method on every kind of anomaly: blue above chance, orange below, pale at chance.

    Args:
        kinds: K kinds of anomaly, the rows.
        methods: M methods, the columns.
        values: AUROCs, shape (K, M), in [0, 1]; NaN or None where there is none.
        theme: ``light`` or ``dark``.

    Raises:
        InputError: when ``values`` is not of shape (K, M).
    """
    from matplotlib.colors import LinearSegmentedColormap

    colours = figure_palette(theme)
    table = np.array([[np.nan if cell is None else cell for cell in row] for row in values], float)
    if table.shape != (len(kinds), len(methods)):
        problem = f"shape {table.shape} does not fit {len(kinds)} kinds by {len(methods)} methods"
        raise InputError.about("AUROC by kind", problem, "give one row a kind")
    figure = new_figure(theme, FULL_WIDTH, 1.7 + 0.38 * len(kinds))
    axes = draw_axes(figure, colours, grid="")
    ends = ("#B84F00", "#0072B2") if theme == "light" else ("#E69F00", "#56B4E9")
    scale = LinearSegmentedColormap.from_list("chance", [ends[0], colours.grid, ends[1]]).with_extremes(
        bad=colours.surface
    )
    image = axes.imshow(np.ma.masked_invalid(table), cmap=scale, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        missing = not np.isfinite(value)
        axes.text(
            column, row, MISSING if missing else f"{value:.2f}", ha="center", va="center", size=9,
            color=colours.muted if missing else _ink_on(scale(float(value))),
        )  # fmt: skip
    axes.set(xticks=range(len(methods)), yticks=range(len(kinds)))
    axes.set_xticklabels(methods, rotation=30 if len(methods) > 5 else 0, ha="right" if len(methods) > 5 else "center")
    axes.set_yticklabels(kinds)
    axes.tick_params(length=0, labelcolor=colours.ink)
    for offset in range(1, max(table.shape)):
        axes.axhline(offset - 0.5, color=colours.surface, linewidth=2)
        axes.axvline(offset - 0.5, color=colours.surface, linewidth=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set(xlim=(-0.5, len(methods) - 0.5), ylim=(len(kinds) - 0.5, -0.5))
    bar = figure.colorbar(image, ax=axes, fraction=0.025, pad=0.015, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.ax.set_yticklabels(["0", "0.5 chance", "1"])
    bar.ax.tick_params(length=0, labelcolor=colours.muted, labelsize=9)
    return finish(figure, colours)


def _ink_on(colour: Any) -> str:
    """Black or white, whichever has more contrast on ``colour`` (relative luminance of WCAG 2.2)."""
    channels = np.asarray(colour[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.179 else "#ffffff"
