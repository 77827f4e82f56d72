"""Is the fused score as good as the best single one? Fusion methods and every single score on three phantoms.

    python benchmarks/fusion.py --out runs/fusion --table fusion.md
    python benchmarks/fusion.py --out runs/fusion-development --seeds 500000 --compare

The first trains a network a phantom (64 pixels) and takes about two minutes a seed on one core. Phantoms of different
seeds share no subject. What is fused, and how, was chosen on seeds 500000 to 500039 alone (the second command lists the
alternatives); nothing is fitted on an anomaly: the fusion sees the calibration normals only.

The best single score is the best of ALL named scores of the run on the very test it is compared on: residuals of both
modalities and of each, every one-class detector, the source notes' methods and the trivial baselines. Nobody could have
picked it beforehand. The difference is paired: both scores on the same bootstrap resamples of subjects.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from monai_ctmri.evaluation.fused import FUSED_SCORES, FUSION_METHOD, fit_fusion

SEEDS = (610_000, 620_000, 630_000)
GOAL = -0.01

CHOICES: dict[str, tuple[str, ...]] = {
    "L1, SSIM, one density": ("l1_mean", "ssim_mean", "mahalanobis"),
    "L1": ("l1_mean", "l1_top"),
    "L1, density": ("l1_mean", "mahalanobis"),
    "L1 twice, SSIM, density": ("l1_mean", "l1_top", "ssim_mean", "mahalanobis"),
    "highest 1 % of L1, SSIM, density": ("l1_top", "ssim_mean", "mahalanobis"),
    "all residuals": ("l1_mean", "l1_top", "l2_mean", "l2_top", "ssim_mean", "ssim_top"),
    "all residuals, density": ("l1_mean", "l1_top", "l2_mean", "l2_top", "ssim_mean", "ssim_top", "mahalanobis"),
}
"""What might be fused, to choose from on development seeds."""


def run_seed(seed: int, given: argparse.Namespace) -> Any:
    """The benchmark of the package on a phantom of this seed."""
    from monai_ctmri.data.phantom import write_phantom
    from monai_ctmri.engines.precision import prefers_bfloat16
    from monai_ctmri.evaluation.benchmark import run_benchmark
    from monai_ctmri.evaluation.settings import BenchmarkSettings

    folder = given.out / (str(seed) if given.division is None else f"{seed}-{given.division}")
    manifest = write_phantom(folder / "phantom", given.subjects, seed, size=given.size, slices=given.slices)
    settings = BenchmarkSettings(
        image_size=given.size, seed=given.division or 0, bf16=prefers_bfloat16(), detectors=given.detectors
    )
    return run_benchmark(manifest, folder, settings)


def scores_of(rows: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """One named score of every case."""
    return np.array([row[name] for row in rows])


def compare(run: Any, choices: Mapping[str, Sequence[str]]) -> tuple[list[tuple[str, float]], list[dict[str, Any]]]:
    """Single scores, best first, with their macro AUROC; and every way to fuse beside the best of them."""
    from monai_ctmri.detection.p_value_combination import CombinationMethod
    from monai_ctmri.evaluation.statistics import bootstrap_macro_auroc, bootstrap_macro_auroc_difference

    cases = run.injected
    labels, kinds = [case.label for case in cases], [case.kind for case in cases]
    subjects, rows = [case.subject for case in cases], [case.scores for case in cases]

    def macro(values: np.ndarray) -> float:
        return float(bootstrap_macro_auroc(labels, values, kinds, subjects, repeats=2).value or 0.0)

    singles = [(name, macro(scores_of(rows, name))) for name in rows[0] if name != "fused"]
    singles.sort(key=lambda one: -one[1])
    best = scores_of(rows, singles[0][0])
    fused = []
    for what, names in choices.items():
        for method in get_args(CombinationMethod):
            fusion = fit_fusion([case.scores for case in run.calibrated], method=method, names=names)
            if fusion is None:
                raise SystemExit("too few calibration normals to fuse scores; give more subjects")
            values = fusion.decision_function(rows)
            difference = bootstrap_macro_auroc_difference(labels, values, best, kinds, subjects)
            fused.append({"what": what, "method": method, "macro": macro(values), "difference": difference})
    return singles, fused


def table_of(seed: int, singles: Sequence[tuple[str, float]], fused: Sequence[Mapping[str, Any]], top: int) -> str:
    """One seed as markdown lines."""
    trivial = next((one for one in singles if one[0].partition("_")[0] in TRIVIAL), None)
    listed = "; ".join(f"{name} {value:.3f}" for name, value in singles[:top])
    lines = [f"Seed {seed}, {len(singles)} single scores, the best: {listed}."]
    if trivial is not None:
        lines.append(f"Best trivial baseline: {trivial[0]} {trivial[1]:.3f}.")
    lines += ["", "| fused | how | macro AUROC | minus the best single score | 95 % interval | at least -.01 |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for one in fused:
        apart = one["difference"]
        ends = f"[{apart.low:+.3f}, {apart.high:+.3f}]" if apart.low is not None else "-"
        reached = "yes" if apart.value >= GOAL else "no"
        own = " (the run's)" if (one["what"], one["method"]) == (", ".join(FUSED_SCORES), FUSION_METHOD) else ""
        cells = [one["what"], one["method"] + own, f"{one['macro']:.3f}", f"{apart.value:+.3f}", ends, reached]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


TRIVIAL = ("mean", "spread", "percentile", "bright", "atlas", "random")


def main() -> None:
    """Run every seed, print the tables, write them."""
    logging.disable(logging.INFO)  # an epoch is no news here
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of phantoms and runs; a run cut off continues")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="first seed of each phantom")
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--division", type=int, help="seed of division, training and lesions; default 0")
    parser.add_argument("--detectors", default="all", help="as in monai-ctmri benchmark")
    parser.add_argument("--compare", action="store_true", help="list what else might be fused")
    parser.add_argument("--top", type=int, default=8, help="single scores listed")
    parser.add_argument("--table", type=Path, help="write the tables here (markdown)")
    given = parser.parse_args()
    choices: dict[str, tuple[str, ...]] = {", ".join(FUSED_SCORES): FUSED_SCORES}
    if given.compare:
        choices |= CHOICES
    tables = []
    for seed in given.seeds:
        tables.append(table_of(seed, *compare(run_seed(seed, given), choices), given.top))
        print(tables[-1], flush=True)
    if given.table:
        given.table.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
