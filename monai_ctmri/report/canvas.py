"""The canvas figures are drawn on: themes, axes, fonts, saving.

Figures are object-oriented with an Agg canvas, so they touch no global state and need no display. Each comes in a light
and a dark theme; colours are those of Okabe and Ito (Color Universal Design, 2008), lighter on dark.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ctmri.data.files import write_atomically
from monai_ctmri.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FULL_WIDTH",
    "HALF_WIDTH",
    "MISSING",
    "FigurePalette",
    "draw_axes",
    "draw_legend",
    "draw_title",
    "figure_palette",
    "finish",
    "finite",
    "new_figure",
    "same_length",
    "save_figure",
]

FULL_WIDTH = 10.8
"""Width in inches of a figure that fills a page of the report."""
HALF_WIDTH = 5.3
"""Width in inches of a figure of which two stand side by side."""
MISSING = "\N{EN DASH}"
"""What stands for a value that is not there."""


@dataclass(frozen=True)
class FigurePalette:
    """Colours of one theme.

    Attributes:
        surface: background, the same as a card of the report.
        ink: text.
        muted: secondary text and ticks.
        rule: axis lines.
        grid: grid lines and empty cells.
        normal: marks of normal cases.
        abnormal: marks of abnormal cases.
        cycle: colours of curves and kinds, in order.
    """

    surface: str
    ink: str
    muted: str
    rule: str
    grid: str
    normal: str
    abnormal: str
    cycle: tuple[str, ...]


_PALETTES = {
    "light": FigurePalette(
        "#ffffff", "#1b2430", "#5a6675", "#b9c2cd", "#e8ecf1", "#0072B2", "#D55E00",
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5a6675", "#8a7a00"),
    ),
    "dark": FigurePalette(
        "#171c24", "#e7ecf3", "#a3afbf", "#4a5565", "#28303c", "#56B4E9", "#E69F00",
        ("#56B4E9", "#E69F00", "#2fc79b", "#CC79A7", "#F0E442", "#5d9ff0", "#a3afbf", "#f2804a"),
    ),
}  # fmt: skip


def figure_palette(theme: str) -> FigurePalette:
    """Return the colours of ``theme``.

    Raises:
        InputError: when ``theme`` is neither ``light`` nor ``dark``.
    """
    if theme not in _PALETTES:
        raise InputError.about("theme", f"{theme!r} is unknown", "choose light or dark")
    return _PALETTES[theme]


@lru_cache(maxsize=1)
def _fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    preferred = ("Inter", "Helvetica Neue", "Segoe UI", "Arial", "Liberation Sans", "DejaVu Sans")
    # A family that is absent is logged as a warning at every draw, so only those at hand are named.
    return tuple(name for name in preferred if name in known) or ("DejaVu Sans",)


def new_figure(theme: str, width: float, height: float, pads: float = 0.1) -> Figure:
    """Return an empty figure of ``width`` by ``height`` inches with the theme's background and an Agg canvas.

    ``pads`` is the space in inches kept around axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=pads, h_pad=pads, wspace=0.6 * pads, hspace=0.6 * pads)
    figure = Figure(figsize=(width, height), facecolor=figure_palette(theme).surface, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | PathLike[str], dpi: int = 150) -> None:
    """Write ``figure`` to ``path``, atomically; the suffix (``.png``, ``.svg``, ``.pdf``) is the format.

    Args:
        figure: any Matplotlib figure.
        path: final name; missing parent folders are made.
        dpi: pixels an inch.
    """
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi, facecolor=figure.get_facecolor())


def draw_axes(figure: Figure, colours: FigurePalette, place: Any = 111, grid: str = "y", **options: Any) -> Axes:
    """Add axes with two quiet spines and grid lines along ``grid`` (``x``, ``y``, ``both`` or empty for none)."""
    axes = figure.add_subplot(place, **options)
    axes.set_facecolor(colours.surface)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours.rule)
    axes.tick_params(which="both", colors=colours.rule, labelcolor=colours.muted, labelsize=9, length=3)
    axes.set_axisbelow(True)
    axes.grid(False)
    if grid:
        axes.grid(True, axis=grid, color=colours.grid, linewidth=0.8)
    return axes


def finish(figure: Figure, colours: FigurePalette) -> Figure:
    """Give axis labels, legends and every text the theme's colours and fonts; call it last."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=colours.ink, fontsize=10)
        axes.tick_params(which="both", labelfontfamily=list(_fonts()))
        legend = axes.get_legend()
        if legend is not None:
            for text in legend.get_texts():
                text.set(color=colours.ink, fontsize=9)
    for text in figure.findobj(Text):
        text.set_fontfamily(_fonts())
    return figure


def finite(values: Any) -> np.ndarray:
    """Return the finite numbers of ``values`` as a flat float64 array; None, NaN and infinity are left out."""
    array = np.asarray(
        [np.nan if value is None else value for value in np.asarray(values, dtype=object).ravel()], float
    )
    return array[np.isfinite(array)]


def same_length(name: str, *columns: Any) -> None:
    """Raise :class:`InputError` when the columns differ in length."""
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise InputError.about(name, f"columns have lengths {lengths}", "give as many values to each")


def draw_legend(axes: Axes, **options: Any) -> None:
    """Add a legend without a frame."""
    axes.legend(**{"frameon": False, "handlelength": 1.6, "borderaxespad": 0.2, **options})


def draw_title(axes: Axes, colours: FigurePalette, text: str) -> None:
    """Put a small bold heading above the left end of the axes."""
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold", color=colours.ink, pad=10)
