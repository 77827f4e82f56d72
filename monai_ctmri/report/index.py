"""One page that leads to the reports of several runs, as an unpaired manifest gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ctmri import __version__
from monai_ctmri.data.files import write_text
from monai_ctmri.report.page import render
from monai_ctmri.report.views import MISSING

__all__ = ["write_index"]


def write_index(
    path: str | os.PathLike[str], title: str, reports: Sequence[tuple[Mapping[str, Any], str | os.PathLike[str]]]
) -> Path:
    """Write the page, atomically.

    Args:
        path: final name.
        title: heading.
        reports: results as in ``metrics.json`` and the path of the report, one a run.

    Returns:
        ``path``.
    """
    folder = Path(path).absolute().parent
    notes = list(dict.fromkeys(note for results, _ in reports for note in results["notes"]))
    rows = [_row(results, Path(os.path.relpath(report, folder)).as_posix()) for results, report in reports]
    write_text(path, render("index.html.j2", version=__version__, title=title, rows=rows, notes=notes))
    return Path(path)


def _row(results: Mapping[str, Any], link: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "modality": " and ".join(name.upper() for name in results["data"]["modalities"]),
        "link": link,
        "label": results["decision"]["label"],
        "auroc": MISSING,
        "set": "",
        "normal": 0,
        "abnormal": 0,
    }
    if results["sets"]:
        first = results["sets"][0]
        found = next(one["auroc"] for one in first["methods"] if one["name"] == results["decision"]["method"])
        row |= {"set": first["name"], "normal": first["n_normal"], "abnormal": first["n_abnormal"]}
        row["auroc"] = _interval(found)
    return row


def _interval(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return MISSING
    if found["low"] is None:
        return f"{found['value']:.2f}"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
