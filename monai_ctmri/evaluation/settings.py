"""What a benchmark run was asked for; a run folder belongs to one set of settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai_ctmri import keys
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.latent_detectors import chosen_detectors

__all__ = ["BenchmarkSettings"]


@dataclass(frozen=True)
class BenchmarkSettings:
    """Settings of a benchmark.

    Attributes:
        image_size: height and width of the network's input in pixels, divisible by 4.
        max_epochs: epochs at most.
        min_steps: at least this many optimiser steps, by more epochs where the training set is small.
        batch_size: slices a step.
        learning_rate: of Adam.
        patience: epochs without a better validation before training ends.
        seed: of the division, the training, the injected anomalies and the bootstrap.
        alpha: false-alarm rate asked for, in (0, 1).
        repeats: bootstrap resamples.
        bf16: bfloat16 in training; faster on processors that have it.
        detectors: one-class detectors on the latent: ``all``, ``default`` or names, see
            :func:`~monai_ctmri.evaluation.latent_detectors.chosen_detectors`.
    """

    image_size: int = 128
    max_epochs: int = 20
    min_steps: int = 0
    batch_size: int = 16
    learning_rate: float = 1e-3
    patience: int = 5
    seed: int = 0
    alpha: float = 0.05
    repeats: int = 2000
    bf16: bool = False
    detectors: str = "default"

    def __post_init__(self) -> None:
        if self.image_size < 32 or self.image_size % 4:
            raise InputError(f"image size {self.image_size}: must be at least 32 and divisible by 4; use 128 or 256")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha {self.alpha}: must lie between 0 and 1; use 0.05")
        for name in ("max_epochs", "batch_size", "repeats", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be at least 1")
        if self.seed < 0 or self.min_steps < 0 or not self.learning_rate > 0:
            raise InputError("seed and min_steps must not be negative, and the learning rate must be positive")
        chosen_detectors(self.detectors)

    def epochs_for(self, cases: int) -> int:
        """Epochs at most for a training set of ``cases`` slices, so that :attr:`min_steps` are reached."""
        steps = max(1, -(-cases // self.batch_size))
        return max(self.max_epochs, -(-self.min_steps // steps))

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    def claim(
        self,
        out: str | os.PathLike[str],
        manifest: str | os.PathLike[str],
        divided: Manifest,
        modalities: Sequence[str] = keys.MODALITIES,
    ) -> None:
        """Write ``config.yaml`` and ``manifest.csv`` into a new run folder, or check that its run is this very one.

        Args:
            out: run folder.
            manifest: where the cases were read from.
            divided: the cases with their parts. A manifest that changed since a run was cut off is divided anew, and
                who is tested now may have trained the network that would be continued.
            modalities: channels of the network.

        Raises:
            InputError: when the folder holds a run with other settings or other data; nothing is written then.
        """
        import yaml

        from monai_ctmri.data.files import write_text

        path, kept = Path(out) / "config.yaml", Path(out) / "manifest.csv"
        content = {
            "manifest": os.path.abspath(manifest),
            "modalities": list(modalities),
            "settings": self.as_dict(),
        }
        text, remedy = yaml.safe_dump(content, sort_keys=False), "choose another --out, or remove it"
        # Compared as written: the file may be anything, even no YAML.
        if path.is_file() and path.read_bytes() != text.encode("utf-8"):
            raise InputError.about(path, "is of a run with other settings or data", remedy)
        if kept.is_file() and Manifest.read(kept) != divided:
            raise InputError.about(kept, "holds other cases, or other parts of them, than this run", remedy)
        if not path.is_file():
            write_text(path, text)
        if not kept.is_file():
            divided.write_csv(kept)
