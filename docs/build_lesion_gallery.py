"""Draw the gallery of docs/lesions.md: every kind of anomaly at three sizes in CT, T1 and T2, with its mask.

python docs/build_lesion_gallery.py [--out docs/images]
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from monai_ctmri.data.phantom import CT_WINDOW, PhantomSettings, draw_subject
from monai_ctmri.transforms import BrainMask
from monai_ctmri.transforms.anomalies import abnormal_twins
from monai_ctmri.transforms.lesion_suite import SIZES, SUITE, lesion_of

SIDE, GAP, HEADING, KINDS_A_SHEET = 128, 2, 16, 8
SPACING_MM = 240 / SIDE
LEVEL = 4


def cases_of(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Slices of one phantom head for T1 and for T2: the same anatomy and CT, two contrasts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for contrast in ("T1", "T2"):
        subject = draw_subject(seed, PhantomSettings(size=SIDE, slices=12, contrast=contrast))
        top = float(np.percentile(subject.mri, 99.9))
        low = CT_WINDOW[0] - CT_WINDOW[1] / 2
        found[contrast] = []
        for index in range(len(subject.ct)):
            ct = torch.tensor(np.clip((subject.ct[index] - low) / CT_WINDOW[1], 0, 1), dtype=torch.float32)[None]
            mri = torch.tensor(np.clip(subject.mri[index] / top, 0, 1), dtype=torch.float32)[None]
            brain = BrainMask(ct_channel=0)(torch.cat([ct, mri]))
            name = {"case": f"head_{index:02d}", "subject": f"head-{seed}", "mri_contrast": contrast}
            found[contrast].append({**name, "ct": ct, "mri": mri, "brain": brain})
    return found


def panels(kind: str, size: str, head: dict[str, Any], other: dict[str, Any]) -> list[np.ndarray]:
    """CT, T1, T2 and mask of one anomaly, each (SIDE, SIDE) in [0, 1]."""
    twins = {}
    for contrast, slices in head.items():
        transform = lesion_of(
            kind,
            size,
            donors=[other[contrast][LEVEL]],
            neighbours=[one for one in slices if one["case"] != slices[LEVEL]["case"]],
            pixel_spacing_mm=SPACING_MM,
        )
        (twins[contrast],) = abnormal_twins([slices[LEVEL]], [transform], seed=SEED)
    first = twins["T1"]
    shown = (first["ct"], first["mri"], twins["T2"]["mri"], first["mask"])
    return [np.asarray(one[0], dtype=float) for one in shown]


SEED = 5


def sheet(kinds: list[str], head: dict[str, Any], other: dict[str, Any]) -> Image.Image:
    """One row a kind: three sizes, each CT, T1, T2, mask."""
    columns = 4 * len(SIZES)
    row = SIDE + HEADING
    picture = Image.new("L", (columns * (SIDE + GAP) + 4 * GAP * (len(SIZES) - 1), len(kinds) * row), 255)
    draw = ImageDraw.Draw(picture)
    for number, kind in enumerate(kinds):
        for place, size in enumerate(SIZES):
            left = place * (4 * (SIDE + GAP) + 4 * GAP)
            draw.text((left + 2, number * row + 2), f"{kind.replace('_', ' ')}, {size}: CT, T1, T2, mask", fill=0)
            for index, values in enumerate(panels(kind, size, head, other)):
                tile = Image.fromarray(np.uint8(np.clip(values, 0, 1) * 255))
                picture.paste(tile, (left + index * (SIDE + GAP), number * row + HEADING))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    out = parser.parse_args().out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out.mkdir(parents=True, exist_ok=True)
    head, other = cases_of(21), cases_of(34)
    kinds = list(SUITE)
    for start in range(0, len(kinds), KINDS_A_SHEET):
        path = out / f"lesions_{start // KINDS_A_SHEET + 1}.png"
        sheet(kinds[start : start + KINDS_A_SHEET], head, other).save(path, optimize=True)
        logging.info("%s", path)


if __name__ == "__main__":
    main()
