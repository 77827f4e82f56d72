"""A progress bar that reads MONAI's output."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine
from ignite.handlers import ProgressBar

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """Show a bar an epoch with the loss of the last batch.

    Ignite's bar has to be told where the loss is: a MONAI trainer's output is a list with one dictionary an item, not a
    number. In a distributed run only the first process shows a bar.

    Args:
        disable: None shows the bar on a terminal only, so that log files stay readable; True never shows it.
        kwargs: further arguments of :class:`tqdm.tqdm`.
    """

    def __init__(self, disable: bool | None = None, **kwargs: Any) -> None:
        self.disable = disable
        self.kwargs = kwargs

    def attach(self, engine: Engine) -> None:
        """Advance the bar after each iteration of ``engine``."""
        if idist.get_rank() != 0:
            return
        ProgressBar(disable=self.disable, **self.kwargs).attach(engine, output_transform=_loss)


def _loss(output: Any) -> dict[str, float]:
    item = output[0] if isinstance(output, list) else output
    return {"loss": float(item["loss"])}
