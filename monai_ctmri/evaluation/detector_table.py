"""Every detector beside the other scores, each calibrated on the same normals: AUROC, false alarms realised, cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_ctmri.evaluation.benchmark import BenchmarkRun
from monai_ctmri.evaluation.calibrated import calibrate, rate
from monai_ctmri.evaluation.comparison import compare_methods
from monai_ctmri.evaluation.fused import fit_fusion
from monai_ctmri.evaluation.judge import ScoredCase
from monai_ctmri.evaluation.latent_detectors import ALWAYS, score_name
from monai_ctmri.evaluation.methods import FUSED_METHOD, Method, detector_methods, list_methods

__all__ = ["ALPHAS", "count_detectors", "detectors_table", "further_detectors"]

ALPHAS = (0.01, 0.05, 0.10)
"""False-alarm rates asked for."""

_NOTHING = {"value": None, "low": None, "high": None}


def further_detectors(run: BenchmarkRun) -> list[Method]:
    """The detectors of a run that are not among :func:`~monai_ctmri.evaluation.methods.list_methods`."""
    return detector_methods(run.modalities, [one.name for one in run.judge.detectors if one.name not in ALWAYS])


def count_detectors(run: BenchmarkRun, first: Mapping[str, Any] | None, cases: Sequence[ScoredCase]) -> dict[str, Any]:
    """Calibrate every score on all modalities, and count its false alarms on the normal test slices.

    Args:
        run: a finished benchmark.
        first: its first set as counted, with ``methods``; None without one.
        cases: the cases of that set.

    Returns:
        A JSON-safe dictionary: ``set`` (name of that set), ``n_normal``, ``alphas`` (each with ``alpha``, ``unit``,
        ``units``, ``smallest_p_value`` and ``reached``: whether a case can be flagged at all) and ``rows``, best AUROC
        first: ``name``, ``label``, ``group``, ``auroc`` and ``macro_auroc_interval`` (intervals over subjects),
        ``false_alarms`` (one an alpha: a rate with its exact binomial interval; ``value`` is None where it is not
        reached), ``cost`` (None for what is no detector) and ``problem``.
    """
    whole = list_methods(run.modalities)[0].modality
    further = further_detectors(run)
    methods = [*(one for one in list_methods(run.modalities) if one.modality == whole), *further]
    found = {one["name"]: one for one in (first or {}).get("methods", [])}
    if first is not None and further:
        names = [one.name for one in further]
        entries = compare_methods([one.as_row() for one in cases], names, run.settings.seed, run.settings.repeats)
        # Where the set has no intervals, as its subjects are too few, these have none either.
        bare = all(one["auroc"]["low"] is None for one in found.values())
        for entry in entries:
            for interval in (entry["auroc"], entry["macro_auroc_interval"]) if bare else ():
                interval.update(low=None, high=None)
            found[entry["name"]] = entry
    normals = [case for case in run.originals if case.label == 0]
    alphas = [_reached(run, alpha) for alpha in ALPHAS]
    costs = {score_name(one.name): one for one in run.judge.detectors}
    rows = []
    for method in methods:
        entry, fitted = found.get(method.name, {}), costs.get(method.name)
        rows.append(
            {
                "name": method.name,
                "label": method.label,
                "group": method.group,
                "auroc": entry.get("auroc", {**_NOTHING, "reason": ""}),
                "macro_auroc_interval": entry.get("macro_auroc_interval", {**_NOTHING, "reason": ""}),
                "false_alarms": [_false_alarms(run, method.name, normals, one) for one in alphas],
                "cost": None if fitted is None or fitted.cost is None else fitted.cost.as_dict(),
                "problem": "" if fitted is None else fitted.problem,
            }
        )
    rows.sort(key=lambda row: -1.0 if row["auroc"]["value"] is None else row["auroc"]["value"], reverse=True)
    name = None if first is None else first["name"]
    return {"set": name, "n_normal": len(normals), "alphas": alphas, "rows": rows}


def detectors_table(detectors: Mapping[str, Any]) -> str:
    """``detectors.csv``: a line a score, in the order of :func:`count_detectors`."""
    shares = [f"false_alarms_{one['alpha']:g}" for one in detectors["alphas"]]
    intervals = ["auroc", "macro_auroc", *shares]
    costs = ["fit_seconds", "score_milliseconds", "peak_megabytes", "saved_megabytes"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{name}{end}" for name in intervals for end in ("", "_low", "_high")]
    writer.writerow(["name", "label", "group", *ends, *costs, "problem"])
    for row in detectors["rows"]:
        estimates = [row["auroc"], row["macro_auroc_interval"], *row["false_alarms"]]
        numbers = [_cell(estimate[key]) for estimate in estimates for key in ("value", "low", "high")]
        spent = [_cell((row["cost"] or {}).get(name)) for name in costs]
        writer.writerow([row["name"], row["label"], row["group"], *numbers, *spent, row["problem"]])
    return text.getvalue()


def _reached(run: BenchmarkRun, alpha: float) -> dict[str, Any]:
    subjects = [case.subject for case in run.calibrated]
    calibration = calibrate([0.0] * len(subjects), subjects, alpha)
    return {
        "alpha": alpha,
        "unit": calibration.unit,
        "units": calibration.units,
        "smallest_p_value": calibration.calibrator.smallest_p_value,
        "reached": calibration.reaches(alpha),
    }


def _false_alarms(
    run: BenchmarkRun, name: str, normals: Sequence[ScoredCase], asked: Mapping[str, Any]
) -> dict[str, Any]:
    nothing = {**_NOTHING, "k": None, "n": len(normals)}
    if not asked["reached"]:
        return nothing
    subjects = [case.subject for case in run.calibrated]
    if name == FUSED_METHOD:
        # The p-value of the fusion is calibrated already: the case is compared with the normals in the same way.
        rows = [case.scores for case in run.calibrated]
        fusion = run.fusion if asked["unit"] == "slices" else fit_fusion(rows, subjects)
        if fusion is None:
            return nothing
        p_values = fusion.p_value([case.scores for case in normals])
    else:
        if any(name not in case.scores for case in [*normals, *run.calibrated]):
            return nothing
        calibration = calibrate([case.scores[name] for case in run.calibrated], subjects, asked["alpha"])
        p_values = np.array([calibration.p_value(case.scores[name]) for case in normals])
    return rate(p_values <= asked["alpha"])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
