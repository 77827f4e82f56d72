"""A benchmark run counted: the content of ``metrics.json`` and ``scores.csv``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from monai_ctmri import __version__, keys
from monai_ctmri.data.pseudo_subjects import PREFIX, WARNING
from monai_ctmri.evaluation.benchmark import BenchmarkRun
from monai_ctmri.evaluation.calibrated import rate
from monai_ctmri.evaluation.comparison import compare_methods, negative_controls
from monai_ctmri.evaluation.detector_table import count_detectors, further_detectors
from monai_ctmri.evaluation.judge import ScoredCase
from monai_ctmri.evaluation.methods import DECISION_METHOD, list_methods
from monai_ctmri.evaluation.metrics import auroc, confusion

__all__ = ["count_results", "scores_table"]

FEWEST_FOR_INTERVALS = 5
"""With fewer tested subjects a bootstrap only repeats or leaves out whole patients: its ends mean nothing."""

_INJECTED = "Injected lesions"
_LABELLED = "Labelled cases"


def count_results(run: BenchmarkRun, *, title: str, subtitle: str, command: str, phantom: bool) -> dict[str, Any]:
    """Count a run.

    Args:
        run: a finished benchmark.
        title, subtitle, command: what the report is called, and how to run it again.
        phantom: whether the data are the phantom; the result is then called one.

    Returns:
        A JSON-safe dictionary: ``data``, ``training``, ``sets`` (one a test set, with every method and the controls),
        ``decision`` (threshold, false alarms, sensitivity), ``detectors``
        (:func:`~monai_ctmri.evaluation.detector_table.count_detectors`) and ``notes``. What cannot be computed is None.
    """
    sets = []
    if run.labelled:
        sets.append(_count_set(run, _LABELLED, "Test slices with the labels of the manifest.", run.labelled))
    if run.injected:
        kinds = sorted({case.kind.replace("_", " ") for case in run.injected if case.kind})
        text = f"Normal test slices and, for each, an abnormal twin of each kind: {', '.join(kinds)}."
        sets.append(_count_set(run, _INJECTED, text, run.injected))
    return {
        "schema": 1,
        "title": title,
        "subtitle": subtitle,
        "version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "data": _count_data(run, phantom),
        "training": _count_training(run),
        "sets": sets,
        "decision": _count_decision(run),
        "detectors": count_detectors(run, sets[0] if sets else None, run.labelled or run.injected),
        "seconds": {stage: round(value, 1) for stage, value in run.seconds.items()},
        "examples_note": "",
        "notes": _notes(run, phantom),
    }


def _count_data(run: BenchmarkRun, phantom: bool) -> dict[str, Any]:
    manifest = run.protocol.manifest
    parts = []
    for part in ("train", "validation", "calibration", "test"):
        cases = manifest.select(split=part)
        if len(cases):
            abnormal = len(cases.select(label=1))
            unknown = len(cases.select(label=None))
            entry = {"name": part, "subjects": len(cases.subjects), "cases": len(cases)}
            parts.append({**entry, "abnormal": abnormal, "unlabelled": unknown})
    return {"kind": "phantom" if phantom else "real", "modalities": list(run.modalities), "parts": parts}


def _count_training(run: BenchmarkRun) -> dict[str, Any]:
    history = run.trained.history
    best = min(history, key=lambda entry: entry.get("val_mse", math.inf), default=None)
    return {
        "epochs_run": len(history),
        "best_epoch": best["epoch"] if best else None,
        "parameters": sum(parameter.numel() for parameter in run.trained.network.parameters()),
        "image_size": run.settings.image_size,
        "seconds": round(run.seconds.get("training final", 0.0), 1),
        "loss": "MSE",
    }


def _count_set(run: BenchmarkRun, name: str, description: str, cases: Sequence[ScoredCase]) -> dict[str, Any]:
    methods = list_methods(run.modalities)
    rows = [case.as_row() for case in cases]
    entries = compare_methods(rows, [one.name for one in methods], run.settings.seed, run.settings.repeats)
    if len({case.subject for case in cases}) < FEWEST_FOR_INTERVALS:
        for entry in entries:
            for interval in (entry["auroc"], entry["macro_auroc_interval"]):
                if interval["value"] is not None:
                    interval.update(low=None, high=None, reason="")
    return {
        "name": name,
        "description": description,
        "n_normal": sum(case.label == 0 for case in cases),
        "n_abnormal": sum(case.label == 1 for case in cases),
        "subjects": len({case.subject for case in cases}),
        **_shown_and_rest([{**entry, **method.as_dict()} for entry, method in zip(entries, methods, strict=True)]),
        "controls": _count_controls(run, name, cases, rows),
    }


def _shown_and_rest(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Methods on all modalities and, for each group, the best on one; the rest is kept apart, so that tables stay
    readable."""
    shown = [entry for entry in entries if entry["modality"] == entries[0]["modality"]]
    rest = [entry for entry in entries if entry["modality"] != entries[0]["modality"]]
    for group in dict.fromkeys(entry["group"] for entry in rest):
        members = [entry for entry in rest if entry["group"] == group and entry["auroc"]["value"] is not None]
        if members:
            best = max(members, key=lambda entry: entry["auroc"]["value"])
            shown.append(best)
            rest = [entry for entry in rest if entry is not best]
    return {"methods": shown, "single_modality_methods": rest}


