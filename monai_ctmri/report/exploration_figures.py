"""Figures of a data set: how its intensities are distributed and which sizes its images have.

The pictures themselves are shown by :mod:`monai_ctmri.report.exploration_gallery`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ctmri.report.canvas import (
    FULL_WIDTH,
    FigurePalette,
    draw_axes,
    draw_legend,
    draw_title,
    figure_palette,
    finish,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["IntensityCurve", "image_sizes", "intensity_distributions"]

_BINS = 96
_TAIL = 0.001  # of the pixels outside the background, left out at each end: a few burnt-in pixels would set the axis
_MOST_BARS = 12
_NAMES = {"ct": "CT", "mri": "MRI"}


@dataclass(frozen=True)
class IntensityCurve:
    """The intensities of one modality on one scale.

    Attributes:
        modality: ``ct`` or ``mri``.
        unit: of the values, such as ``grey level``.
        values: (K,) rising.
        counts: (K,) pixels that have them.
        background: values up to this one are background.
    """

    modality: str
    unit: str
    values: np.ndarray
    counts: np.ndarray
    background: float

    @property
    def label(self) -> str:
        """The modality's name."""
        return _NAMES.get(self.modality, self.modality)

    @property
    def background_share(self) -> float:
        """Share of pixels that are background, in [0, 1]."""
        total = self.counts.sum()
        return float(self.counts[self.values <= self.background].sum() / total) if total else 0.0

    def density(self, bins: int = _BINS) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of the pixels outside the background a unit of intensity (B,), and the bins' edges (B + 1,).

        Values that lie on a lattice (whole grey levels) get bins that each hold equally many lattice points, since
        others would show a comb that is not in the data.
        """
        inside = self.values > self.background
        values, counts = self.values[inside], self.counts[inside]
        if not counts.sum():
            return np.zeros(1), np.array([0.0, 1.0])
        ends = np.cumsum(counts) / counts.sum()
        low = float(values[np.searchsorted(ends, _TAIL)])
        high = float(values[min(int(np.searchsorted(ends, 1 - _TAIL)), values.size - 1)])
        if np.all(values == np.rint(values)):
            width = max(1, int(np.ceil((high - low + 1) / bins)))
            edges = np.arange(low - 0.5, high + 0.5 + width, width)
        else:
            # These may be centres of bins themselves; bins hardly wider than those would show a comb, too.
            edges = np.linspace(low, high if high > low else low + 1, bins // 2 + 1)
        share = np.histogram(values, edges, weights=counts)[0] / counts.sum()
        return share / np.diff(edges), edges


def intensity_distributions(curves: Sequence[IntensityCurve], *, theme: str = "light") -> Figure:
    """One panel a modality, and one with both laid over each other.

    Background, which would otherwise be most of every picture, is stated and not drawn. Curves in different units are
    laid over each other each on its own 1st to 99th percentile.

    Args:
        curves: one a modality, at least one.
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    tint = dict(zip(("ct", "mri"), (colours.normal, colours.abnormal), strict=True))
    panels = len(curves) + (len(curves) > 1)
    figure = new_figure(theme, FULL_WIDTH, 3.6)
    grid = figure.add_gridspec(1, panels)
    for column, curve in enumerate(curves):
        axes = draw_axes(figure, colours, grid[column])
        density, edges = curve.density()
        _area(axes, density, edges, tint.get(curve.modality, colours.muted), None)
        axes.set(xlabel=curve.unit[:1].upper() + curve.unit[1:], ylabel="Density" if column == 0 else None)
        axes.set_ylim(0, _ceiling(density))
        draw_title(axes, colours, curve.label)
        lines = [
            f"{curve.background_share:.0%} of pixels are background",
            f"(at most {curve.background:.4g}), not drawn",
        ]
        if _saturated(density):
            share = curve.counts[-1] / curve.counts.sum()
            lines.append(f"{share:.0%} have the highest value; cut off")
        text = "\n".join(lines)
        axes.text(0.9, 0.97, text, transform=axes.transAxes, ha="right", va="top", size=8.5, color=colours.muted)
    if len(curves) > 1:
        _overlay(draw_axes(figure, colours, grid[-1]), curves, tint, colours)
    return finish(figure, colours)


def _saturated(density: np.ndarray) -> bool:
    """Whether one end holds so much (all that a window clipped) that the rest would be pressed flat."""
    return density.size > 1 and bool(density[-1] > 2 * density[:-1].max() > 0)


