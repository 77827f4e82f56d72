"""What does the other hemisphere tell? Slice and pixel numbers on real sets, and the blind spots on the phantom.

    python benchmarks/asymmetry.py --real ../shared/data

prints a table with a row a set and a column a form (any difference or brighter only; tolerance 0, 2, 4, 6 mm): slice
AUROC of the mean of the map's highest 1 %, and where lesion masks exist average precision over all pixels and the best
Dice over all thresholds. Nothing is trained. Then the milliseconds a slice that finding the line costs, and, on the
phantom, AUROC of slices with a lesion against their clean twins: one-sided lesions beside the same on both sides or on
the midline, atrophy and hydrocephalus; a result there is a phantom result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, ConcatItemsd, Resized, ResizeWithPadOrCropd

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.evaluation.cases import FIELD_OF_VIEW_MM, load_cases
from monai_ctmri.evaluation.metrics import auroc, best_dice, pixel_average_precision
from monai_ctmri.scoring.asymmetry import AsymmetryScorer
from monai_ctmri.transforms import LoadSliced, MidsagittalAlign, NormalizeMRId, WindowCTd
from monai_ctmri.transforms.lesion_suite import lesion_of
from monai_ctmri.transforms.symmetry import align_midsagittal, find_midline

SETS = (("pairs", "mri"), ("ct_hemorrhage", "ct"), ("lgg_flair", "mri"))
FORMS = [(signed, tolerance) for signed in (False, "brighter") for tolerance in (0.0, 2.0, 4.0, 6.0)]
LESIONS = ("hemorrhage", "chronic_infarct", "tumour")
BILATERAL = ("atrophy", "hydrocephalus")


def cases_of(manifest: Manifest, modality: str, size: int) -> list[dict[str, Any]]:
    """Labelled cases after the preprocessing of the bundles."""
    prepare = Compose(
        [
            LoadSliced(keys=modality, allow_missing_keys=False),
            WindowCTd(keys="ct", allow_missing_keys=True),
            NormalizeMRId(keys="mri", allow_missing_keys=True),
            Resized(keys=modality, spatial_size=size, size_mode="longest", mode="bilinear", anti_aliasing=True),
            ResizeWithPadOrCropd(keys=modality, spatial_size=[size, size]),
            ConcatItemsd(keys=[modality], name="image"),
        ]
    )
    return load_cases(Manifest([case for case in manifest if case.label is not None]), prepare, [modality])


def real_row(cases: Sequence[dict[str, Any]], modality: str, size: int) -> tuple[list[str], float]:
    """One cell a form, and the milliseconds of one line search. Aligned once, as the forms share their line."""
    spacing, aligner = FIELD_OF_VIEW_MM / size, MidsagittalAlign()
    images = [np.asarray(case["image"], dtype=np.float32) for case in cases]
    start = time.process_time()
    lines = [find_midline(image) for image in images]
    cost = 1000 * (time.process_time() - start) / len(lines)
    aligned = [aligner(image, midline=line) for image, line in zip(images, lines, strict=True)]
    masks = [np.asarray(case["mask"])[0] > 0.5 for case in cases if "mask" in case]
    cells = []
    for signed, tolerance in FORMS:
        scorer = AsymmetryScorer([modality], tolerance, spacing, signed, align=False)
        evidence = [scorer.score({"image": image}) for image in aligned]
        cell = f"{auroc([case['label'] for case in cases], [one.scores['asymmetry_top'] for one in evidence]):.3f}"
        if len(masks) == len(cases):
            maps = [
                np.asarray(aligner.inverse(image.clone().copy_(torch.as_tensor(one.maps["asymmetry"])[None])))[0]
                for image, one in zip(aligned, evidence, strict=True)
            ]
            cell += f" / {pixel_average_precision(masks, maps):.3f} / {best_dice(masks, maps):.3f}"
        cells.append(cell)
    return cells, cost


def lesion_sides(kind: str, size: int, seed: int) -> dict[str, Callable[[dict[str, Any]], np.ndarray]]:
    """Ways to put one lesion into an aligned slice: on one side, its mirror image on the other too, on the midline."""
    options = {"keys": ("mri",), "pixel_spacing_mm": FIELD_OF_VIEW_MM / size, "size_mm": (25.0, 25.0)}

    def injected(case: dict[str, Any], location: tuple[float, float]) -> np.ndarray:
        transform = lesion_of(kind, location=location, **options)
        transform.set_random_state(seed)
        return np.asarray(transform(case)["mri"])

    def one_side(case: dict[str, Any]) -> np.ndarray:
        return injected(case, (0.5, 0.8))

    def both_sides(case: dict[str, Any]) -> np.ndarray:
        change = one_side(case) - np.asarray(case["mri"])
        return np.clip(np.asarray(case["mri"]) + change + change[..., ::-1], 0, 1)

    def midline(case: dict[str, Any]) -> np.ndarray:
        change = one_side(case) - np.asarray(case["mri"])
        columns = np.flatnonzero(np.abs(change[0]).max(axis=0) > 0)
        move = round((size - 1) / 2 - columns.mean()) if len(columns) else 0
        return np.clip(np.asarray(case["mri"]) + np.roll(change, move, axis=-1), 0, 1)

    return {"one side": one_side, "both sides": both_sides, "midline": midline}


def phantom_rows(folder: Path, subjects: int, size: int) -> Iterable[str]:
    """AUROC against clean twins of each kind of lesion, on aligned T2 slices."""
    manifest = Manifest.read(write_phantom(folder, subjects, seed=600_000, size=size, slices=4))
    cases = []
    for case in cases_of(manifest, "mri", size):
        aligned = torch.as_tensor(align_midsagittal(np.asarray(case["image"], dtype=np.float32))[0])
        cases.append({"mri": aligned, "case": case["case"]})
    scorer = AsymmetryScorer(["mri"], pixel_spacing_mm=FIELD_OF_VIEW_MM / size)

    def top(image: Any) -> float:
        return scorer.score({"image": torch.as_tensor(np.asarray(image))}).scores["asymmetry_top"]

    clean = [top(case["mri"]) for case in cases]
    labels = [0] * len(cases) + [1] * len(cases)
    for kind in LESIONS:
        ways = [lesion_sides(kind, size, seed) for seed in range(len(cases))]
        cells = [
            auroc(labels, clean + [top(way[side](case)) for way, case in zip(ways, cases, strict=True)])
            for side in ways[0]
        ]
        yield f"| {kind}, 25 mm | {' | '.join(f'{cell:.3f}' for cell in cells)} |"
    for kind in BILATERAL:
        transform = lesion_of(kind, "medium", keys=("mri",), pixel_spacing_mm=FIELD_OF_VIEW_MM / size)
        transform.set_random_state(0)
        value = auroc(labels, clean + [top(transform(case)["mri"]) for case in cases])
        yield f"| {kind} | - | {value:.3f} | - |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder with pairs, ct_hemorrhage and lgg_flair")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--subjects", type=int, default=10, help="phantom subjects; 0 leaves the phantom out")
    options = parser.parse_args()
    if options.real:
        print(
            "| set | slices | " + " | ".join(f"{signed or 'any'} {mm:g} mm" for signed, mm in FORMS) + " | search ms |"
        )
        print("| --- " * (len(FORMS) + 3) + "|")
        for name, modality in SETS:
            cases = cases_of(Manifest.read(options.real / name / "manifest.csv"), modality, options.size)
            cells, cost = real_row(cases, modality, options.size)
            print(f"| {name} | {len(cases)} | {' | '.join(cells)} | {cost:.0f} |", flush=True)
    if options.subjects:
        print("\n| phantom | one side | both sides | midline |\n| --- | --- | --- | --- |")
        with tempfile.TemporaryDirectory() as folder:
            for row in phantom_rows(Path(folder), options.subjects, options.size):
                print(row, flush=True)


if __name__ == "__main__":
    main()
