"""What each epoch came to, on disk, so that a resumed training still has its whole curve."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_ctmri.data.files import write_json

__all__ = ["EpochHistory", "read_history"]


class EpochHistory:
    """Write ``history.json``: one entry an epoch with ``epoch``, ``train_loss`` and the validation metrics.

    MONAI's MetricLogger keeps curves in memory and its state is lost with the process; this file survives a kill.
    Attach it after the validation handler, so that the metrics are those of the same epoch.

    Args:
        path: file to write.
        evaluator: engine whose ``state.metrics`` join each entry; None records the training loss alone.
    """

    def __init__(self, path: str | os.PathLike[str], evaluator: Engine | None = None) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self._losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Record every epoch of ``engine`` (a trainer)."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._losses = []

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self._losses.append(float((output[0] if isinstance(output, list) else output)["loss"]))

    def _write(self, engine: Engine) -> None:
        if getattr(engine.state, "rank", 0) != 0:
            return
        epoch = int(engine.state.epoch)
        earlier = [entry for entry in read_history(self.path) if entry["epoch"] < epoch]
        entry: dict[str, Any] = {"epoch": epoch, "train_loss": sum(self._losses) / max(1, len(self._losses))}
        if self.evaluator is not None:
            entry |= {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        write_json(self.path, [*earlier, entry])


def read_history(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the entries of a ``history.json``; an absent file has none."""
    file = Path(path)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
