"""Time and memory of ``monai-ctmri explore`` on many PNG files, and on half as many.

    python benchmarks/exploration_scale.py --files 5000

writes paired pictures of 256 x 256 pixels, all different, to a temporary folder, explores them in a process of its own,
and prints the number of files, seconds on the clock and of the processor, the latter a file, and the greatest memory of
that process. Cost is linear when a file costs the same in both lines.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 256
SLICES = 20
"""Slices of one head."""


def head(random: np.random.Generator) -> dict[str, float]:
    """Shape of one head, in half widths of the picture."""
    return {
        "width": random.uniform(0.52, 0.68),
        "length": random.uniform(0.70, 0.86),
        "turn": random.uniform(-0.15, 0.15),
        "skull": random.uniform(0.05, 0.09),
        "x": random.uniform(-0.08, 0.08),
        "y": random.uniform(-0.08, 0.08),
    }


def draw(shape: dict[str, float], level: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """CT and MRI (256, 256) uint8 of one slice; ``level`` in [0, 1] is the height within the head."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    cos, sin = np.cos(shape["turn"]), np.sin(shape["turn"])
    u, v = cos * (x - shape["x"]) + sin * (y - shape["y"]), cos * (y - shape["y"]) - sin * (x - shape["x"])
    scale = np.sqrt(1 - 0.6 * level**2)
    radius = np.hypot(u / (shape["width"] * scale), v / (shape["length"] * scale))
    brain, skull, scalp = radius < 1 - 2 * shape["skull"], radius < 1 - shape["skull"] / 2, radius < 1.04
    coarse = Image.fromarray(random.normal(0, 1, (24, 24)).astype(np.float32))
    folds = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    fluid = brain & ((np.hypot(np.abs(u) - 0.09, v / 2.2) < 0.08 * (1.2 - level)) | (folds > 1.5))
    noise = random.normal(0, 4, (SIZE, SIZE))
    ct = np.select([fluid, brain, skull, scalp], [60, 110 + 8 * folds, 255, 90], 0) + noise * scalp
    mri = np.select([fluid, brain, skull, scalp], [200, 95 + 25 * folds, 12, 170], 2) + noise
    return tuple(np.clip(plane, 0, 255).astype(np.uint8) for plane in (ct, mri))


def write_set(folder: Path, files: int, seed: int = 0) -> None:
    """Write ``files`` pictures as ``ct/<head>_<slice>.png`` and ``mri/<head>_<slice>.png``."""
    for name in ("ct", "mri"):
        (folder / name).mkdir(parents=True)
    for number in range(files // 2):
        subject, place = divmod(number, SLICES)
        shape = head(np.random.default_rng((seed, subject)))
        pair = draw(shape, place / SLICES, np.random.default_rng((seed, subject, place)))
        for name, plane in zip(("ct", "mri"), pair, strict=True):
            Image.fromarray(plane).save(folder / name / f"p{subject:04d}_{place:02d}.png", compress_level=1)


def processor_seconds() -> float:
    """Processor time of all processes started here that have ended; other work on the machine does not count."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(files: int, workers: int) -> None:
    """Explore ``files`` pictures in a process of its own, and print what it took."""
    with tempfile.TemporaryDirectory() as place:
        write_set(Path(place) / "set", files)
        code = "import sys; from monai_ctmri.cli import main; main()"
        words = ["explore", f"{place}/set", "--out", f"{place}/out", "--workers", str(workers)]
        before, used = time.perf_counter(), processor_seconds()
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        seconds, used = time.perf_counter() - before, processor_seconds() - used
    if done.returncode:
        raise SystemExit(done.stderr)
    # Of the greatest child so far, in kB on Linux: call with the smaller set first.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(
        f"{files} files: {seconds:.1f} s, of the processor {used:.1f} s, {1000 * used / files:.1f} ms a file, "
        f"at most {peak:.2f} GB",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    for number in (given.files // 2, given.files):
        measure(number, given.workers)
