"""What scorers learnt from normals, kept in ``models/scorers.pt`` beside the weights it belongs to."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from monai_ctmri.engines.checkpoints import save_weights
from monai_ctmri.engines.weights import RunWeights, find_weights
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.joint import JointScorer

__all__ = ["RunScorers", "ScorerFitter", "model_files", "model_folders"]

_FILE = "scorers.pt"
_SCORERS, _WEIGHTS = "scorers", "weights_sha256"
logger = logging.getLogger(__name__)


class ScorerFitter:
    """Fit scorers on normal cases with the weights of a run, and save what they learnt.

    The file is a dictionary of tensors, numbers and texts that ``torch.load(weights_only=True)`` opens: the states of
    the scorers by name, and the SHA-256 of the weights they were fitted with.

    Args:
        scorer: what to fit.
        network: the network of the scorers; takes the weights.
        output_dir: folder of the run; receives ``models/scorers.pt``.
        bundle_root: folder of the bundle, whose weights serve where the run has none.
    """

    def __init__(
        self,
        scorer: JointScorer,
        network: torch.nn.Module,
        output_dir: str | os.PathLike[str],
        bundle_root: str | os.PathLike[str],
    ) -> None:
        self.scorer = scorer
        self.weights = RunWeights(network, output_dir, bundle_root)
        self.path = Path(output_dir) / "models" / _FILE

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> Path:
        """Load the weights, fit, save, and return the file.

        Raises:
            InputError: when there are no weights, or the cases are too few.
        """
        weights = self.weights.load()
        self.scorer.fit(normal_cases)
        state = self.scorer.state_dict()
        save_weights({_SCORERS: state, _WEIGHTS: _digest(weights)}, self.path)
        logger.info("Fitted %s; saved %s", ", ".join(state) or "nothing: no scorer learns", self.path)
        return self.path


class RunScorers:
    """Load ``scorers.pt`` when an engine starts; say in one line which scores are left out without it.

    The file has to lie beside the weights that the run uses, or in the run's folder, and to belong to those weights:
    what was fitted with others means nothing.

    Args:
        scorer: takes what was learnt.
        output_dir: folder of the run.
        bundle_root: folder of the bundle.
    """

    def __init__(
        self, scorer: JointScorer, output_dir: str | os.PathLike[str], bundle_root: str | os.PathLike[str]
    ) -> None:
        self.scorer = scorer
        self.output_dir = output_dir
        self.bundle_root = bundle_root

    def attach(self, engine: Engine) -> None:
        """Load at the start of ``engine``."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the file, if there is a fitting one.

        Raises:
            InputError: when the file cannot be read.
        """
        weights = find_weights(self.output_dir, self.bundle_root)
        homes = [Path(self.output_dir) / "models" / _FILE, weights.with_name(_FILE)]
        path = next((home for home in homes if home.is_file()), None)
        reason = f"{homes[0]} is not there"
        if path is not None:
            content = _read(path)
            if content[_WEIGHTS] == _digest(weights):
                self.scorer.load_state_dict(content[_SCORERS])
                reason = f"{path} has none"
            else:
                reason = f"{path} was fitted with other weights"
        if left_out := self.scorer.unfitted:
            logger.warning("Without %s: %s; run fit_detectors", ", ".join(left_out), reason)


def model_folders(output_dir: str | os.PathLike[str], bundle_root: str | os.PathLike[str]) -> list[Path]:
    """The folders whose ``models/`` a run reads: its own, then that of the weights it uses.

    Raises:
        InputError: when there are no weights.
    """
    weights = find_weights(output_dir, bundle_root)
    return list(dict.fromkeys((Path(output_dir), weights.parent.parent)))


def model_files(output_dir: str | os.PathLike[str], bundle_root: str | os.PathLike[str]) -> dict[str, str]:
    """SHA-256 by name of what decides a run's scores: the weights it uses, and what was fitted with them.

    Raises:
        InputError: when there are no weights.
    """
    homes = [folder / "models" for folder in model_folders(output_dir, bundle_root)]
    found = {"model.pt": _digest(homes[-1] / "model.pt")}
    fitted = next((home / _FILE for home in homes if (home / _FILE).is_file()), None)
    return found if fitted is None else found | {_FILE: _digest(fitted)}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {_SCORERS: dict(content[_SCORERS]), _WEIGHTS: str(content[_WEIGHTS])}
    except Exception as error:  # unreadable files raise nearly anything
        raise InputError.about(path, "not a file of fitted scorers", "remove it and run fit_detectors") from error


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
