"""Which weights a run uses: its own if it has trained, else those that came with the bundle."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from monai_ctmri.engines.checkpoints import unwrapped
from monai_ctmri.errors import InputError

__all__ = ["RunWeights", "find_weights"]

_WEIGHTS = Path("models") / "model.pt"
logger = logging.getLogger(__name__)


def find_weights(output_dir: str | os.PathLike[str], bundle_root: str | os.PathLike[str]) -> Path:
    """Return ``models/model.pt`` of the run's folder, else of the bundle.

    Raises:
        InputError: when neither exists.
    """
    for home, whose in ((Path(output_dir), "this run's own"), (Path(bundle_root), "the bundle's")):
        path = home / _WEIGHTS
        if path.is_file():
            logger.info("Using %s weights: %s", whose, path)
            return path
    missing = Path(output_dir) / _WEIGHTS
    raise InputError.about(
        missing, "no trained weights here nor in the bundle", "train first, or give --output_dir of a run"
    )


class RunWeights:
    """Load the weights that :func:`find_weights` chooses when an engine starts, not when the configuration is read.

    Args:
        network: takes the weights.
        output_dir: folder of the run.
        bundle_root: folder of the bundle.
    """

    def __init__(
        self, network: torch.nn.Module, output_dir: str | os.PathLike[str], bundle_root: str | os.PathLike[str]
    ) -> None:
        self.network = unwrapped(network)
        self.output_dir = output_dir
        self.bundle_root = bundle_root

    def attach(self, engine: Engine) -> None:
        """Load at the start of ``engine``."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights, see :meth:`load`."""
        self.load()

    def load(self) -> Path:
        """Load the weights and return their file.

        Raises:
            InputError: when there are none, or they are of another network.
        """
        path = find_weights(self.output_dir, self.bundle_root)
        try:
            self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # unreadable files raise nearly anything
            raise InputError.about(
                path, "not weights of this network", "use the modalities, image_size and latent_dim it was trained with"
            ) from error
        return path
