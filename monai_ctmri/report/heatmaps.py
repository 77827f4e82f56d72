"""Heatmaps over anatomy: one case as a picture, or many cases as a panel, always on one fixed scale.

The scale is given, never taken from the picture at hand: a map rescaled by itself makes every normal case glow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ctmri.errors import InputError
from monai_ctmri.report.canvas import FigurePalette, figure_palette, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["heatmap_panel", "overlay"]

_COLOURS = "inferno"
_FIRST = 0.25  # the black end of the colour map would look like background
_OPACITY = 0.9
_OUTLINE = (0.34, 0.92, 0.98)
_ROW_HEIGHT = 1.62
_PANEL_WIDTH = 10.8
_LABEL_WIDTH = 1.75
_BAR_WIDTH = 0.6


def _plane(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise InputError.about(name, f"shape {array.shape} is not one plane", "give an array of shape (H, W)")
    return array


def _heat(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (..., 3) and opacity (..., 1) of a map value as a share of the scale in [0, 1]."""
    from matplotlib import colormaps

    colour = colormaps[_COLOURS](_FIRST + (1 - _FIRST) * share)[..., :3]
    return colour, (_OPACITY * share**0.75)[..., None]


def overlay(
    image: np.ndarray,
    map: np.ndarray,  # noqa: A002
    vmax: float,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Lay an anomaly map over grey anatomy; the higher the value, the hotter and the less transparent.

    Args:
        image: anatomy, shape (H, W) or (1, H, W), values in [0, 1] (others are clipped); row 0 is the top.
        map: anomaly map of the same shape; 0 and below (and NaN) are transparent, ``vmax`` and above the hottest
            colour.
        vmax: upper end of the scale, above 0; the same for every picture that is to be compared.
        mask: truth of the same shape; its inner border (one pixel, 4-connected) is drawn in cyan.

    Returns:
        Colours, shape (H, W, 3), uint8.

    Raises:
        InputError: when shapes differ, or ``vmax`` is not a positive number.
    """
    if not np.isfinite(vmax) or vmax <= 0:
        raise InputError.about("heatmap scale", f"vmax is {vmax}", "give a positive number")
    grey, values = _plane("image", image), _plane("anomaly map", map)
    if grey.shape != values.shape:
        raise InputError.about("anomaly map", f"shape {values.shape} is not {grey.shape}", "resample it first")
    anatomy = np.clip(np.nan_to_num(grey.astype(float)), 0, 1)[..., None]
    share = np.clip(np.nan_to_num(values.astype(float), posinf=vmax, neginf=0.0) / vmax, 0, 1)
    colour, opacity = _heat(share)
    blended = anatomy * (1 - opacity) + colour * opacity
    if mask is not None:
        truth = _plane("mask", mask) > 0
        if truth.shape != grey.shape:
            raise InputError.about("mask", f"shape {truth.shape} is not {grey.shape}", "resample it first")
        from scipy.ndimage import binary_erosion

        blended[truth & ~binary_erosion(truth)] = _OUTLINE
    return np.rint(blended * 255).astype(np.uint8)


def _bare(axes: Axes, colours: FigurePalette) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(colours.surface)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label(case: Mapping[str, Any]) -> list[str]:
    """First line bold, the others quiet: title (its own line breaks kept), kind, score, p-value."""
    lines = str(case.get("title") or "").split("\n")
    if case.get("kind") is not None:
        lines.append(str(case["kind"]))
    if case.get("score") is not None:
        lines.append(f"score {float(case['score']):.3g}")
    if case.get("p_value") is not None:
        lines.append(f"p = {float(case['p_value']):.3g}")
    return lines


def _columns(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of (entry of the case, name) in the order of first appearance: images, reconstructions, the map."""
    found: dict[tuple[str, str], None] = {}
    for entry in ("images", "reconstructions"):
        for case in cases:
            found.update(dict.fromkeys((entry, str(name)) for name in (case.get(entry) or {})))
    return [*found, ("map", "")]


def _colour_bar(figure: Figure, colours: FigurePalette, place: Any, vmax: float) -> None:
    """The scale as it looks over mid-grey tissue, since the map is transparent where it is low."""
    share = np.linspace(0, 1, 256)
    colour, opacity = _heat(share)
    blended = 0.45 * (1 - opacity) + colour * opacity
    axes = figure.add_subplot(place)
    _bare(axes, colours)
    axes.imshow(blended[:, None], origin="lower", aspect="auto", extent=(0, 1, 0, vmax))
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_yticks([0, vmax / 2, vmax], ["0", f"{vmax / 2:.2g}", f"\N{GREATER-THAN OR EQUAL TO} {vmax:.2g}"])
    axes.tick_params(length=0, labelcolor=colours.muted, labelsize=8.5, pad=3)
    axes.set_ylabel("Anomaly", fontsize=9)


def heatmap_panel(cases: Sequence[Mapping[str, Any]], vmax: float, *, theme: str = "light") -> Figure:
    """A grid of cases: a row a case; columns for the images, their reconstructions and the heatmap over the anatomy.

    Args:
        cases: dictionaries with

            - ``title``: case name; further lines after breaks. Optional ``kind``, ``score``, ``p_value`` add more,
            - ``images``: modality name to image (H, W) in [0, 1]; a modality missing in one case leaves its cell empty,
            - ``reconstructions``: modality name to image (H, W) in [0, 1]; may be empty,
            - ``map``: anomaly map (H, W), laid over the last of ``images`` (MRI where there is one),
            - ``mask``: truth (H, W) or None; its outline is drawn over the heatmap.
        vmax: upper end of the map's scale, the same for all rows.
        theme: ``light`` or ``dark``.

    Raises:
        InputError: when there is no case, a case has no image, shapes differ, or ``vmax`` is not a positive number.
    """
    colours = figure_palette(theme)
    if not cases:
        raise InputError.about("heatmap panel", "no case is given", "give at least one")
    columns = _columns(cases)
    width = min(_ROW_HEIGHT * len(columns) + _LABEL_WIDTH + _BAR_WIDTH, _PANEL_WIDTH)
    cell = (width - _LABEL_WIDTH - _BAR_WIDTH) / len(columns)
    figure = new_figure(theme, width, 0.97 * cell * len(cases) + 0.4, pads=0.03)
    grid = figure.add_gridspec(len(cases), len(columns) + 2, width_ratios=[_LABEL_WIDTH, *[cell] * len(columns), 0.14])
    for row, case in enumerate(cases):
        images = case.get("images") or {}
        if not images:
            who = str(case.get("title") or f"case {row}").replace("\n", " ")
            raise InputError.about(who, "it has no image", "give at least one modality")
        label = figure.add_subplot(grid[row, 0])
        _bare(label, colours)
        for line, text in enumerate(_label(case)):
            size, weight, colour = (10, "bold", colours.ink) if line == 0 else (9, "normal", colours.muted)
            label.text(0, 0.92 - 0.15 * line, text, va="top", color=colour, size=size, weight=weight)
        for column, (entry, name) in enumerate(columns):
            axes = figure.add_subplot(grid[row, column + 1])
            _bare(axes, colours)
            if row == 0:
                heading = {"images": name, "reconstructions": f"{name} expected", "map": "Anomaly map"}[entry]
                axes.set_title(heading, fontsize=10, color=colours.ink, fontweight="bold", pad=6)
            if entry == "map":
                _draw_map(axes, list(images.values())[-1], case, vmax)
            elif name in (case.get(entry) or {}):
                axes.imshow(_plane(name, case[entry][name]), cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
            else:
                axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", facecolor=colours.grid)
                axes.text(0.5, 0.5, "not given", ha="center", va="center", size=9, color=colours.muted)
    _colour_bar(figure, colours, grid[: min(2, len(cases)), -1], vmax)
    return finish(figure, colours)


def _draw_map(axes: Axes, anatomy: Any, case: Mapping[str, Any], vmax: float) -> None:
    from matplotlib.patheffects import withStroke

    axes.imshow(overlay(anatomy, case["map"], vmax), interpolation="bilinear")
    mask = case.get("mask")
    if mask is not None and np.any(truth := _plane("mask", mask) > 0):
        # A line on the grid of the figure stays thin however coarse the map is.
        outline = axes.contour(truth.astype(float), levels=[0.5], colors=[_OUTLINE], linewidths=1.4)
        outline.set_path_effects([withStroke(linewidth=2.6, foreground="#00000088")])
