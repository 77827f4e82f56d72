"""A bundle, or what a training run wrote, as something that judges one case after another.

A bundle's configuration is code: MONAI builds any class that it names and evaluates its expressions. So the
configurations executed here are those of the bundles that ship with this package, and of a bundle that the user names
as the model. A run's ``config.yaml`` is data: it names its bundle and gives plain values, and anything that could be
evaluated is refused.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from monai.networks.utils import eval_mode
from monai.utils import ensure_tuple

from monai_ctmri import keys
from monai_ctmri.bundle import bundle_root
from monai_ctmri.engines.randomness import preserved_random_state
from monai_ctmri.engines.results import CaseResults
from monai_ctmri.errors import InputError, find_input_error

__all__ = ["JudgedCase", "LoadedBundle", "load_bundle"]

_WEIGHTS, _FITTED = "model.pt", "scorers.pt"
# What a training is told that says nothing about the network or how an image is read: inference has its own.
_OF_THE_RUN = frozenset(
    {"batch_size", "bf16", "bundle", "cache_dir", "dataset_dir", "output_dir", "seed"}
    | {"phantom_contrast", "phantom_form", "phantom_levels", "phantom_subjects"}
)
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. +-]*")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedCase:
    """What a bundle says about one case.

    Attributes:
        scores: named numbers; higher is more abnormal.
        map: float32 (H, W) on the grid of the case's own file, or None where the bundle draws none.
    """

    scores: dict[str, float]
    map: np.ndarray | None


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle with its weights, ready to judge.

    Attributes:
        folder: what was named: a bundle or a run.
        name: of the bundle.
        configs: files of the configuration, in the order they were laid over each other.
        settings: values of the run that took the place of the bundle's.
        modalities: channels of the image, in order.
        files: SHA-256 by name of what lies in ``models/`` and decides the numbers.
        default_scores: named scores to judge by where nothing was calibrated: the first that a case has.
        network: in evaluation mode, on its device.
        preprocess: the bundle's transform of a case's files to ``image``.
        infer: (image [1, C, H, W], network) -> pred.
        postprocess: transform of a case with ``image`` and ``pred`` to its map and scores.
        scorer: the bundle's scorer; None where the map itself is scored.
    """

    folder: Path
    name: str
    configs: tuple[Path, ...]
    settings: dict[str, Any]
    modalities: tuple[str, ...]
    files: dict[str, str]
    default_scores: tuple[str, ...]
    network: torch.nn.Module
    preprocess: Callable[[Any], Any]
    infer: Callable[..., torch.Tensor]
    postprocess: Callable[[Any], Any]
    scorer: Any
    _rows: _Rows

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides a case's numbers: weights, what was fitted, configuration and settings."""
        texts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.configs]
        content = json.dumps([self.name, texts, self.files, self.settings], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def judge(self, case: Mapping[str, Any]) -> JudgedCase:
        """Judge one case as the bundle's ``inference.yaml`` does, alone in its batch.

        Args:
            case: ``case``, ``subject``, ``label`` and the path of each modality it has, as
                :func:`~monai_ctmri.data.dataset.datalist` lists it.

        Raises:
            InputError: the case has no modality of this model, or not all that it needs; a file cannot be used.
        """
        if not any(case.get(name) for name in self.modalities):
            wanted = " or ".join(self.modalities)
            raise InputError.about(str(case[keys.CASE]), f"has no {wanted}", "choose a model of the modality it has")
        try:
            item = self.preprocess(dict(case))
        except Exception as error:
            missing = [name for name in self.modalities if not case.get(name)]
            if missing and find_input_error(error) is None and _stems_from(error, KeyError):
                problem = f"has no {' nor '.join(missing)}, and this model needs {' and '.join(self.modalities)}"
                raise InputError.about(str(case[keys.CASE]), problem, "choose a model that takes one alone") from error
            raise
        # As MONAI's evaluator does: a batch, the network, and the cases apart again.
        batch = list_data_collate([item])
        device = next(self.network.parameters()).device
        image = batch[keys.IMAGE].to(device)
        with eval_mode(self.network):
            batch[keys.PRED] = self.infer(image, self.network)
        batch[keys.IMAGE] = image
        output = self.postprocess(decollate_batch(batch)[0])
        judged = JudgedCase(self._rows.scores_of(output), self._rows.map_of(output))
        if bad := [name for name, value in judged.scores.items() if not math.isfinite(value)]:
            raise InputError.about(str(case[keys.CASE]), f"{bad[0]} is not finite", "check its files and the weights")
        return judged


class _Rows(CaseResults):
    """The bundle's own way from an output to named scores, without the files it writes."""

    def scores_of(self, output: Mapping[str, Any]) -> dict[str, float]:
        return self._scores(output)

    def map_of(self, output: Mapping[str, Any]) -> np.ndarray | None:
        if self.save_key is None:
            return None
        return torch.as_tensor(output[self.save_key]).detach().cpu().numpy()[0].astype(np.float32)


def load_bundle(model_folder: str | os.PathLike[str]) -> LoadedBundle:
    """Load what a folder holds, by the bundle's ``inference.yaml``.

    Args:
        model_folder: a bundle (``configs/inference.yaml``, ``models/model.pt``), whose configuration is executed: name
            only one you trust; the folder of a training run (``config.yaml``, ``models/model.pt``) of a bundle that
            ships with this package; or the name of such a bundle. ``models/scorers.pt`` is used where it is there.

    Raises:
        InputError: one line that says what is wrong with the folder.
    """
    folder = _folder_of(model_folder)
    if (folder / "configs" / "inference.yaml").is_file():
        home, recorded = folder, {}
    else:
        recorded = _read_settings(folder / "config.yaml")
        home = _home_of(recorded, folder / "config.yaml")
    weights = folder / "models" / _WEIGHTS
    if not weights.is_file():
        raise InputError.about(weights, "no trained weights", "train first, or name the folder of a finished run")
    configs = (home / "configs" / "inference.yaml", *_overlays(home, recorded))
    with _in_one_line(configs[-1], "this bundle's inference cannot be set up"):
        parser = ConfigParser()
        parser.read_config([os.fspath(path) for path in configs])
        known = set(parser.get() or ())
    settings = {name: value for name, value in recorded.items() if name in known and name not in _OF_THE_RUN}
    _demand_plain(settings, folder / "config.yaml")
    if recorded.get("spatial_dims", 2) != 2:
        raise InputError.about(folder, "was trained on volumes", "choose a model of slices, or use its inference.yaml")
    # A network draws its first weights from the process's generator.
    with preserved_random_state(), _in_one_line(configs[-1], "this bundle's inference cannot be set up"):
        parser.update({**settings, "bundle_root": os.fspath(home), "output_dir": os.fspath(folder)})
        parts = {
            name: parser.get_parsed_content(name)
            for name in ("network", "preprocessing", "inferer", "postprocessing", "handlers", "modalities")
        }
        scorer = parser.get_parsed_content("scorer") if "scorer" in known else None
        rows = _rows_of(parts["handlers"])
        default_scores = _default_scores(parser, known)
    parts["network"].eval()
    _load_state(parts["handlers"])
    return LoadedBundle(
        folder=folder,
        name=home.name,
        configs=configs,
        settings=settings,
        modalities=tuple(parts["modalities"]),
        files=_hashes(folder / "models", scorer),
        default_scores=default_scores,
        network=parts["network"],
        preprocess=parts["preprocessing"],
        infer=parts["inferer"],
        postprocess=parts["postprocessing"],
        scorer=scorer,
        _rows=rows,
    )


def _folder_of(model_folder: str | os.PathLike[str]) -> Path:
    folder = Path(model_folder)
    if not folder.exists() and re.fullmatch(r"[a-z0-9_]+", os.fspath(model_folder)):
        with suppress(InputError):
            return bundle_root(os.fspath(model_folder))
    remedy = "name a bundle, or the folder that a training run wrote"
    if not folder.exists():
        raise InputError.about(folder, "no such folder", remedy)
    if not folder.is_dir():
        raise InputError.about(folder, "a file, not a folder", remedy)
    if not any((folder / name).is_file() for name in ("config.yaml", "configs/inference.yaml")):
        raise InputError.about(folder, "no model: neither config.yaml nor configs/inference.yaml is in it", remedy)
    return folder


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError.about(path, "cannot be read as YAML", "name the folder of a finished run") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError.about(path, "holds no settings", "name the folder of a finished run")
    return content


def _home_of(recorded: Mapping[str, Any], path: Path) -> Path:
    name = recorded.get("bundle")
    if not isinstance(name, str) or not name:
        problem = "does not say which bundle the run belongs to"
        raise InputError.about(path, problem, "add the line bundle: brain_ctmri_..., the one it was trained with")
    try:
        return bundle_root(name)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _overlays(home: Path, recorded: Mapping[str, Any]) -> Iterator[Path]:
    """The overlays of ``inference.yaml`` that a run needs: ``<x>_inference.yaml`` belongs to the training overlay
    ``<x>.yaml``, and a run was trained with that one where it recorded all settings that this alone adds."""
    for path in sorted((home / "configs").glob("*_inference.yaml")):
        training = path.with_name(path.name.replace("_inference.yaml", ".yaml"))
        if recorded and training.is_file():
            added = (yaml.safe_load(training.read_text(encoding="utf-8")) or {}).get("+settings") or {}
            if added and set(added) <= set(recorded):
                yield path


def _demand_plain(value: Any, path: Path, name: str = "") -> None:
    """Refuse what a configuration parser would evaluate, resolve or build."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _demand_plain(str(key), path, name)
            _demand_plain(item, path, name or str(key))
    elif isinstance(value, list):
        for item in value:
            _demand_plain(item, path, name)
    elif isinstance(value, str):
        if not _PLAIN_TEXT.fullmatch(value):
            raise InputError.about(path, f"{name} is no plain value: {value[:60]!r}", "restore the file the run wrote")
    elif value is not None and not isinstance(value, bool | int | float):
        raise InputError.about(path, f"{name} is no plain value", "restore the file the run wrote")


def _rows_of(handlers: Any) -> _Rows:
    given = next((handler for handler in handlers if isinstance(handler, CaseResults)), None)
    if given is None:
        raise ValueError("no CaseResults among its handlers says what the scores are")
    return _Rows(given.folder, given.map_score, given.mask_key, given.save_key, scores_key=given.scores_key)


def _load_state(handlers: Any) -> None:
    """Let the handlers that load something do so: they know the run's folder and the bundle's."""
    engine = Engine(lambda engine, batch: None)
    for handler in handlers:
        if callable(handler) and hasattr(handler, "output_dir") and hasattr(handler, "bundle_root"):
            handler(engine)


def _default_scores(parser: ConfigParser, known: set[str]) -> tuple[str, ...]:
    """``default_score`` of the configuration; else the highest values of the map that it saves."""
    if "default_score" in known:
        return tuple(ensure_tuple(parser.get_parsed_content("default_score")))
    maps = ensure_tuple(parser.get_parsed_content("map_name")) if "map_name" in known else ("l1",)
    return tuple(f"{name}_top" for name in maps)


def _hashes(models: Path, scorer: Any) -> dict[str, str]:
    names = (_WEIGHTS,) if scorer is None else (_WEIGHTS, _FITTED)
    return {
        name: hashlib.sha256((models / name).read_bytes()).hexdigest() for name in names if (models / name).is_file()
    }


def _stems_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _in_one_line(path: Path, problem: str) -> Iterator[None]:
    """Turn what goes wrong while a configuration is built into one line about it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a configuration may name anything, which may raise anything
        if (behind := find_input_error(error)) is not None:
            raise behind from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError.about(path, f"{problem} ({reason})", "check the configuration and the settings") from error
