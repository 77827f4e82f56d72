"""The best model by validation, and when to stop looking for a better one."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_ctmri.engines.checkpoints import save_weights, unwrapped
from monai_ctmri.errors import InputError

__all__ = ["BestModelKeeper"]

_WORST = {"min": math.inf, "max": -math.inf}
logger = logging.getLogger(__name__)


class BestModelKeeper:
    """Save the network's weights at each new best validation; end a training that finds none any more.

    MONAI's CheckpointSaver keeps its best value across a resume only by putting its own state into the model file,
    which then is no plain state dictionary; MONAI's EarlyStopHandler cannot be saved at all. This one keeps both in its
    ``state_dict``.

    Attach it to the trainer after MONAI's ValidationHandler. In a distributed run attach it in every process: all judge
    the first process's value, so that all stop at the same epoch.

    Args:
        validator: the evaluator that the trainer runs.
        network: whose weights to save.
        path: file for the plain state dictionary; the first process writes it, atomically.
        metric: name of the validation metric.
        patience: validations without a new best before the training ends; None never ends it.
        mode: ``min`` where lower is better, as for an error; ``max`` where higher is.

    Raises:
        InputError: for another mode.
    """

    def __init__(
        self,
        validator: Engine,
        network: torch.nn.Module,
        path: str | os.PathLike[str],
        metric: str,
        patience: int | None = None,
        mode: str = "min",
    ) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be at least 1 or None, got {patience}.")
        if mode not in _WORST:
            raise InputError.about("mode", f"got {mode!r}", f"use {' or '.join(_WORST)}")
        self.validator = validator
        self.network = unwrapped(network)
        self.path = Path(path)
        self.metric = metric
        self.patience = patience
        self.mode = mode
        self.best = _WORST[mode]
        self.best_epoch = 0
        self.waited = 0
        self._trainer: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Judge each epoch of ``engine`` (the trainer) that was validated."""
        self._trainer = engine
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare the validation of the epoch just completed, if there was one."""
        if self.validator.state.epoch != engine.state.epoch or self.metric not in self.validator.state.metrics:
            return
        value = _of_first_process(float(self.validator.state.metrics[self.metric]))
        if value < self.best if self.mode == "min" else value > self.best:  # NaN is neither
            self.best, self.best_epoch, self.waited = value, engine.state.epoch, 0
            if getattr(engine.state, "rank", 0) == 0:
                save_weights(self.network.state_dict(), self.path)
            logger.info("Epoch %d: best %s so far, %.6g; saved %s", self.best_epoch, self.metric, value, self.path)
            return
        self.waited += 1
        self._stop_if_exhausted(engine)

    def state_dict(self) -> dict[str, Any]:
        """Return which metric is judged and how, its best value, that one's epoch, and the validations since."""
        return {
            "metric": self.metric,
            "mode": self.mode,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state whose weights are still there; a training that had stopped early stops again.

        Raises:
            ValueError: for the state of another metric or direction, whose best value means nothing here.
        """
        judged = (state.get("metric", self.metric), state.get("mode", "min"))
        if judged != (self.metric, self.mode):
            raise ValueError(f"the best model was chosen by {judged}, not by {(self.metric, self.mode)}.")
        if not self.path.is_file():
            return  # the weights that the state speaks of are gone: whatever comes next is the best there is
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
        self.waited = int(state["waited"])
        validated: Any = self.validator.state
        validated.best_metric, validated.best_metric_epoch = self.best, self.best_epoch
        if self._trainer is not None:
            self._stop_if_exhausted(self._trainer)

    def _stop_if_exhausted(self, trainer: Engine) -> None:
        if self.patience is not None and self.waited >= self.patience:
            logger.info(
                "Early stop: %d validations without a %s %s than %.6g (epoch %d)",
                self.waited,
                "lower" if self.mode == "min" else "higher",
                self.metric,
                self.best,
                self.best_epoch,
            )
            trainer.terminate()


def _of_first_process(value: float) -> float:
    """Take the first process's value for all.

    Unlike machines may differ in the last digit, and one that stopped alone would leave the others waiting.
    """
    if idist.get_world_size() == 1:
        return value
    # As a tensor: a plain number would travel as float32.
    shared = torch.tensor([value], dtype=torch.float64, device=idist.device())
    return float(torch.as_tensor(idist.broadcast(shared, src=0)).item())
