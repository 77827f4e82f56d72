"""A benchmark run on disk: ``metrics.json``, ``scores.csv``, ``detectors.csv``, ``figures/``, ``maps/`` and, last,
``report.html``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri.data.files import write_atomically, write_json, write_text
from monai_ctmri.evaluation.benchmark import BenchmarkRun
from monai_ctmri.evaluation.detector_table import detectors_table
from monai_ctmri.evaluation.judge import Progress, ScoredCase
from monai_ctmri.evaluation.methods import DECISION_METHOD
from monai_ctmri.evaluation.metrics import precision_recall_points, roc_points
from monai_ctmri.evaluation.results import scores_table
from monai_ctmri.report.canvas import save_figure
from monai_ctmri.report.comparisons import (
    auroc_forest,
    confusion_matrix,
    kind_by_method_heatmap,
    precision_recall_curves,
    roc_curves,
)
from monai_ctmri.report.examples import EXAMPLES_NOTE, choose_examples, heatmap_scale, panel_case
from monai_ctmri.report.figures import (
    calibration_curve,
    latent_view,
    p_value_histogram,
    score_distributions,
    training_curves,
)
from monai_ctmri.report.heatmaps import heatmap_panel, overlay
from monai_ctmri.report.html import ReportFigure, write_report
from monai_ctmri.report.maps import write_map

__all__ = ["write_benchmark_report"]

Draw = Callable[..., Any]


def write_benchmark_report(
    run: BenchmarkRun, results: Mapping[str, Any], out: str | os.PathLike[str], *, progress: Progress | None = None
) -> Path:
    """Write everything a run leaves behind.

    Args:
        run: a finished benchmark.
        results: what :func:`~monai_ctmri.evaluation.results.count_results` made of it.
        out: run folder.
        progress: called with (what is being done, steps done, steps in all).

    Returns:
        Path of ``report.html``.
    """
    folder, say = Path(out), progress or (lambda stage, done, total: None)
    content = {**results, "examples_note": EXAMPLES_NOTE}
    write_text(folder / "scores.csv", scores_table(run))
    write_text(folder / "detectors.csv", detectors_table(results["detectors"]))
    examples = choose_examples(run)
    scale = heatmap_scale(run.cases)
    _write_maps(run, examples, scale, folder)
    drawings = list(_drawings(run, content, examples, scale))
    figures = []
    for done, (name, title, caption, draw) in enumerate(drawings, start=1):
        files = {"light": folder / "figures" / f"{name}.png", "dark": folder / "figures" / f"{name}_dark.png"}
        for theme, file in files.items():
            save_figure(draw(theme=theme), file)
        figures.append(ReportFigure(name, title, caption, files["light"], files["dark"]))
        say("Drawing figures", done, len(drawings))
    write_json(folder / "metrics.json", content)
    write_report(folder / "report.html", content, figures)
    return folder / "report.html"


def _write_maps(run: BenchmarkRun, examples: Sequence[ScoredCase], scale: float, folder: Path) -> None:
    """Float maps of every test case on the grid of its own files, and pictures of the examples."""
    for case in run.originals:
        write_map(folder / "maps" / f"{case.case}.tif", case.map, *run.sizes[case.case])
    from PIL import Image

    for case in examples:
        anatomy = next(iter(case.images.values())).astype(np.float32)
        with write_atomically(folder / "figures" / "heatmaps" / f"{case.case}.png") as temporary:
            picture = overlay(anatomy, case.map.astype(np.float32), scale, case.mask)
            Image.fromarray(picture).save(temporary, format="PNG")


def _drawings(
    run: BenchmarkRun, results: Mapping[str, Any], examples: Sequence[ScoredCase], scale: float
) -> list[tuple[str, str, str, Draw]]:
    panel = [panel_case(case, run) for case in examples]
    cases = run.labelled or run.injected
    drawings: list[tuple[str, str, str, Draw]] = [
        (
            "examples",
            "What the network marks",
            "Each row is a case; the heatmap lies over the anatomy, the outline is the true lesion.",
            lambda theme: heatmap_panel(panel, scale, theme=theme),
        )
    ]
    if cases:
        drawings += _comparison_drawings(run, results["sets"][0], cases)
    decision, counts = results["decision"], results["decision"]["confusion"]
    drawings.append(
        (
            "confusion_matrix",
            "Decisions at the calibrated threshold",
            f"A case is flagged when its p-value is at most {decision['alpha']:g}.",
            lambda theme: confusion_matrix(**counts, threshold=decision["threshold"], theme=theme),
        )
    )
    if run.trained.history:
        drawings.append(_training_drawing(run, results))
    return drawings


def _comparison_drawings(
    run: BenchmarkRun, first: Mapping[str, Any], cases: Sequence[ScoredCase]
) -> list[tuple[str, str, str, Draw]]:
    methods = [one for one in first["methods"] if one["auroc"]["value"] is not None]
    whole = [one for one in methods if one["modality"] == "both" or len(run.modalities) == 1]
    labels = np.array([case.label for case in cases])
    names = _curve_names(whole)
    curves, precision = {}, {}
    for one in names:
        scores = [case.scores[one["name"]] for case in cases]
        fpr, tpr, _ = roc_points(labels, scores)
        curves[one["label"]] = (fpr.tolist(), tpr.tolist(), f"{one['auroc']['value']:.2f}")
        precisions, recalls, _ = precision_recall_points(labels, scores)
        precision[one["label"]] = (recalls.tolist(), precisions.tolist(), f"{one['average_precision']['value']:.2f}")
    kinds = sorted({case.kind for case in cases if case.kind})
    by_kind = [[one["by_kind"][kind]["auroc"] for one in whole] for kind in kinds]
    decision = {kind: [case.scores[DECISION_METHOD] for case in cases if case.kind == kind] for kind in [*kinds, ""]}
    shown = {kind.replace("_", " "): values for kind, values in decision.items() if kind}
    label = next(one["label"] for one in first["methods"] if one["name"] == DECISION_METHOD)
    threshold = run.calibration.calibrator.threshold(run.settings.alpha)
    limit = threshold if np.isfinite(threshold) else None
    coordinates, distances = _latent_plane(run, cases)
    shown_kinds = [case.kind.replace("_", " ") or "normal" for case in cases]
    normal_p = [case.p_value for case in cases if case.label == 0]
    abnormal_p = [case.p_value for case in cases if case.label == 1]
    prevalence = float(labels.mean())
    forest = [{"name": one["label"], "group": one["group"], **one["auroc"]} for one in whole]
    reading = f"On {first['name'].lower()}."
    return [
        (
            "auroc_forest",
            "Every method beside the baselines",
            f"{reading} Bars are 95 % bootstrap intervals over subjects.",
            lambda theme: auroc_forest(forest, theme=theme),
        ),
        (
            "kind_by_method",
            "What each method sees",
            f"{reading} AUROC for one kind of anomaly against all normal cases.",
            lambda theme: kind_by_method_heatmap(
                [kind.replace("_", " ") for kind in kinds], [one["label"] for one in whole], by_kind, theme=theme
            ),
        ),
        (
            "score_distributions",
            "Scores of normal and abnormal cases",
            f"{reading} {label}; higher is more abnormal.",
            lambda theme: score_distributions(decision[""], shown, limit, label, theme=theme),
        ),
        ("roc_curves", "ROC curves", reading, lambda theme: roc_curves(curves, theme=theme)),
        (
            "precision_recall_curves",
            "Precision and recall",
            f"{reading} The line is the share of abnormal cases, which chance reaches.",
            lambda theme: precision_recall_curves(precision, prevalence, theme=theme),
        ),
        (
            "latent_view",
            "Latent space",
            "Principal components of the latent features, fitted on training normals, and distance to their centre.",
            lambda theme: latent_view(coordinates, shown_kinds, distances, theme=theme),
        ),
        (
            "p_values",
            "Conformal p-values",
            "Normal cases should spread evenly between 0 and 1, abnormal ones gather at 0.",
            lambda theme: p_value_histogram(normal_p, abnormal_p, theme=theme),
        ),
        _calibration_drawing(normal_p),
    ]


def _curve_names(methods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The deciding method, the fused one, the source notes' two, and the best of the one-class detectors and of the
    trivial baselines."""
    chosen = [one for one in methods if one["name"] == DECISION_METHOD or one["group"] in ("fused", "source notes")]
    for group in ("one-class", "trivial baseline"):
        members = [one for one in methods if one["group"] == group]
        if members:
            chosen.append(max(members, key=lambda one: one["auroc"]["value"]))
    return chosen


