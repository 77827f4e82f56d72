"""What the tests of every bundle repeat: a tiny cohort, a run inside this process, a command, the rules of the zoo."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import create_workflow
from PIL import Image

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SIZE = 32
"""Height and width of the images the networks see in these tests."""
MAP_SIZES = {"even": (40, 32), "odd": (32, 48)}
"""Height and width of the files of :func:`write_cohort`, by the number of the subject."""

# What MONAI's schema 20240725 demands, written from its rules, so that the check needs no network.
TENSOR_RULES = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["integer", "string"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "channel_def": {"type": "object"},
    },
}
SCHEMA = {
    "type": "object",
    "required": [
        *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"),
        *("task", "description", "authors", "copyright", "network_data_format"),
    ],
    "properties": {
        "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "required_packages_version": {"type": "object"},
        "references": {"type": "array", "items": {"type": "string"}},
        "intended_use": {"type": "string"},
        "image_classes": {"type": "string"},
        "eval_metrics": {"type": "object"},
        "supported_apps": {"type": "object"},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {
                part: {"type": "object", "additionalProperties": TENSOR_RULES} for part in ("inputs", "outputs")
            },
        },
    },
}


def bundle_folders() -> list[Path]:
    """Every bundle of the repository that has metadata, in the order of their names."""
    return sorted(path.parent.parent for path in BUNDLES.glob("*/configs/metadata.json"))


def draw(height: int, width: int, brightness: float, generator: np.random.Generator, lesion: bool) -> np.ndarray:
    """An ellipse of noisy grey, with a bright square in it where ``lesion`` is true; 8 bit."""
    y, x = np.mgrid[:height, :width]
    head = ((y - height / 2) / (0.42 * height)) ** 2 + ((x - width / 2) / (0.42 * width)) ** 2 < 1
    pixels = np.where(head, brightness + generator.normal(0, 6, head.shape), 0)
    if lesion:
        pixels[height // 2 - 4 : height // 2 + 4, width // 3 - 4 : width // 3 + 4] = 250
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_cohort(folder: Path, paired: bool = True) -> Path:
    """Six subjects of two slices, of two shapes, the last one abnormal; ``folder`` with its manifest.csv is returned.

    With ``paired=False`` every picture is a row of its own, of a subject of its own: an unpaired set.
    """
    generator = np.random.default_rng(0)
    rows = []
    for subject in range(6):
        height, width = MAP_SIZES["odd" if subject % 2 else "even"]
        for index in range(2):
            for modality, brightness in (("ct", 90), ("mri", 140)):
                pixels = draw(height, width, brightness + 4 * index, generator, lesion=subject == 5)
                Image.fromarray(pixels).save(folder / f"s{subject}_{index}_{modality}.png")
            name, label = f"s{subject}_{index}", int(subject == 5)
            if paired:
                rows.append([f"{name}_ct.png", f"{name}_mri.png", f"s{subject}", label])
            else:
                rows += [[f"{name}_ct.png", "", f"ct{subject}", label], ["", f"{name}_mri.png", f"mri{subject}", label]]
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ct", "mri", "subject", "label"], *rows])
    return folder


def options(cohort: Path, output_dir: Path, **further: Any) -> dict[str, Any]:
    """Overrides that every bundle understands and that make a run small."""
    return {
        "dataset_dir": str(cohort),
        "output_dir": str(output_dir),
        "cache_dir": str(output_dir / "cache"),
        "image_size": SIZE,
        "batch_size": 4,
        "max_epochs": 2,
        **further,
    }


def config_files(bundle: Path, files: str) -> list[str]:
    """Paths of the configurations that ``files`` names, e.g. ``"train+evaluate"``."""
    return [str(bundle / "configs" / f"{name}.yaml") for name in files.split("+")]


def workflow(bundle: Path, files: str, **given: Any) -> Any:
    """The workflow of MONAI with its ``initialize`` part done, in this process."""
    return create_workflow(
        config_file=config_files(bundle, files),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type="infer" if files.startswith("inference") else "train",
        **given,
    )


def run(bundle: Path, files: str, **given: Any) -> Any:
    """Run configurations in this process, a tenth of the time of a command; the finished workflow is returned."""
    made = workflow(bundle, files, **given)
    made.run()
    made.finalize()
    return made


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metadata_of(bundle: Path) -> dict[str, Any]:
    """What the bundle says of itself."""
    return dict(json.loads((bundle / "configs" / "metadata.json").read_text()))


def command(bundle: Path, files: str, given: Mapping[str, Any], launcher: Sequence[str] = ()) -> list[str]:
    """The words of ``python -m monai.bundle run``; ``launcher`` goes before ``-m``."""
    words = [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", str(config_files(bundle, files))]
    return words + [word for key, value in given.items() for word in (f"--{key}", str(value))]


def environment(repository: Path) -> dict[str, str]:
    """Variables for a command: this checkout first, one thread."""
    return os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}


def run_distributed(
    bundle: Path, files: str, given: Mapping[str, Any], processes: int = 2
) -> subprocess.CompletedProcess:
    """Run configurations under torchrun on this machine; the output is text, a failure fails the test."""
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    words = command(bundle, files, given, launcher)
    done = subprocess.run(words, env=environment(BUNDLES.parent), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done
