"""Which files of each bundle go together, and the values that make a run of them small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundle_runs import config_files, options
from monai.bundle import ConfigParser

# Every sensible combination of a bundle's files. Those of one line share an output folder and run in this order.
COMBINATIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "brain_ctmri_autoencoder": (
        ("train", "train+fit_detectors", "train+evaluate", "train+evaluate+calibrate", "inference"),
        ("train", "train+fit_detectors+detector_ocsvm", "inference+detector_ocsvm"),
        ("train+notes_256", "train+notes_256+evaluate", "inference+notes_256"),
        ("train+denoising", "train+denoising+evaluate", "inference"),
        (
            "train+vae",
            "train+vae+fit_detectors",
            "train+vae+evaluate+vae_evaluate",
            "inference+vae_inference",
            "train+vae+evaluate+vae_evaluate+latent_search",
            "inference+vae_inference+latent_search",
        ),
    ),
    "brain_ctmri_crossmodal": (
        ("train", "train+fit_detectors", "train+evaluate", "train+evaluate+calibrate", "inference"),
        ("train", "train+fit_detectors+detector_ocsvm", "inference+detector_ocsvm"),
        (
            "train",
            "train+fit_detectors+patch_density",
            "train+evaluate+patch_density",
            "train+evaluate+calibrate+patch_density",
            "inference+patch_density",
        ),
        ("train+zero_shot",),
        ("train+image_256", "train+fit_detectors+image_256", "train+evaluate+image_256", "inference+image_256"),
        ("train+gpu", "train+fit_detectors+gpu", "train+evaluate+gpu", "inference+gpu"),
        ("train+patches_3d", "train+evaluate+patches_3d", "inference+patches_3d"),
    ),
    "brain_ctmri_cyclegan": (
        ("train", "train+fit_detectors", "train+evaluate", "train+evaluate+calibrate", "inference"),
        ("train+size_256", "train+evaluate+size_256", "inference+size_256"),
        ("train+gpu", "train+evaluate+gpu", "inference+gpu"),
    ),
}
DISTRIBUTED = ("train+multi_gpu_train", "train+evaluate+multi_gpu_evaluate")
# Beside the sizes of the images and batches: what makes a network small. An id a combination does not have is left out.
SMALL: dict[str, Any] = {
    "max_epochs": 1,
    "num_workers": 0,
    "latent_dim": 8,
    "features": [8, 8, 16, 16, 16, 8],
    "width": 8,
    "blocks": 1,
    "discriminator_width": 8,
    "discriminator_layers": 1,
    "search_steps": 2,
    "samples": 2,
    "patch_size": 32,
    "patches": 1,
    "spacing_mm": 7.0,
    "calibrated_split": "all",
    "padim_channels": 4,
    "memory_rows": 50,
}
VOLUMES = "patches_3d"
"""An overlay that takes volumes: it draws its own."""


def tiny(bundle: Path, files: str, cohort: Path, output_dir: Path) -> dict[str, Any]:
    """Overrides of a small run that the named files have."""
    parser = ConfigParser()
    parser.read_config(config_files(bundle, files))
    wanted = options(cohort, output_dir, **SMALL)
    if files.startswith("inference"):
        wanted.pop("max_epochs")
    if VOLUMES in files:
        wanted |= {"dataset_dir": None, "phantom_subjects": 5, "batch_size": 2, "cache_dir": str(cohort / "cache")}
    if parser.get("latent_dim", None) is None:  # the map of the default; only a dense latent is made shorter
        wanted.pop("latent_dim")
    return {name: value for name, value in wanted.items() if name in parser}