def _calibration_drawing(normal_p: Sequence[float]) -> tuple[str, str, str, Draw]:
    from monai_ctmri.detection.calibration import binomial_interval

    alphas = np.linspace(0.01, 0.5, 50)
    flagged = [int(sum(p <= alpha for p in normal_p)) for alpha in alphas]
    bounds = [binomial_interval(k, len(normal_p)) for k in flagged]
    realised = [k / len(normal_p) for k in flagged]
    low, high = [bound[0] for bound in bounds], [bound[1] for bound in bounds]
    return (
        "calibration_curve",
        "False alarms asked for and realised",
        "On normal test cases; on or below the diagonal the promise is kept.",
        lambda theme: calibration_curve(list(alphas), realised, low, high, theme=theme),
    )


def _latent_plane(run: BenchmarkRun, cases: Sequence[ScoredCase]) -> tuple[np.ndarray, list[float]]:
    """Coordinates in the plane of the healthy features' first two components, and distances to their centre in all.

    A distance of 1 is that of a typical healthy case: the root of the features' total healthy variance.
    """
    from sklearn.decomposition import PCA

    plane = PCA(2, svd_solver="full").fit(run.healthy_features)
    features = np.stack([case.features for case in cases])
    spread = np.sqrt(run.healthy_features.var(axis=0).sum())
    distances = np.linalg.norm(features - run.healthy_features.mean(axis=0), axis=1) / max(spread, 1e-12)
    return plane.transform(features), distances.tolist()


def _training_drawing(run: BenchmarkRun, results: Mapping[str, Any]) -> tuple[str, str, str, Draw]:
    history = run.trained.history
    epochs = [entry["epoch"] for entry in history]
    losses = [entry["train_loss"] for entry in history]
    validation = [entry["val_mse"] for entry in history] if all("val_mse" in entry for entry in history) else None
    best = results["training"]["best_epoch"]
    return (
        "training_curves",
        "Training",
        "Mean squared error an epoch; the network of the best validation is the one that was tested.",
        lambda theme: training_curves(epochs, losses, validation, best, theme=theme),
    )
