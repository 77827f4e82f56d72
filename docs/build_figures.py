"""Build the pictures of README and docs: python docs/build_figures.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from monai_ctmri.data.contrast import MR_CONTRASTS
from monai_ctmri.data.phantom import PhantomSettings, draw_subject

IMAGES = Path(__file__).resolve().parent / "images"
SHOWN = (0, 2, 4, 6, 8, 10)


def phantom_sheet() -> Image.Image:
    """Four subjects, one MR contrast each: a row of CT (window 40/80 HU) above a row of MR."""
    rows = []
    for seed, contrast in enumerate(MR_CONTRASTS):
        subject = draw_subject(seed, PhantomSettings(size=160, contrast=contrast))
        ct = np.clip(subject.ct / 80, 0, 1)
        mri = np.clip(subject.mri / np.percentile(subject.mri, 99.8), 0, 1)
        rows += [np.hstack([stack[index] for index in SHOWN]) for stack in (ct, mri)]
    return Image.fromarray((np.vstack(rows) * 255).astype(np.uint8))


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    phantom_sheet().save(IMAGES / "phantom.png", optimize=True)
