"""Pictures of a data set: pairs beside each other, samples where there is no pair, and files that have findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ctmri.errors import InputError
from monai_ctmri.report.canvas import FULL_WIDTH, FigurePalette, figure_palette, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GalleryImage",
    "checkerboard",
    "finding_gallery",
    "pair_gallery",
    "sample_gallery",
    "signed_difference",
    "unit_range",
]

_TILES = 8
_COLUMNS = 6
_LONGEST_NAME = 26


@dataclass(frozen=True)
class GalleryImage:
    """One plane to show.

    Attributes:
        title: what stands above it, usually the file's name relative to the data.
        plane: (H, W) in picture orientation, any range; None when it could not be decoded.
        aspect: height of a pixel in units of its width.
        remarks: lines below it.
    """

    title: str
    plane: np.ndarray | None
    aspect: float = 1.0
    remarks: tuple[str, ...] = ()


def unit_range(plane: np.ndarray) -> np.ndarray:
    """Bring a plane to [0, 1]: its 1st percentile to 0, its 99th to 1, what lies beyond clipped.

    Args:
        plane: (H, W); where both percentiles are equal, minimum and maximum stand in for them.

    Returns:
        (H, W) float64; zeros for a constant plane.
    """
    values = np.asarray(plane, dtype=np.float64)
    low, high = np.percentile(values, (1, 99))
    if high <= low:
        low, high = values.min(), values.max()
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0, 1)


def checkerboard(first: np.ndarray, second: np.ndarray, tiles: int = _TILES) -> np.ndarray:
    """Lay two planes into the fields of a checkerboard: contours that run on across the fields are aligned.

    Args:
        first: (H, W), shown in the field at the top left.
        second: (H, W).
        tiles: fields along the shorter side.

    Raises:
        InputError: when the sizes differ.
    """
    _same_size(first, second)
    side = max(1, round(min(first.shape) / tiles))
    rows, columns = np.indices(first.shape) // side
    return np.where((rows + columns) % 2 == 0, first, second)


def signed_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """First minus second, each brought to [0, 1] by :func:`unit_range` on its own; in [-1, 1].

    Raises:
        InputError: when the sizes differ.
    """
    _same_size(first, second)
    return unit_range(first) - unit_range(second)


def _same_size(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        problem = f"{first.shape} and {second.shape} differ in size"
        raise InputError.about("pair", problem, "bring both to one grid (registration)")


def pair_gallery(pairs: Sequence[tuple[GalleryImage, GalleryImage]], *, theme: str = "light") -> Figure:
    """A row a pair: CT, MRI, both as a checkerboard, and CT minus MRI.

    Args:
        pairs: CT and MRI of each, at least one.
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    cell = (FULL_WIDTH - 0.8) / 4
    figure = new_figure(theme, FULL_WIDTH, (cell + 0.22) * len(pairs) + 0.3, pads=0.04)
    grid = figure.add_gridspec(len(pairs), 5, width_ratios=[1, 1, 1, 1, 0.05])
    headings = ("CT", "MRI", "Checkerboard", "CT \N{MINUS SIGN} MRI")
    for row, (ct, mri) in enumerate(pairs):
        cells = [figure.add_subplot(grid[row, column]) for column in range(4)]
        for axes, image in zip(cells, (ct, mri), strict=False):
            _show(axes, image, colours)
        comparable = ct.plane is not None and mri.plane is not None and ct.plane.shape == mri.plane.shape
        for axes in cells[2:]:
            _bare(axes, colours)
        if comparable and ct.plane is not None and mri.plane is not None:
            board = checkerboard(unit_range(ct.plane), unit_range(mri.plane))
            cells[2].imshow(board, cmap="gray", vmin=0, vmax=1, aspect=ct.aspect, interpolation="nearest")
            difference = signed_difference(ct.plane, mri.plane)
            shown = cells[3].imshow(difference, cmap="RdBu_r", vmin=-1, vmax=1, aspect=ct.aspect)
            for axes in cells[2:]:
                _square(axes, ct.plane.shape, ct.aspect)
            if not any(axes.get_label() == "scale" for axes in figure.axes):
                bar = figure.colorbar(shown, cax=figure.add_subplot(grid[row, 4], label="scale"), ticks=[-1, 0, 1])
                bar.ax.set_yticklabels(["\N{MINUS SIGN}1\nMRI brighter", "0", "1\nCT brighter"])
                bar.ax.tick_params(length=0, labelcolor=colours.muted, labelsize=8)
                bar.outline.set_visible(False)
        else:
            for axes in cells[2:]:
                _words(axes, _why_not(ct, mri), colours)
        names = (_shortened(ct.title), _shortened(mri.title), "", "")
        for axes, heading, name in zip(cells, headings, names, strict=True):
            axes.set_title(heading if row == 0 else "", size=10, fontweight="bold", color=colours.ink)
            axes.set_xlabel(name)
    return _quiet_labels(finish(figure, colours), colours.muted)


