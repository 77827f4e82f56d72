"""Zero-shot on real images: the command ``score`` with its default calibration, beside what needs no such network.

    python benchmarks/zero_shot.py --real ../shared/data --out runs/zero_shot

Nothing real was trained or calibrated on. For each labelled set the model (by default the bundle
``brain_ctmri_crossmodal`` with the weights and the calibration it ships with) scores every case; beside it, on the same
cases:

- the two methods of the source notes: mean squared error of a convolutional autoencoder, an isolation forest on its
  latent, trained on the same kind of phantom (``--subjects`` heads of every MR contrast), one a set of modalities;
- the trivial baselines, fitted on the same phantom heads; the intensity itself as a map.

Printed: slice AUROC with its interval (subjects resampled; slices where a set has fewer than 5 subjects), for masks
average precision over all pixels and the best Dice of one threshold; then the false-alarm rate on the real normals at
``--alpha`` with the calibration on phantom normals, and after one on 30 real normals, tested on the others (mean
over draws). ``--figure`` draws the most and the least abnormal cases of each set with their heatmaps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.data.splits import assign_splits
from monai_ctmri.data.verification import read_pixels
from monai_ctmri.detection.calibration import binomial_interval
from monai_ctmri.detection.decision import fit_decision
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.engines.bundle_training import train_bundle
from monai_ctmri.evaluation.cases import load_cases
from monai_ctmri.evaluation.metrics import best_dice, pixel_average_precision
from monai_ctmri.evaluation.scoring_run import ScoringRun, score_manifest
from monai_ctmri.evaluation.statistics import bootstrap_auroc
from monai_ctmri.scoring.baselines import trivial_baselines
from monai_ctmri.scoring.reconstruction import LatentScorer, ReconstructionScorer
from monai_ctmri.transforms import LoadMask

MODEL = "brain_ctmri_crossmodal"
SETS = {"pairs": ("ct", "mri"), "ct_hemorrhage": ("ct",), "lgg_flair": ("mri",)}
FIRST_SEED = 700000
"""Phantom heads of the peers: none that the bundle saw."""
FEWEST_SUBJECTS, CALIBRATION, DRAWS = 5, 30, 100


def interval(cases: Sequence[Case], scores: Sequence[float]) -> str:
    """Slice AUROC and its interval."""
    subjects = [case.subject for case in cases]
    if len(set(subjects)) < FEWEST_SUBJECTS:
        subjects = [case.name for case in cases]
    found = bootstrap_auroc([int(case.label or 0) for case in cases], scores, subjects)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def mask_of(case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """The lesion on the case's own grid."""
    return np.zeros(shape, bool) if case.mask is None else np.asarray(LoadMask()(case.mask))[0] > 0.5


def pixels(cases: Sequence[Case], maps: Sequence[np.ndarray]) -> str:
    """Pixel average precision and best Dice; nothing where no case has a mask."""
    if all(case.mask is None for case in cases):
        return ""
    masks = [mask_of(case, one.shape) for case, one in zip(cases, maps, strict=True)]
    return f" / {pixel_average_precision(masks, maps):.2f} / {best_dice(masks, maps):.2f}"


def phantom_peers(
    modalities: tuple[str, ...], manifest: Manifest, out: Path, subjects: int, epochs: int
) -> dict[str, str]:
    """What the notes' methods and the trivial baselines make of a set; one row each."""
    source = write_phantom(out / "phantom", subjects, FIRST_SEED, contrast="mixed", workers=2)
    divided = assign_splits(Manifest.read(source), {"train": 0.9, "validation": 0.1}, 0, allow_empty=True)
    listed = out / "phantom_divided.csv"
    divided.write_csv(listed)
    trained = train_bundle(
        "brain_ctmri_autoencoder",
        out / "autoencoder" / "-".join(modalities),
        dataset_dir=str(listed),
        modalities=list(modalities),
        max_epochs=epochs,
        progress_bar=False,
    )
    healthy = load_cases(divided.select(split="train"), trained.preprocess, modalities)
    network = ReconstructionScorer(trained.network, modalities, latent_pool=4)
    forest = LatentScorer(network, OutlierDetector("IForest", random_state=0), "iforest").fit(healthy)
    baselines = [scorer.fit(healthy) for scorer in trivial_baselines(modalities)]
    cases = list(manifest)
    loaded = load_cases(manifest, trained.preprocess, modalities)
    columns: dict[str, list[float]] = {}
    for case in loaded:
        scores = {
            "notes: autoencoder MSE": network.score(case).scores["l2_mean"],
            "notes: Isolation Forest on the latent": forest.score(case).scores["iforest"],
        }
        for scorer in baselines:
            name, value = next(item for item in scorer.score(case).scores.items() if not item[0].endswith(modalities))
            scores[f"trivial: {name}"] = value
        for name, value in scores.items():
            columns.setdefault(name, []).append(value)
    rows = {name: interval(cases, values) for name, values in columns.items()}
    if any(case.mask for case in cases):
        grey = [read_pixels(case.mri or case.ct).astype(np.float32) for case in cases]  # type: ignore[arg-type]
        grey = [one if one.ndim == 2 else one[..., 0] for one in grey]
        rows["trivial: bright"] += pixels(cases, [one / max(float(one.max()), 1.0) for one in grey])
    return rows


