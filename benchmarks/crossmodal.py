"""What the cross-modal bundle finds on the phantom, after training on 60 subjects.

    python benchmarks/crossmodal.py --out runs/crossmodal

writes the phantom (seeds below), trains the bundle ``brain_ctmri_crossmodal`` on CT and MRI and once more on CT alone,
and prints three tables, all phantom results on subjects that no training saw:

- AUROC of every anomaly against the clean slices, for each witness, with an interval by bootstrap over subjects;
- mean absolute error of CT predicted from MRI, in HU within the window, beside the best maps from one grey level to HU
  fitted on the training subjects (the isotonic ones, and a table of medians);
- CT alone: the network for both modalities, asked with the MRI absent, against the network that only ever saw CT.

A training that was cut off is continued. ``--epochs`` sets its length; the time it took is printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import GaussianSmooth

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.engines.bundle_training import TrainedBundle, train_bundle
from monai_ctmri.evaluation.cases import FIELD_OF_VIEW_MM, load_cases
from monai_ctmri.evaluation.statistics import bootstrap_auroc
from monai_ctmri.scoring.asymmetry import AsymmetryScorer
from monai_ctmri.scoring.denoising import DenoiserScorer
from monai_ctmri.transforms import BrainMask, HeadMask, MapScore, abnormal_twins
from monai_ctmri.transforms.lesion_suite import SUITE, lesion_of

BUNDLE = "brain_ctmri_crossmodal"
SEED, TRAIN, VALIDATION, TEST = 810_000, 60, 8, 20
WINDOW_HU = 80.0
SIZE = 128
LEAST_BRAIN = 0.08
DONORS = 5
ASKED: dict[str, dict[str, Any]] = {
    "wrong_pair": {},
    "misregistration": {"shift_mm": (4.0, 15.0)},
    "hemorrhage": {"size_mm": (8.0, 40.0)},
    "calcification": {"size_mm": (8.0, 12.0)},
}
"""The kinds with a goal, and the least size it holds for."""

Case = dict[str, Any]


def phantom(folder: Path) -> Path:
    """Write the subjects and who trains, validates and tests."""
    source = write_phantom(folder / "phantom", TRAIN + VALIDATION + TEST, SEED, size=SIZE)
    manifest = Manifest.read(source)
    parts = ["train"] * TRAIN + ["validation"] * VALIDATION + ["test"] * TEST
    target = source.parent / "divided.csv"
    manifest.with_splits(dict(zip(manifest.subjects, parts, strict=True))).write_csv(target)
    return target


def trained(folder: Path, manifest: Path, modalities: Sequence[str], epochs: int, bf16: bool | None) -> TrainedBundle:
    """Train or continue, and say how long it took."""
    start = time.monotonic()
    options: dict[str, Any] = {"dataset_dir": str(manifest), "modalities": list(modalities), "max_epochs": epochs}
    # The witness of the other modality is asked here, not that of the other hemisphere.
    options |= {"bf16": bf16, "mirror": False}
    made = train_bundle(BUNDLE, folder, progress_bar=False, **options)
    print(f"{' + '.join(modalities)}: {len(made.history)} epochs, {(time.monotonic() - start) / 60:.1f} min\n")
    return made


def twins(cases: Sequence[Case], kind: str, seed: int) -> list[Case]:
    """One abnormal twin of every slice with brain enough."""
    found = []
    options = {"keys": ("ct", "mri"), "pixel_spacing_mm": FIELD_OF_VIEW_MM / SIZE, **ASKED.get(kind, {})}
    for case in cases:
        if float(np.asarray(case["brain"]).mean()) < LEAST_BRAIN:
            continue
        area = float(np.asarray(case["brain"]).sum())
        by_area = sorted(cases, key=lambda one: abs(float(np.asarray(one["brain"]).sum()) - area))
        donors = [one for one in by_area if one["subject"] != case["subject"]][:DONORS]
        neighbours = [one for one in cases if one["subject"] == case["subject"] and one is not case]
        lesion = lesion_of(kind, donors=donors, neighbours=neighbours, **options)
        (twin,) = abnormal_twins([case], [lesion], seed)
        twin["image"] = torch.cat([torch.as_tensor(twin["ct"]), torch.as_tensor(twin["mri"])])
        found.append(twin)
    return found


def witnesses(network: torch.nn.Module, modalities: Sequence[str], smoothing_mm: float) -> list[Any]:
    """Every scorer of the bundle that needs no fit."""
    mask = BrainMask(ct_channel=0 if "ct" in modalities else None)
    spacing = FIELD_OF_VIEW_MM / SIZE
    number = MapScore(erode=3)
    smooth = GaussianSmooth(smoothing_mm / spacing) if smoothing_mm else None
    denoiser = DenoiserScorer(
        network, modalities, mask=mask, mismatch_mask=HeadMask(), map_score=number, smoothing=smooth
    )
    return [denoiser, AsymmetryScorer(modalities, pixel_spacing_mm=spacing, smoothing=smooth)]


def scored(cases: Sequence[Case], scorers: Sequence[Any]) -> dict[str, list[float]]:
    """Named scores, a list over the cases."""
    table: dict[str, list[float]] = {}
    for case in cases:
        for scorer in scorers:
            for name, value in scorer.score(case).scores.items():
                table.setdefault(name, []).append(value)
    return table


def auroc(clean: Sequence[float], ill: Sequence[float], who: Sequence[str], twins_of: Sequence[str]) -> str:
    """AUROC with its interval, as text."""
    labels = [0] * len(clean) + [1] * len(ill)
    found = bootstrap_auroc(labels, [*clean, *ill], [*who, *twins_of], repeats=500, seed=0)
    return f"{found.value:.3f} [{found.low:.2f}, {found.high:.2f}]"


def grey_maps(mri: np.ndarray, ct: np.ndarray) -> dict[str, Any]:
    """Maps from one grey level to HU: isotonic rising and falling, and the median of each of 256 levels."""
    from sklearn.isotonic import IsotonicRegression

    levels = np.clip((mri * 255).round().astype(int), 0, 255)
    medians = np.array([np.median(ct[levels == level]) if (levels == level).any() else 0.0 for level in range(256)])
    step = max(1, len(mri) // 200_000)
    maps: dict[str, Any] = {"table of medians": lambda x: medians[np.clip((x * 255).round().astype(int), 0, 255)]}
    for name, rising in (("rising", True), ("falling", False)):
        fitted = IsotonicRegression(increasing=rising, out_of_bounds="clip").fit(mri[::step], ct[::step])
        maps[f"monotone, {name}"] = fitted.predict
    return maps


def inside(cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    """MRI and CT of the pixels of the head, HU within the window."""
    images = np.stack([np.asarray(case["image"]) for case in cases])
    head = (images > 0.05).any(1)
    return images[:, 1][head], images[:, 0][head] * WINDOW_HU


def translation(network: torch.nn.Module, train: Sequence[Case], test: Sequence[Case]) -> None:
    """Print the error of CT from MRI."""
    mri, ct = inside(test)
    errors = {name: np.abs(fit(mri) - ct).mean() for name, fit in grey_maps(*inside(train)).items()}
    images = torch.stack([torch.as_tensor(np.asarray(case["image"])) for case in test])
    with torch.inference_mode():
        pred = torch.cat([network.translate(part, 1)[:, 0] for part in images.split(16)])  # type: ignore[operator]
    head = (images > 0.05).any(1).numpy()
    ours = np.abs(pred.numpy().clip(0, 1)[head] * WINDOW_HU - ct).mean()
    print("| CT from MRI | mean absolute error in the head, HU (0 to 80) |\n| --- | --- |")
    for name, value in {"**denoiser**": ours, **errors}.items():
        print(f"| {name} | {value:.2f} |")
    print(f"\nThe best map of grey levels errs {min(errors.values()) / ours:.2f} times as much.\n")


def witness_table(test: Sequence[Case], scorers: Sequence[Any], kinds: Sequence[str]) -> None:
    """Print AUROC by kind and witness."""
    clean = scored(test, scorers)
    names = [name for name in clean if name.split("_")[-2] not in ("ct", "mri")]
    print(f"| anomaly | twins | {' | '.join(names)} |\n| --- | --- |{' --- |' * len(names)}")
    for kind in kinds:
        ill = twins(test, kind, seed=1)
        found, who = scored(ill, scorers), [str(case["subject"]) for case in test]
        cells = [auroc(clean[name], found[name], who, [str(one["subject"]) for one in ill]) for name in names]
        print(f"| {kind.replace('_', ' ')} | {len(ill)} | {' | '.join(cells)} |", flush=True)
    print()


def missing_modality(both: torch.nn.Module, alone: torch.nn.Module, test: Sequence[Case], smoothing_mm: float) -> None:
    """Print what CT alone gives by either network."""

    def only_ct(cases: Sequence[Case], zeros: bool) -> list[Case]:
        blank = torch.zeros(1, SIZE, SIZE)
        shown = [torch.as_tensor(np.asarray(case["ct"])) for case in cases]
        return [
            {**case, "image": torch.cat([ct, blank]) if zeros else ct} for case, ct in zip(cases, shown, strict=True)
        ]

    print("| CT alone | denoiser of both, MRI absent | denoiser of CT only |\n| --- | --- | --- |")
    who = [str(case["subject"]) for case in test]
    for kind in ("hemorrhage", "calcification", "infarct", "tumour"):
        ill = twins(test, kind, seed=1)
        cells = []
        for network, names, zeros in ((both, ("ct", "mri"), True), (alone, ("ct",), False)):
            scorers = witnesses(network, names, smoothing_mm)[:1]
            found = [scored(only_ct(some, zeros), scorers)["error_top"] for some in (test, ill)]
            cells.append(auroc(*found, who, [str(one["subject"]) for one in ill]))
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/crossmodal"))
    parser.add_argument("--epochs", type=int, default=30, help="45 steps of 16 slices each")
    parser.add_argument("--suite", action="store_true", help="the rest of the library too, on every fourth slice")
    parser.add_argument("--smoothing-mm", type=float, default=5.0, help="of the maps, as in the bundle; 0 for none")
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    options = parser.parse_args()
    manifest = phantom(options.out)
    bf16 = False if options.float32 else None
    both = trained(options.out / "both", manifest, ("ct", "mri"), options.epochs, bf16)
    parts = Manifest.read(manifest)
    train, test = (load_cases(parts.select(split=part), both.preprocess, ("ct", "mri")) for part in ("train", "test"))
    scorers = witnesses(both.network, ("ct", "mri"), options.smoothing_mm)
    witness_table(test, scorers, list(ASKED))
    if options.suite:
        witness_table(test[::4], scorers, [kind for kind in SUITE if kind not in ASKED])
    translation(both.network, train, test)
    alone = trained(options.out / "ct", manifest, ("ct",), options.epochs, bf16)
    missing_modality(both.network, alone.network, test, options.smoothing_mm)


if __name__ == "__main__":
    main()
