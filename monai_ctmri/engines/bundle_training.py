"""Run a bundle's training inside a program, and hand back what was trained."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import Compose

from monai_ctmri.bundle import bundle_root
from monai_ctmri.engines.history import read_history
from monai_ctmri.engines.randomness import preserved_random_state
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import assert_families_unseen

__all__ = ["TrainedBundle", "train_bundle"]

TEST_FAMILIES = ("B",)


@dataclass(frozen=True)
class TrainedBundle:
    """A network with its best weights, and how cases have to be prepared for it.

    Attributes:
        network: in ``eval()`` on the CPU.
        preprocess: the deterministic preprocessing of the training: paths in, ``image`` [C, H, W] out.
        history: one entry an epoch, see :class:`~monai_ctmri.engines.history.EpochHistory`.
        weights: file of the weights.
    """

    network: torch.nn.Module
    preprocess: Callable[[dict[str, Any]], Any]
    history: list[dict[str, Any]]
    weights: Path


def train_bundle(
    name: str,
    output_dir: str | os.PathLike[str],
    *,
    each_epoch: Callable[[int, int], None] | None = None,
    overlays: Sequence[str] = (),
    **overrides: Any,
) -> TrainedBundle:
    """Train a bundle that ships with this package, or continue a training that was cut off in ``output_dir``.

    The random state of the process is as before afterwards, though the bundle's configuration seeds it.

    Args:
        name: bundle, e.g. ``brain_ctmri_autoencoder``.
        output_dir: the bundle's ``output_dir``: checkpoints, weights, history.
        each_epoch: called with (epochs done, epochs at most).
        overlays: configurations laid over the bundle's ``train.yaml`` in this order: names of those beside it, e.g.
            ``vae``, or paths of your own files.
        overrides: top-level values of the configuration.

    Raises:
        InputError: for bad data, an overlay that is not there, or when the training preprocessing holds anomalies of a
            family that only tests.
    """
    configs = bundle_root(name) / "configs"
    with preserved_random_state(), _own_logging():
        workflow = ConfigWorkflow(
            config_file=[str(configs / "train.yaml"), *(_overlay(configs, one) for one in overlays)],
            meta_file=str(configs / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            output_dir=str(output_dir),
            **overrides,
        )
        workflow.initialize()
        assert_families_unseen(workflow.train_preprocessing, TEST_FAMILIES)
        if each_epoch is not None:
            _report_epochs(workflow.trainer, each_epoch)
        workflow.run()
        workflow.finalize()
        network = workflow.parser.get_parsed_content("network_def")
        preprocess = Compose(workflow.parser.get_parsed_content("deterministic_transforms"))
    weights = Path(output_dir) / "models" / "model.pt"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return TrainedBundle(network.to("cpu").eval(), preprocess, read_history(Path(output_dir) / "history.json"), weights)


def _overlay(configs: Path, name: str) -> str:
    for path in (configs / f"{name}.yaml", Path(name)):
        if path.is_file():
            return str(path)
    known = ", ".join(sorted(path.stem for path in configs.glob("*.yaml") if path.stem != "train"))
    raise InputError.about(f"overlay {name}", "no such configuration", f"use one of {known}, or the path of a file")


@contextmanager
def _own_logging() -> Iterator[None]:
    """Leave the program's logging alone, without MONAI's warning that the bundle's ``logging.conf`` is not applied."""
    logger = logging.getLogger("monai.bundle.workflows")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _report_epochs(trainer: Any, each_epoch: Callable[[int, int], None]) -> None:
    from ignite.engine import Events

    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: each_epoch(int(engine.state.epoch), int(engine.state.max_epochs))
    )
