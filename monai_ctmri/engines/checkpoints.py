"""Checkpoints that a killed training continues from."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_ctmri.data.files import write_atomically
from monai_ctmri.errors import InputError

__all__ = ["ResumableCheckpoint", "latest_checkpoint", "save_weights"]

_NAME = re.compile(r"checkpoint_epoch=(\d+)\.pt")
_TRAINER = "trainer"
logger = logging.getLogger(__name__)


def latest_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Return the readable ``checkpoint_epoch=N.pt`` of the highest N, or None.

    A file that cannot be read is left in place, and a warning says so.
    """
    found = _latest(Path(folder))
    return found[0] if found else None


def save_weights(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state dictionary, atomically and in the pickle-free form that ``torch.load(weights_only=True)``
    accepts."""
    with write_atomically(path) as temporary:
        torch.save(dict(content), temporary)


def unwrapped(network: torch.nn.Module) -> torch.nn.Module:
    """Return the network inside a distributed wrapper, so that its parameter names have no ``module.`` prefix."""
    return network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network


class ResumableCheckpoint:
    """Save the whole training after each epoch; start from the newest checkpoint when there is one.

    MONAI's CheckpointSaver writes in place (a kill leaves a half file) and its CheckpointLoader needs a fixed name;
    here writing is atomic, an unreadable file gives way to the one before it, and the first process writes for all,
    into a folder that all processes read.

    Attach it after the handlers whose state it keeps (validation, best model, learning rate), so that it sees the
    epoch's outcome.

    Args:
        folder: where ``checkpoint_epoch=N.pt`` go.
        objects: by name, what has ``state_dict`` and ``load_state_dict``: network, optimizer, best model keeper.
        resume: False starts anew and removes the checkpoints of an earlier run, which would else be continued next
            time.
        keep: how many of the newest checkpoints to keep.
    """

    def __init__(
        self, folder: str | os.PathLike[str], objects: Mapping[str, Any], resume: bool = True, keep: int = 2
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}.")
        if not isinstance(resume, bool):  # a command line's "false" is a text, and true
            raise InputError.about("resume", f"{resume!r} is no truth value", "write True or False")
        self.folder = Path(folder)
        self.objects = {
            name: unwrapped(item) if isinstance(item, torch.nn.Module) else item for name, item in objects.items()
        }
        self.resume = resume
        self.keep = keep

    def attach(self, engine: Engine) -> None:
        """Load when ``engine`` (a trainer) starts, save when an epoch is complete."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        """Write ``checkpoint_epoch=N.pt`` and remove the oldest beyond ``keep``."""
        if getattr(engine.state, "rank", 0) != 0:
            return
        content: dict[str, Any] = {name: item.state_dict() for name, item in self.objects.items()}
        content[_TRAINER] = {"epoch": engine.state.epoch}
        save_weights(content, self.folder / f"checkpoint_epoch={engine.state.epoch}.pt")
        for _, path in _checkpoints(self.folder)[self.keep :]:
            path.unlink(missing_ok=True)

    def load(self, engine: Engine) -> None:
        """Restore everything from the newest readable checkpoint.

        Raises:
            InputError: when the checkpoint is of another network or set-up, or not every process found the same one.
        """
        if not self.resume:
            if getattr(engine.state, "rank", 0) == 0:
                for _, path in _checkpoints(self.folder):
                    path.unlink(missing_ok=True)
            return
        found = _latest(self.folder)
        _demand_same_everywhere(self.folder, found[1][_TRAINER]["epoch"] if found else 0)
        if found is None:
            return
        path, content = found
        try:
            for name, item in self.objects.items():
                item.load_state_dict(content[name])
            epoch = int(content[_TRAINER]["epoch"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            remedy = "give another output_dir, or --resume False to start anew"
            raise InputError.about(path, "a checkpoint of another network or configuration", remedy) from error
        # The epoch alone: with another batch size the same epoch has another number of iterations.
        engine.state.epoch = epoch
        engine.state.iteration = epoch * (engine.state.epoch_length or 0)
        logger.info("Continuing after epoch %d from %s", epoch, path)
        if engine.state.max_epochs is not None and epoch >= engine.state.max_epochs:
            logger.info("Nothing left to train: %d of %d epochs are done", epoch, engine.state.max_epochs)


def _demand_same_everywhere(folder: Path, epoch: int) -> None:
    """Refuse processes that would continue from different epochs and then wait for each other for ever."""
    if idist.get_world_size() == 1:
        return
    epochs = [int(each) for each in torch.as_tensor(idist.all_gather(torch.tensor([epoch], device=idist.device())))]
    if len(set(epochs)) > 1:
        problem = f"the processes found checkpoints of different epochs: {', '.join(map(str, epochs))}"
        raise InputError.about(folder, problem, "give an output_dir on a disk that all machines share")


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """List the checkpoints, newest first."""
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    for _, path in _checkpoints(folder):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(content, dict) or _TRAINER not in content:
                raise ValueError("it is no training checkpoint")
        except (
            Exception
        ) as error:  # a damaged file raises nearly anything: EOFError, RuntimeError, UnpicklingError, OSError
            logger.warning("%s cannot be read and is passed over: %s", path, str(error).partition("\n")[0])
        else:
            return path, content
    return None
