"""The report of a run: one self-contained HTML page, with every picture inside it and no request to anywhere.

The page is a Jinja template with automatic escaping. This module embeds the figures and writes the page;
:mod:`monai_ctmri.report.views` brings the results into words.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from monai_ctmri.data.files import write_text
from monai_ctmri.errors import InputError
from monai_ctmri.report.views import FILTERS, decision_view, headline_view, moment_text, set_view

__all__ = ["ReportFigure", "write_report"]

# The first prefix that fits a figure's name is its place; every other figure goes to the section "figures".
_PLACES = (
    ("example", "examples"),
    ("heatmap", "examples"),
    ("auroc_forest", "methods"),
    ("kind_by_method", "methods"),
    ("confusion", "decision"),
    ("calibration", "decision"),
    ("p_value", "decision"),
    ("training", "training"),
)
_PNG = b"\x89PNG\r\n\x1a\n"
_WIDE = 700  # CSS pixels from which a figure takes the whole width


@dataclass(frozen=True)
class ReportFigure:
    """A picture of the report.

    Attributes:
        name: identifier, such as ``roc_curves``; its beginning decides the section.
        title: short heading.
        caption: what one sees, in one or two sentences.
        light: PNG file for the light theme.
        dark: PNG file for the dark theme, or None to show the light one in both.
    """

    name: str
    title: str
    caption: str
    light: Path
    dark: Path | None = None


def write_report(path: str | PathLike[str], results: Mapping[str, Any], figures: Sequence[ReportFigure]) -> None:
    """Write the report of a run as one HTML file, atomically.

    Args:
        path: final name, usually ``report.html``.
        results: content of ``metrics.json``: ``title``, ``subtitle``, ``version``, ``created`` (ISO 8601), ``command``,
            ``data``, ``training``, ``sets`` (each with ``methods`` and ``controls``), ``decision``, ``examples_note``,
            ``notes``. Any entry may be None or absent. The headline is the method named by ``decision`` on the first
            set; without a decision it is the first network listed, so that it is never picked by its own result.
        figures: pictures, in the order they are shown within their section.

    Raises:
        InputError: when a figure is missing or no PNG.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("monai_ctmri.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    places: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("examples", "methods", "decision", "figures", "training")
    }
    for figure in figures:
        places[_place(figure.name)].append(_embedded(figure))
    for section in places.values():
        _mark_alone(section)
    named = (results.get("decision") or {}).get("method")
    sets = [set_view(entry, named) for entry in results.get("sets") or []]
    page = environment.get_template("report.html.j2").render(
        results=results,
        data=results.get("data") or {},
        training=results.get("training"),
        sets=sets,
        headline=headline_view(results, sets),
        decision=decision_view(results.get("decision"), sets),
        figures=places,
        created=moment_text(results.get("created")),
        missing="\N{EN DASH}",
    )
    write_text(path, page)


def _place(name: str) -> str:
    return next((place for prefix, place in _PLACES if name.startswith(prefix)), "figures")


def _picture(path: Path) -> tuple[str, int, int]:
    """Data URI, width and height in CSS pixels (figures are drawn at 150 dots an inch, CSS has 96)."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError.about(
            path, f"figure cannot be read ({error.strerror})", "draw it before the report"
        ) from error
    if not content.startswith(_PNG) or len(content) < 24:
        raise InputError.about(path, "figure is no PNG", "save figures as .png")
    width, height = struct.unpack(">II", content[16:24])
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return uri, round(0.64 * width), round(0.64 * height)


def _mark_alone(section: list[dict[str, Any]]) -> None:
    """Mark a narrow figure that has no neighbour in its row, so that its caption takes the empty half."""
    waiting = None
    for figure in section:
        if figure["wide"]:
            waiting = None
        elif waiting is None:
            waiting, figure["alone"] = figure, True
        else:
            waiting["alone"], waiting = False, None


def _embedded(figure: ReportFigure) -> dict[str, Any]:
    light, width, height = _picture(figure.light)
    dark = None if figure.dark is None else _picture(figure.dark)[0]
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "light": light,
        "dark": dark,
        "width": width,
        "height": height,
        "wide": width > _WIDE,
        "alone": False,
    }
