"""The canvas: themes that can be read, no global state, whole files only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from monai_ctmri.errors import InputError
from monai_ctmri.report.canvas import (
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

THEMES = ("light", "dark")


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""
    luminances = []
    for colour in (first, second):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        luminances.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_text_reaches_contrast_aa(theme: str) -> None:
    colours = figure_palette(theme)
    assert contrast(colours.ink, colours.surface) >= 7
    assert contrast(colours.muted, colours.surface) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_marks_of_normal_and_abnormal_stand_out(theme: str) -> None:
    colours = figure_palette(theme)
    assert contrast(colours.normal, colours.surface) >= 3
    assert contrast(colours.abnormal, colours.surface) >= 3
    assert colours.normal != colours.abnormal
    assert len(set(colours.cycle)) == len(colours.cycle) == 8


def test_unknown_theme_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"sepia.*light or dark") as caught:
        figure_palette("sepia")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("theme", THEMES)
def test_new_figure_has_size_and_ground(theme: str) -> None:
    figure = new_figure(theme, 4.0, 2.5)
    assert figure.get_size_inches().tolist() == [4.0, 2.5]
    assert to_rgb(figure.get_facecolor()[:3]) == to_rgb(figure_palette(theme).surface)


def test_axes_show_two_spines_and_finish_sets_colours() -> None:
    colours = figure_palette("dark")
    figure = new_figure("dark", 3, 2)
    axes = draw_axes(figure, colours)
    axes.plot([0, 1], [0, 1], label="line")
    axes.set(xlabel="across", ylabel="up")
    draw_legend(axes)
    draw_title(axes, colours, "Heading")
    assert finish(figure, colours) is figure
    assert {side for side, spine in axes.spines.items() if spine.get_visible()} == {"left", "bottom"}
    assert axes.xaxis.label.get_color() == colours.ink
    assert axes.get_legend().get_texts()[0].get_color() == colours.ink
    assert axes.get_title(loc="left") == "Heading"


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure = new_figure("dark", 3, 2)
    draw_axes(figure, figure_palette("dark"))
    save_figure(finish(figure, figure_palette("dark")), tmp_path / "figure.png", dpi=40)
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_loaded_and_matplotlib_only_when_drawing() -> None:
    code = (
        "import sys, monai_ctmri.report.figures as figures, monai_ctmri.report.heatmaps, monai_ctmri.report.html\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figures.training_curves([1, 2], [2, 1], None, 2)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_finite_leaves_out_what_is_no_number() -> None:
    assert finite([1, None, float("nan"), float("inf"), 2.5]).tolist() == [1.0, 2.5]
    assert finite([]).size == 0
    assert finite(np.array([[1, 2], [3, 4]])).tolist() == [1, 2, 3, 4]


def test_same_length_names_the_lengths() -> None:
    same_length("curves", [1, 2], (3, 4))
    with pytest.raises(InputError, match=r"curves.*\[2, 1\]"):
        same_length("curves", [1, 2], [3])


def test_saved_figure_has_the_pixels_asked_for(tmp_path: Path) -> None:
    from PIL import Image

    target = tmp_path / "deep" / "figure.png"
    save_figure(new_figure("light", 4, 2), target, dpi=50)
    with Image.open(target) as picture:
        assert picture.size == (200, 100)
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert [path.name for path in target.parent.iterdir()] == ["figure.png"]


def test_a_failed_save_keeps_the_old_file_and_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "figure.png"
    target.write_bytes(b"old")
    figure = new_figure("light", 1, 1)

    def broken(path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
