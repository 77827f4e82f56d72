"""Is the phantom as symmetric as real heads? Left-right difference after mid-sagittal alignment, phantom beside real
normals.

    python benchmarks/phantom_symmetry.py --real ../shared/data

prints one line a set: the 5th, 50th and 95th percentile over slices of the mean mirror difference within the brain,
    in units of the intensity range [0, 1],
without tolerance and with a tolerance of 4 mm for misregistration. Only slices at brain level count: the intracranial
region is at least 45 % of the head.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from monai.transforms import Compose, Resized, ResizeWithPadOrCropd

from monai_ctmri.data.dataset import datalist
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.evaluation.cases import FIELD_OF_VIEW_MM
from monai_ctmri.transforms import BrainMask, HeadMask, LoadSliced, MirrorDifference, NormalizeMRId, WindowCTd
from monai_ctmri.transforms.symmetry import align_midsagittal

SIZE = 128
TOLERANCE_MM = 4.0
LEAST_BRAIN_SHARE = 0.45


def differences(manifest: Manifest, modality: str) -> Iterable[tuple[float, float]]:
    """Mean mirror difference of each brain-level slice, without and with tolerance."""
    prepare = Compose(
        [
            LoadSliced(keys=modality, allow_missing_keys=False),
            WindowCTd(keys="ct", allow_missing_keys=True),
            NormalizeMRId(keys="mri", allow_missing_keys=True),
            Resized(keys=modality, spatial_size=SIZE, size_mode="longest", mode="bilinear", anti_aliasing=True),
            ResizeWithPadOrCropd(keys=modality, spatial_size=[SIZE, SIZE]),
        ]
    )
    measures = [MirrorDifference(tolerance=0.0), MirrorDifference(tolerance=TOLERANCE_MM * SIZE / FIELD_OF_VIEW_MM)]
    for item in datalist(manifest, None, [modality]):
        image = np.asarray(prepare(item)[modality], dtype=np.float32)
        aligned, _, _ = align_midsagittal(image)
        brain = np.asarray(BrainMask(ct_channel=0 if modality == "ct" else None)(aligned))[0] > 0
        head = np.asarray(HeadMask()(aligned))[0] > 0
        both = brain & brain[:, ::-1]
        if brain.sum() < LEAST_BRAIN_SHARE * max(1, head.sum()):
            continue
        yield tuple(float(np.asarray(measure(aligned))[0][both].mean()) for measure in measures)


def line(name: str, values: list[tuple[float, float]]) -> str:
    """One row of the table."""
    cells = [
        " / ".join(f"{value:.3f}" for value in np.percentile(column, (5, 50, 95)))
        for column in zip(*values, strict=True)
    ]
    return f"| {name} | {len(values)} | {cells[0]} | {cells[1]} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder with ct_hemorrhage and pairs")
    parser.add_argument("--subjects", type=int, default=20, help="phantom subjects")
    parser.add_argument("--asymmetry", type=float, default=None, help="another asymmetry than the phantom's default")
    options = parser.parse_args()
    rows = []
    if options.real:
        hemorrhage = Manifest.read(options.real / "ct_hemorrhage").select(label=0)
        pairs = Manifest.read(options.real / "pairs").select(subjects=["aanlib-16", "aanlib-21"])
        rows.append(line("real CT, ct_hemorrhage normal", list(differences(hemorrhage, "ct"))))
        rows.append(line("real CT, pairs 16 and 21", list(differences(pairs, "ct"))))
        rows.append(line("real T2, pairs 16 and 21", list(differences(pairs, "mri"))))
    with tempfile.TemporaryDirectory() as folder:
        extra = {} if options.asymmetry is None else {"asymmetry": options.asymmetry}
        phantom = Manifest.read(write_phantom(folder, options.subjects, 500_000, **extra))
        rows.append(line("phantom CT", list(differences(phantom, "ct"))))
        rows.append(line("phantom T2", list(differences(phantom, "mri"))))
    print("| set | slices | 5 / 50 / 95 % | with 4 mm tolerance |")
    print("| --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