def _ceiling(density: np.ndarray) -> float:
    """Upper end of the axis: some space for the words above the curve."""
    return 1.35 * float(density[:-1].max() if _saturated(density) else density.max()) or 1.0


def _area(axes: Axes, density: np.ndarray, edges: np.ndarray, colour: str, label: str | None) -> None:
    axes.stairs(density, edges, fill=True, color=colour, alpha=0.25)
    axes.stairs(density, edges, color=colour, linewidth=1.5, label=label)


def _overlay(axes: Axes, curves: Sequence[IntensityCurve], tint: Mapping[str, str], colours: FigurePalette) -> None:
    alike = len({curve.unit for curve in curves}) == 1
    top = 0.0
    for curve in curves:
        density, edges = curve.density()
        if not alike:
            span = max(float(edges[-1] - edges[0]), 1e-12)
            density, edges = density * span, (edges - edges[0]) / span
        _area(axes, density, edges, tint.get(curve.modality, colours.muted), curve.label)
        top = max(top, _ceiling(density))
    unit = curves[0].unit
    axes.set(xlabel=unit[:1].upper() + unit[1:] if alike else "Share of each one's own range")
    axes.set_ylim(0, top)
    draw_title(axes, colours, "Both")
    draw_legend(axes, loc="upper center")


def image_sizes(sizes: Sequence[Mapping[str, Any]], *, theme: str = "light") -> Figure:
    """How many images have which size: bars by modality where the sizes are few, else width against height.

    Args:
        sizes: ``shape`` (rows, columns, or the three sides of a volume), ``modality`` (``ct``, ``mri`` or None),
            ``images``; the most frequent first.
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    tint = {"ct": colours.normal, "mri": colours.abnormal, None: colours.muted}
    shapes = list(dict.fromkeys(tuple(entry["shape"]) for entry in sizes))
    if len(shapes) > _MOST_BARS and all(len(shape) == 2 for shape in shapes):
        return _size_scatter(sizes, tint, colours, theme)
    shown = shapes[:_MOST_BARS]
    figure = new_figure(theme, FULL_WIDTH, 1.0 + 0.34 * len(shown))
    axes = draw_axes(figure, colours, grid="x")
    start = np.zeros(len(shown))
    for modality in tint:
        counts = np.zeros(len(shown))
        for entry in sizes:
            if entry["modality"] == modality and tuple(entry["shape"]) in shown:
                counts[shown.index(tuple(entry["shape"]))] += entry["images"]
        if counts.any():
            label = _NAMES.get(str(modality), "modality not known")
            axes.barh(range(len(shown)), counts, left=start, color=tint[modality], height=0.62, label=label, alpha=0.85)
        start += counts
    axes.set(yticks=range(len(shown)), ylim=(len(shown) - 0.5, -0.5), xlabel="Images")
    axes.set_yticklabels([" \N{MULTIPLICATION SIGN} ".join(map(str, shape)) for shape in shown], color=colours.ink)
    axes.tick_params(axis="y", length=0)
    draw_legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1))
    return finish(figure, colours)


def _size_scatter(
    sizes: Sequence[Mapping[str, Any]], tint: Mapping[Any, str], colours: FigurePalette, theme: str
) -> Figure:
    figure = new_figure(theme, FULL_WIDTH, 4.2)
    axes = draw_axes(figure, colours, grid="both", aspect="equal")
    for modality, colour in tint.items():
        entries = [entry for entry in sizes if entry["modality"] == modality]
        if entries:
            rows, columns = zip(*(entry["shape"] for entry in entries), strict=True)
            area = [18 + 8 * np.sqrt(entry["images"]) for entry in entries]
            total = sum(entry["images"] for entry in entries)
            name = _NAMES.get(str(modality), "modality not known")
            label = f"{name} ({total} images, {len(entries)} size{'s' if len(entries) > 1 else ''})"
            axes.scatter(columns, rows, s=area, color=colour, alpha=0.55, lw=0, label=label)
    longest = 1.06 * max(max(entry["shape"]) for entry in sizes)
    axes.set(xlabel="Width in pixels", ylabel="Height in pixels", xlim=(0, longest), ylim=(0, longest))
    draw_legend(axes, loc="upper left", bbox_to_anchor=(1.02, 1))
    return finish(figure, colours)
