"""How well do the brain masks meet the truth? Dice on the phantom's tissue truth and on real registered pairs.

    python benchmarks/brain_masks.py --subjects 8 --real ../shared/data

prints one line a set and method: slices, mean and least Dice, mean area relative to the truth's, and how many slices
fell back to the inset head. On the phantom the truth is fluid, brain, dura and calcification of its tissue pictures; a
result there is a phantom result. On real pairs no truth exists: the MRI mask is held against what bone encloses in the
registered CT, over slices at brain level by CT (intracranial share of 0.4 and more). ``--sheet`` writes a picture of
the outlines on the real pairs to look at (red: ring, blue: inset, green: skull of the CT).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from monai_ctmri.data.anatomy import TISSUES
from monai_ctmri.data.contrast import MR_CONTRASTS
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.transforms import BrainMask, LoadSlice, LoadVolume, NormalizeMRI, WindowCT
from monai_ctmri.transforms.brain import BRAIN_METHOD
from monai_ctmri.transforms.slice_level import intracranial_share

INTRACRANIAL = [TISSUES.index(name) for name in ("csf", "gm", "wm", "dura", "calcification")]
BRAIN_LEVEL = 0.4
MRI_METHODS = ("inset", "ring")
COLOURS = {"skull": (0, 220, 80), "inset": (60, 140, 255), "ring": (255, 50, 50)}
Row = tuple[float, float, bool]


def against(truth: np.ndarray, mask: np.ndarray, method: str) -> Row:
    """Dice, relative area, and whether the inset head had to help."""
    dice = 2 * float((mask & truth).sum()) / max(1, int(mask.sum() + truth.sum()))
    return dice, float(mask.sum()) / max(1, int(truth.sum())), "inset" in method


def line(name: str, rows: list[Row]) -> str:
    """One row of the table."""
    dice, area, fell_back = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    cells = f"{len(rows):4d}  {dice.mean():.3f}  {dice.min():.3f}  {area.mean():.3f}  {int(fell_back.sum()):4d}"
    return f"{name:34s} {cells}"


def masked(image: object, make: Callable[[object], object]) -> tuple[np.ndarray, str]:
    """A mask (spatial...) and what it was made by."""
    mask = make(image)
    return np.asarray(mask)[0] > 0, mask.meta[BRAIN_METHOD]  # type: ignore[attr-defined]


def phantom_rows(folder: Path, subjects: int, size: int) -> Iterable[tuple[str, list[Row]]]:
    """Slices of every contrast, CT in its window, and CT volumes in Hounsfield units."""
    load, window, normal = LoadSlice(), WindowCT(), NormalizeMRI()
    ct_rows: list[Row] = []
    for contrast in MR_CONTRASTS:
        manifest = write_phantom(folder / contrast, subjects, size=size, slices=8, contrast=contrast)
        rows: dict[str, list[Row]] = {method: [] for method in MRI_METHODS}
        for case in Manifest.read(manifest):
            tissue = np.asarray(Image.open(manifest.parent / "tissue" / f"{case.name}.png"))
            truth, mri = np.isin(tissue, INTRACRANIAL), normal(load(case.mri))
            for method, found in rows.items():
                found.append(against(truth, *masked(mri, BrainMask(None, method=method))))
            if contrast == MR_CONTRASTS[0]:
                ct_rows.append(against(truth, *masked(window(load(case.ct)), BrainMask())))
        yield from ((f"phantom {contrast}, {method}", found) for method, found in rows.items())
    yield "phantom CT window 40/80, skull", ct_rows
    manifest = write_phantom(folder / "volumes", max(1, subjects // 4), size=size // 2, form="volumes")
    volumes: dict[str, list[Row]] = {"HU": [], "window 40/80": []}
    for case in Manifest.read(manifest):
        ct, tissue = (LoadVolume("ct")(file) for file in (case.ct, case.ct.parents[1] / "tissue" / case.ct.name))
        truth = np.isin(np.asarray(tissue)[0], INTRACRANIAL)
        for name, image in (("HU", ct), ("window 40/80", window(ct))):
            volumes[name].append(against(truth, *masked(image, BrainMask())))
    yield from ((f"phantom CT volume, {name}", found) for name, found in volumes.items())


def real_rows(folder: Path, sheet: Path | None) -> Iterable[tuple[str, list[Row]]]:
    """MRI masks of real pairs against what bone encloses in the registered CT."""
    load, window, normal = LoadSlice(), WindowCT(), NormalizeMRI()
    rows: dict[str, list[Row]] = {method: [] for method in MRI_METHODS}
    pictures = []
    for case in Manifest.read(folder / "pairs" / "manifest.csv"):
        ct, mri = window(load(case.ct)), normal(load(case.mri))
        truth, made_by = masked(ct, BrainMask())
        if made_by != "skull" or intracranial_share(np.asarray(ct)[0], windowed=True) < BRAIN_LEVEL:
            continue
        outlines = {"skull": truth}
        for method, found in rows.items():
            outlines[method], used = masked(mri, BrainMask(None, method=method))
            found.append(against(truth, outlines[method], used))
        pictures.append(drawn(np.asarray(mri)[0], outlines))
    if sheet is not None and pictures:
        pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % 8)
        strips = [np.concatenate(pictures[start : start + 8], axis=1) for start in range(0, len(pictures), 8)]
        Image.fromarray(np.concatenate(strips)).save(sheet)
    yield from ((f"real pairs T2, {method}", found) for method, found in rows.items())


def drawn(grey: np.ndarray, outlines: dict[str, np.ndarray]) -> np.ndarray:
    """Grey picture (H, W) with the masks' outlines, uint8 (H, W, 3)."""
    picture = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    for name, mask in outlines.items():
        picture[mask & ~ndimage.binary_erosion(mask)] = COLOURS[name]
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--real", type=Path, help="folder that holds pairs/manifest.csv")
    parser.add_argument("--sheet", type=Path, help="picture to write")
    options = parser.parse_args()
    print(f"{'set, method':34s} {'n':>4s}  Dice   least  area   inset")
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in phantom_rows(Path(folder), options.subjects, options.size):
            print(line(name, rows), flush=True)
    if options.real is not None:
        for name, rows in real_rows(options.real, options.sheet):
            print(line(name, rows), flush=True)


if __name__ == "__main__":
    main()