def false_alarms(run: ScoringRun, alpha: float) -> str:
    """The share of real normals that is flagged: by the model's own calibration, and by one on 30 real normals."""
    normal = [one for one in run.outcomes if one.case.label == 0]
    flagged = sum(bool(one.flagged) for one in normal)
    cell = "not calibrated"
    if run.decision is not None:
        low, high = binomial_interval(flagged, len(normal))
        cell = f"{flagged}/{len(normal)} = {flagged / len(normal):.2f} [{low:.2f}, {high:.2f}]"
    if len(normal) <= CALIBRATION:
        return f"{cell} | fewer than {CALIBRATION + 1} normals"
    given = normal[0].scores  # those of the modalities that this set has
    names = None if run.decision is None else [name for name in run.decision.fusion.names_ if name in given]
    method: Any = "minimum" if run.decision is None else run.decision.fusion.method
    rates, abnormal = [], [one for one in run.outcomes if one.case.label == 1]
    found = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(normal))
        known, unseen = order[:CALIBRATION], order[CALIBRATION:]
        rows = [normal[place].scores for place in known]
        decision = fit_decision(rows, [str(place) for place in known], run.model.files, method=method, names=names)
        rates.append(np.mean([decision.decide(normal[place].scores).p_value <= alpha for place in unseen]))
        if draw < 10:  # each decision costs as much as its normals
            found.append(np.mean([decision.decide(one.scores).p_value <= alpha for one in abnormal]))
    return f"{cell} | {np.mean(rates):.3f} (of {len(normal) - CALIBRATION}); finds {np.mean(found):.2f} of the abnormal"


def draw(runs: dict[str, ScoringRun], path: Path, columns: int = 8) -> None:
    """Each set's highest and lowest normal and abnormal cases with their heatmaps."""
    import matplotlib.pyplot as plt
    import tifffile

    kinds: list[tuple[str, int, Callable[[int], slice]]] = [
        ("abnormal, highest", 1, lambda n: slice(0, n)),
        ("abnormal, lowest", 1, lambda n: slice(-n, None)),
        ("normal, highest", 0, lambda n: slice(0, n)),
        ("normal, lowest", 0, lambda n: slice(-n, None)),
    ]
    figure, axes = plt.subplots(
        len(runs) * len(kinds), 2 * columns, figsize=(2 * columns, len(runs) * len(kinds) * 1.1)
    )
    for axis in axes.flat:
        axis.axis("off")
    for block, (name, run) in enumerate(runs.items()):
        shown = SETS[name][-1]
        top = np.quantile([tifffile.imread(one.map_path).max() for one in run.outcomes if one.map_path], 0.9)
        for row, (title, label, part) in enumerate(kinds):
            ranked = sorted((one for one in run.outcomes if one.case.label == label), key=lambda one: -one.score)
            line = axes[block * len(kinds) + row]
            line[0].set_title(f"{name}: {title}", loc="left", fontsize=8)
            for place, one in enumerate(ranked[part(columns)]):
                picture = read_pixels(getattr(one.case, shown))
                line[2 * place].imshow(picture if picture.ndim == 2 else picture[..., 0], cmap="gray")
                if one.case.mask is not None:
                    line[2 * place].contour(
                        mask_of(one.case, picture.shape[:2]), levels=[0.5], colors="c", linewidths=0.5
                    )
                if one.map_path is not None:
                    line[2 * place + 1].imshow(tifffile.imread(one.map_path), cmap="inferno", vmin=0, vmax=top)
    figure.subplots_adjust(0, 0, 1, 0.98, 0.01, 0.15)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with pairs, ct_hemorrhage and lgg_flair")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores, heatmaps and the peers' trainings")
    parser.add_argument("--model", default=MODEL, help="bundle or run")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--subjects", type=int, default=60, help="phantom heads the peers are trained on")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the notes' autoencoder")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--no-peers", action="store_true", help="the model alone")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    table: dict[str, dict[str, str]] = {}
    rates, runs = {}, {}
    for name in options.sets:
        given = Manifest.read(options.real / name / "manifest.csv")
        manifest = given.with_cases(case for case in given if case.label is not None)
        listed = options.out / f"{name}.csv"
        manifest.write_csv(listed)
        run = score_manifest(listed, options.model, options.out / "scores" / name, alpha=options.alpha)
        runs[name] = run
        cases = [one.case for one in run.outcomes]
        import tifffile

        maps = [tifffile.imread(one.map_path) for one in run.outcomes if one.map_path]
        rows = {
            f"score ({Path(options.model).name})": interval(cases, [one.score for one in run.outcomes])
            + pixels(cases, maps)
        }
        if not options.no_peers:
            rows |= phantom_peers(SETS[name], manifest, options.out, options.subjects, options.epochs)
        rates[name] = false_alarms(run, options.alpha)
        for row, cell in rows.items():
            table.setdefault(row, {})[name] = cell
    print(f"| method | {' | '.join(options.sets)} |\n| --- |{' --- |' * len(options.sets)}")
    for row, cells in table.items():
        print(f"| {row} | {' | '.join(cells.get(name, '-') for name in options.sets)} |")
    print(f"\n| normals flagged at {options.alpha:g} | on phantom normals | on {CALIBRATION} real normals |")
    print("| --- | --- | --- |")
    for name, cell in rates.items():
        print(f"| {name} | {cell} |")
    if options.figure:
        draw(runs, options.figure)


if __name__ == "__main__":
    main()
