"""Random state: kept where it is not ours to change, and tied to the epoch where a training must be repeatable."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

__all__ = ["SeededEpochs", "preserved_random_state"]


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Give back the random states of Python, NumPy and torch (CPU and CUDA) as they were, whatever happens inside.

    Some libraries reseed the whole process in a constructor; inside this context that stays without consequence.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


class SeededEpochs:
    """Reseed torch and the random transforms at the start of each epoch, from the seed and the epoch's number.

    So a training that was cut off and resumed draws the same batches and augmentations as one that ran through, and the
    result of an epoch does not depend on what else drew random numbers before.

    Args:
        seed: the seed of the run.
        dataset: the training data set; its random transforms are reseeded too.
    """

    def __init__(self, seed: int, dataset: Any = None) -> None:
        self.seed = seed
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Reseed at each epoch start of ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Reseed for the epoch that starts."""
        rank = getattr(engine.state, "rank", 0)
        seed = int(np.random.SeedSequence([self.seed, engine.state.epoch]).generate_state(1)[0])
        # One seed for all processes shuffles alike (the distributed sampler needs no torch seed); the rank varies
        # augmentation.
        torch.manual_seed(seed)
        if self.dataset is not None:
            set_rnd(self.dataset, (seed + rank) % 2**32)
