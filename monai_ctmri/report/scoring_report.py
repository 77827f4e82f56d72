"""What a scoring run leaves for people: the cases by p-value, heatmaps of the highest, and what was used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri import __version__
from monai_ctmri.data.files import write_text
from monai_ctmri.detection.false_discovery import benjamini_hochberg
from monai_ctmri.evaluation.scoring_run import CaseOutcome, ScoringRun
from monai_ctmri.report.canvas import save_figure
from monai_ctmri.report.heatmaps import heatmap_panel
from monai_ctmri.report.page import ReportFigure, embedded, render
from monai_ctmri.report.views import moment_text
from monai_ctmri.transforms import LoadSlice, NormalizeMRI, WindowCT

__all__ = ["adjusted_p_values", "by_suspicion", "write_scoring_report"]

_SHOWN = 8
_LISTED = 1000
_MAPS_FOR_SCALE = 200
_MODALITY = {"ct": "CT", "mri": "MRI"}


def write_scoring_report(run: ScoringRun, *, command: str = "", phantom: bool = False) -> Path:
    """Write ``report.html`` and its figures to the run's folder.

    Args:
        run: a finished run.
        command: how to run it again.
        phantom: whether the data are the phantom, which the page then says.

    Returns:
        Path of the page.
    """
    ranked = by_suspicion(run.outcomes)
    adjusted = adjusted_p_values(run.outcomes)
    page = render(
        "scoring.html.j2",
        version=__version__,
        title=f"Scores: {Path(os.path.abspath(run.manifest)).name}",
        created=moment_text(datetime.now(timezone.utc).isoformat(timespec="seconds")),
        phantom=phantom,
        calibrated=run.decision is not None,
        alpha=f"{run.alpha:g}",
        judged=len(run.outcomes),
        flagged=sum(bool(outcome.flagged) for outcome in run.outcomes),
        expected=f"{run.alpha * len(run.outcomes):.3g}",
        stand=sum(value <= run.alpha for value in adjusted.values()),
        failures=[{"case": one.case.name, "file": one.file, "reason": one.reason} for one in run.failures],
        notes=run.notes,
        rows=[_row(outcome, adjusted.get(outcome.case.name)) for outcome in ranked[:_LISTED]],
        figure=_figure(run, ranked),
        used=_used(run),
        command=command,
    )
    path = run.folder / "report.html"
    write_text(path, page)
    return path


def by_suspicion(outcomes: Sequence[CaseOutcome]) -> list[CaseOutcome]:
    """The cases by p-value where they have one, then by score, the most abnormal first; ties by name."""
    return sorted(
        outcomes, key=lambda one: (1.0 if one.p_value is None else one.p_value, -one.score, one.case.name.casefold())
    )


def adjusted_p_values(outcomes: Sequence[CaseOutcome]) -> dict[str, float]:
    """By case, the p-value adjusted for all cases together (Benjamini and Hochberg); cases without one are left out."""
    known = {one.case.name: one.p_value for one in outcomes if one.p_value is not None}
    return dict(zip(known, benjamini_hochberg(list(known.values())).tolist(), strict=True))


def _row(outcome: CaseOutcome, adjusted: float | None) -> dict[str, Any]:
    case = outcome.case
    return {
        "case": case.name,
        "subject": case.subject,
        "modalities": " + ".join(_MODALITY[name] for name in case.modalities),
        "label": {0: "normal", 1: "abnormal"}.get(-1 if case.label is None else case.label),
        "score": f"{outcome.score:.4g}",
        "p_value": None if outcome.p_value is None else f"{outcome.p_value:.3g}",
        "adjusted": None if adjusted is None else f"{adjusted:.3g}",
        "flagged": outcome.flagged,
    }


def _used(run: ScoringRun) -> list[tuple[str, str]]:
    model = run.model
    used = [("Manifest", os.path.abspath(run.manifest)), ("Model", os.path.abspath(model.folder))]
    used += [("Bundle", model.name), ("Configuration", ", ".join(path.name for path in model.configs))]
    used += [(name, f"SHA-256 {digest}") for name, digest in model.files.items()]
    used += [(name, str(value)) for name, value in model.settings.items()]
    if run.decision is not None:
        fusion = run.decision.fusion
        used.append(("Calibrated on", f"{run.decision.cases} normals, one a subject"))
        used.append(("Fused", f"by {fusion.method}: {', '.join(fusion.names_)}"))
    else:
        used.append(("Score", ", else ".join(model.default_scores)))
    return used


def _figure(run: ScoringRun, ranked: Sequence[CaseOutcome]) -> dict[str, Any] | None:
    chosen = [one for one in ranked if one.map_path is not None][:_SHOWN]
    if not chosen:
        return None
    scale, meaning = _scale(ranked)
    panel = [_panel_case(one) for one in chosen]
    files = {}
    for theme, name in (("light", "highest.png"), ("dark", "highest_dark.png")):
        files[theme] = run.folder / "figures" / name
        save_figure(heatmap_panel(panel, scale, theme=theme), files[theme])
    caption = (
        f"The {len(chosen)} cases that come first in the table. All heatmaps share one scale, which ends at the 99.9th "
        f"percentile of the maps of {meaning}."
    )
    return embedded(ReportFigure("highest", "Where the highest cases differ", caption, files["light"], files["dark"]))


def _scale(ranked: Sequence[CaseOutcome]) -> tuple[float, str]:
    """One upper end for every heatmap, from normals; without labels from the less suspicious half of the cohort."""
    drawn = [one for one in ranked if one.map_path is not None]
    normal = [one for one in drawn if one.case.label == 0]
    group, meaning = (normal, "the normal cases") if normal else (drawn[len(drawn) // 2 :], "the less abnormal half")
    step = max(1, len(group) // _MAPS_FOR_SCALE)
    values = np.concatenate([_map_of(one).ravel() for one in group[::step]])
    return max(float(np.percentile(values, 99.9)), 1e-6), meaning


def _panel_case(outcome: CaseOutcome) -> dict[str, Any]:
    anomaly_map = _map_of(outcome)
    images = {}
    for name in outcome.case.modalities:
        # In grey levels as the bundles see it: Hounsfield units in the brain window.
        shown = {"ct": WindowCT(), "mri": NormalizeMRI()}[name](LoadSlice(name)(getattr(outcome.case, name)))
        images[_MODALITY[name]] = _resized(np.asarray(shown)[0], anomaly_map.shape)
    label = {0: "normal", 1: "abnormal"}.get(-1 if outcome.case.label is None else outcome.case.label)
    return {
        "title": outcome.case.name,
        "kind": label,
        "score": outcome.score,
        "p_value": outcome.p_value,
        "images": images,
        "map": anomaly_map,
    }


def _resized(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A picture on the map's grid: the second modality may have pixels of another size."""
    from PIL import Image

    if plane.shape == shape:
        return plane
    picture = Image.fromarray(plane.astype(np.float32)).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _map_of(outcome: CaseOutcome) -> np.ndarray:
    from PIL import Image

    with Image.open(outcome.map_path) as picture:  # type: ignore[arg-type]  # only cases with a map come here
        return np.asarray(picture, dtype=np.float32)
