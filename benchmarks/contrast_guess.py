"""How often is the guess of an MR contrast right on real slices? A development result: its ranges were set on these.

python benchmarks/contrast_guess.py --real ../shared/data
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_ctmri.transforms import AxialSlicesd, LoadSlice, LoadVolumed, guess_contrast

VOLUMES = {
    "stroke_T2": "T2",
    "tcga_fg_6692_t2": "T2",
    "tcga_fg_6692_t1": "T1",
    "tcga_fg_6692_t1c": "T1",
    "tcga_fg_6692_fla": "FLAIR",
    "healthy_chris_pd": "PD",
}
LEVELS_MM = (35.0, 85.0)


def slices(real: Path) -> Iterator[tuple[str, str, Any]]:
    """Set, true contrast, slice."""
    for path in sorted((real / "pairs" / "mri").glob("*.png")):
        yield "pairs", "T2", LoadSlice("mri")(path)
    for path in sorted((real / "lgg_flair").glob("*/*_flair.png"))[::3]:
        yield "lgg_flair, every third frame", "FLAIR", LoadSlice("mri")(path)
    for name, contrast in VOLUMES.items():
        case = LoadVolumed("mri")({"mri": str(real / "volumes" / f"{name}.nii.gz")})
        cut = AxialSlicesd("mri", levels_mm=LEVELS_MM)(case)
        for one in cut[:: max(1, len(cut) // 12)][:12]:
            yield "volumes", contrast, one["mri"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with the real sets")
    counts: dict[tuple[str, str], Counter[str]] = {}
    for name, truth, image in slices(parser.parse_args().real):
        counts.setdefault((name, truth), Counter())[guess_contrast(image)[0]] += 1
    print("| set | contrast | slices | right | unknown | wrong |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, truth), found in counts.items():
        total, right, unknown = found.total(), found[truth], found["unknown"]
        print(f"| {name} | {truth} | {total} | {right} | {unknown} | {total - right - unknown} |")


if __name__ == "__main__":
    main()