def sample_gallery(rows: Mapping[str, Sequence[GalleryImage]], *, theme: str = "light") -> Figure:
    """Samples of each modality, a row a modality; nothing is set against each other.

    Args:
        rows: name of the row to its images; at least one image in all.
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    columns = max(_COLUMNS, *(len(images) for images in rows.values()))
    cell = FULL_WIDTH / columns
    figure = new_figure(theme, FULL_WIDTH, (cell + 0.45) * len(rows), pads=0.04)
    grid = figure.add_gridspec(len(rows), columns)
    for row, (name, images) in enumerate(rows.items()):
        for column in range(columns):
            axes = figure.add_subplot(grid[row, column])
            _bare(axes, colours)
            if column < len(images):
                _show(axes, images[column], colours)
            if column == 0:
                axes.set_ylabel(name, fontweight="bold")
    return finish(figure, colours)


def finding_gallery(images: Sequence[GalleryImage], *, theme: str = "light") -> Figure:
    """Thumbnails of files with findings; the findings stand below each.

    Args:
        images: at least one.
        theme: ``light`` or ``dark``.
    """
    colours = figure_palette(theme)
    rows = -(-len(images) // _COLUMNS)
    cell = FULL_WIDTH / _COLUMNS
    figure = new_figure(theme, FULL_WIDTH, (cell + 0.65) * rows, pads=0.04)
    grid = figure.add_gridspec(rows, _COLUMNS)
    for index in range(rows * _COLUMNS):
        axes = figure.add_subplot(grid[divmod(index, _COLUMNS)])
        _bare(axes, colours)
        if index < len(images):
            _show(axes, images[index], colours)
            axes.set_xlabel("\n".join(images[index].remarks))
    return _quiet_labels(finish(figure, colours), colours.abnormal)


def _quiet_labels(figure: Figure, colour: str) -> Figure:
    """Give what stands below the pictures a small size and ``colour``; after ``finish``, which sets both."""
    for axes in figure.axes:
        axes.xaxis.label.set(size=8, color=colour)
    return figure


def _why_not(ct: GalleryImage, mri: GalleryImage) -> str:
    if ct.plane is None or mri.plane is None:
        return "not both\ncould be read"
    return "sizes differ:\n" + " and ".join(
        f"{p.shape[0]} \N{MULTIPLICATION SIGN} {p.shape[1]}" for p in (ct.plane, mri.plane)
    )


def _show(axes: Axes, image: GalleryImage, colours: FigurePalette) -> None:
    _bare(axes, colours)
    axes.set_title(_shortened(image.title), size=7.5, color=colours.muted, pad=3)
    if image.plane is None:
        _words(axes, "cannot be\ndecoded", colours)
        return
    shown: Any = unit_range(image.plane)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=image.aspect, interpolation="antialiased")
    _square(axes, image.plane.shape, image.aspect)


def _square(axes: Axes, shape: tuple[int, ...], aspect: float) -> None:
    """Give axes a square view around a picture, so that all cells of a gallery are of one size."""
    rows, columns = shape
    side = max(rows * aspect, columns)
    axes.set_xlim((columns - side) / 2 - 0.5, (columns + side) / 2 - 0.5)
    axes.set_ylim((rows + side / aspect) / 2 - 0.5, (rows - side / aspect) / 2 - 0.5)


def _words(axes: Axes, text: str, colours: FigurePalette) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", facecolor=colours.grid)
    axes.text(0.5, 0.5, text, ha="center", va="center", size=8.5, color=colours.muted, parse_math=False)


def _shortened(name: str) -> str:
    """The end of a long name, which tells files of one folder apart. A dollar sign would begin a formula."""
    short = name if len(name) <= _LONGEST_NAME else "\N{HORIZONTAL ELLIPSIS}" + name[1 - _LONGEST_NAME :]
    return short.replace("$", r"\$")


def _bare(axes: Axes, colours: FigurePalette) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(colours.surface)
    for spine in axes.spines.values():
        spine.set_visible(False)
