"""The report of a run: one self-contained HTML page, with every picture inside it and no request to anywhere.

This module lays the figures out and writes the page; :mod:`monai_ctmri.report.views` brings the results into words, and
:mod:`monai_ctmri.report.page` embeds figures and fills the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from monai_ctmri.data.files import write_text
from monai_ctmri.report.page import ReportFigure, embedded, render
from monai_ctmri.report.views import decision_view, detectors_view, headline_view, moment_text, set_view

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


def write_report(path: str | PathLike[str], results: Mapping[str, Any], figures: Sequence[ReportFigure]) -> None:
    """Write the report of a run as one HTML file, atomically.

    Args:
        path: final name, usually ``report.html``.
        results: content of ``metrics.json``: ``title``, ``subtitle``, ``version``, ``created`` (ISO 8601), ``command``,
            ``data``, ``training``, ``sets`` (each with ``methods`` and ``controls``), ``decision``, ``detectors``,
            ``examples_note``, ``notes``. Any entry may be None or absent. The headline is the method named by
            ``decision`` on the first set; without a decision it is the first network listed, so that it is never
            picked by its own result.
        figures: pictures, in the order they are shown within their section.

    Raises:
        InputError: when a figure is missing or no PNG.
    """
    places: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("examples", "methods", "decision", "figures", "training")
    }
    for figure in figures:
        places[_place(figure.name)].append(embedded(figure))
    for section in places.values():
        _mark_alone(section)
    named = (results.get("decision") or {}).get("method")
    sets = [set_view(entry, named) for entry in results.get("sets") or []]
    page = render(
        "report.html.j2",
        version=results.get("version"),
        results=results,
        data=results.get("data") or {},
        training=results.get("training"),
        sets=sets,
        controls=[(view["name"], control) for view in sets for control in view["controls"]],
        headline=headline_view(results, sets),
        decision=decision_view(results.get("decision"), sets),
        detectors=detectors_view(results.get("detectors")),
        figures=places,
        created=moment_text(results.get("created")),
    )
    write_text(path, page)


def _place(name: str) -> str:
    return next((place for prefix, place in _PLACES if name.startswith(prefix)), "figures")


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
