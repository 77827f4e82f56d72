"""Which cases of a run are shown, chosen by a rule and not by taste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_ctmri.evaluation.benchmark import BenchmarkRun
from monai_ctmri.evaluation.judge import ScoredCase
from monai_ctmri.evaluation.methods import DECISION_METHOD

__all__ = ["EXAMPLES_NOTE", "choose_examples", "heatmap_scale", "panel_case"]

EXAMPLES_NOTE = (
    "Chosen by rule: for each kind of anomaly the case with the median score and the one with the highest, then the "
    "normal case with the median score and the one with the highest. All heatmaps share one scale, which ends at the "
    "99.9th percentile of normal test pixels: what glows is rarer than one normal pixel in a thousand."
)


def choose_examples(run: BenchmarkRun) -> list[ScoredCase]:
    """For each kind, then for normals: the median-scoring and the highest-scoring case.

    Cases of unknown label are left out, unless no label is known at all.
    """
    groups: dict[str, list[ScoredCase]] = {}
    for case in [case for case in run.cases if case.label is not None] or run.cases:
        groups.setdefault(case.kind, []).append(case)
    chosen: list[ScoredCase] = []
    for kind in sorted(groups, key=lambda name: (name == "", name)):
        ranked = sorted(groups[kind], key=lambda case: (case.scores[DECISION_METHOD], case.case))
        chosen += list({case.case: case for case in (ranked[len(ranked) // 2], ranked[-1])}.values())
    return chosen


def heatmap_scale(cases: Sequence[ScoredCase]) -> float:
    """One upper end for every heatmap: the 99.9th percentile of the maps of normal cases (of all, if none is
    normal)."""
    normal = [case.map for case in cases if case.label == 0] or [case.map for case in cases]
    top = float(np.percentile(np.concatenate([one.ravel() for one in normal]).astype(np.float32), 99.9))
    return max(top, 1e-6)


def panel_case(case: ScoredCase, run: BenchmarkRun) -> dict[str, Any]:
    """A case as :func:`~monai_ctmri.report.heatmaps.heatmap_panel` wants it."""
    label = {"ct": "CT", "mri": "MRI"}
    reconstruction = run.judge.reconstruct(case.images)
    return {
        "title": case.twin_of or case.case,
        "kind": case.kind.replace("_", " ") or ("normal" if case.label == 0 else "label unknown"),
        "score": case.scores[DECISION_METHOD],
        "p_value": case.p_value,
        "images": {label[name]: picture.astype(np.float32) for name, picture in case.images.items()},
        "reconstructions": {label[name]: picture for name, picture in reconstruction.items()},
        "map": case.map.astype(np.float32),
        "mask": case.mask,
    }