def _count_controls(
    run: BenchmarkRun, name: str, cases: Sequence[ScoredCase], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    areas = {case.case: float(case.area) for case in cases}
    found = negative_controls(rows, [DECISION_METHOD], areas, seed=run.settings.seed, repeats=run.settings.repeats)
    ours = found["methods"][DECISION_METHOD]
    controls = []
    for key, label in (("clean_against_clean", "Clean against clean"), ("label_shuffle", "Shuffled labels")):
        mean = ours[key]["mean"]
        passed = None if mean is None else abs(mean - 0.5) < 0.05
        controls.append({"name": label, "value": mean, "expected": "0.50", "passed": passed})
    if name == _INJECTED:
        clean, blank = run.zero_contrast
        value = auroc([0] * len(clean) + [1] * len(blank), [*clean, *blank]) if clean else None
        passed = None if value is None else abs(value - 0.5) < 1e-3
        controls.append({"name": "Injection of zero contrast", "value": value, "expected": "0.50", "passed": passed})
        area = found["head_area"]
        controls.append(
            {"name": "Head area alone", "value": area["value"], "expected": "below 0.60", "passed": area["passes"]}
        )
    return controls


def _count_decision(run: BenchmarkRun) -> dict[str, Any]:
    """What happens at the calibrated threshold: on the labelled cases where there are both labels, else with twins."""
    alpha = run.settings.alpha
    judged = run.labelled or run.injected or [case for case in run.originals if case.label is not None]
    labels = [int(case.label or 0) for case in judged]
    flagged = [case.p_value <= alpha for case in judged]
    counts = confusion(labels, flagged) if judged else dict.fromkeys(("tp", "fp", "tn", "fn"), 0)
    calibrator = run.calibration.calibrator
    threshold = calibrator.threshold(alpha)
    method = next(one for one in list_methods(run.modalities) if one.name == DECISION_METHOD)
    return {
        "method": DECISION_METHOD,
        "label": method.label,
        "set": _INJECTED if run.injected and not run.labelled else _LABELLED,
        "alpha": alpha,
        "threshold": threshold if math.isfinite(threshold) else None,
        "n_calibration": run.calibration.units,
        "calibration_unit": run.calibration.unit,
        "smallest_p_value": calibrator.smallest_p_value,
        "false_alarms": rate([True] * counts["fp"] + [False] * counts["tn"]),
        "sensitivity": rate([True] * counts["tp"] + [False] * counts["fn"]),
        "confusion": counts,
    }


def _notes(run: BenchmarkRun, phantom: bool) -> list[str]:
    notes = list(run.protocol.notes)
    if any(subject.startswith(PREFIX) for subject in run.protocol.manifest.subjects):
        notes.append(WARNING)
    if phantom:
        notes.insert(0, "This is a phantom result: simulated heads, simulated lesions. It says nothing about patients.")
    notes.append(
        "Slices of one subject depend on each other: the binomial interval of the false-alarm rate takes them as "
        "independent and is narrower than it should be; intervals of AUROC resample subjects and are not affected."
    )
    for modality in keys.MODALITIES:
        having = sum(modality in case.modalities for case in run.protocol.manifest)
        if modality not in run.modalities and having:
            total = len(run.protocol.manifest)
            notes.append(f"{modality.upper()} was not used: only {having} of {total} cases have it.")
    tested = {case.subject for case in run.originals}
    if len(tested) < 10:
        what = "are rough" if len(tested) >= FEWEST_FOR_INTERVALS else "would mean nothing and are left out"
        notes.append(f"Only {len(tested)} subjects were tested: intervals over so few subjects {what}.")
    normal = {case.subject for case in run.originals if case.label == 0}
    if len(run.modalities) > 1 and len(normal) == 1:
        notes.append("No wrong pairs were made: there is no second normal test subject to take the partner from.")
    owners = {case.subject for case in run.calibrated}
    if run.calibration.unit == "slices" and len(owners) < len(run.calibrated):
        notes.append(
            f"The calibration normals are {len(run.calibrated)} slices of {len(owners)} subjects: too few subjects for "
            f"alpha {run.settings.alpha:g}, so slices were taken as independent. The false-alarm rate holds roughly."
        )
    smallest = run.calibration.calibrator.smallest_p_value
    if smallest > run.settings.alpha:
        notes.append(
            f"The calibration part is too small for alpha {run.settings.alpha}: the smallest reachable p-value is "
            f"{smallest:.3f}, nothing can be flagged."
        )
    return notes


def scores_table(run: BenchmarkRun) -> str:
    """``scores.csv``: a line a test case in the manifest's order, then a line a twin, with every named score; what
    could not be computed is empty."""
    names = [method.name for method in [*list_methods(run.modalities), *further_detectors(run)]]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "subject", "label", "kind", "twin_of", "score", "p_value", "flagged", *names])
    for case in run.cases:
        label = "" if case.label is None else case.label
        decision = case.scores[DECISION_METHOD]
        flagged = int(case.p_value <= run.settings.alpha)
        fixed = [
            case.case,
            case.subject,
            label,
            case.kind,
            case.twin_of,
            f"{decision:.8g}",
            f"{case.p_value:.8g}",
            flagged,
        ]
        numbers = [f"{np.float64(case.scores[name]):.8g}" if name in case.scores else "" for name in names]
        writer.writerow([*fixed, *numbers])
    return text.getvalue()
