"""What was fitted on normal cases is kept in files that run no code when they are opened.

Beside ``<name>.json`` (see :mod:`monai_ctmri.detection.fitted_files`) lies ``<name>.pt``, a dictionary of tensors and
numbers that ``torch.load(weights_only=True)`` opens, and for what PyOD or scikit-learn fitted ``<name>.skops``, opened
with a fixed list of classes (:mod:`monai_ctmri.detection.trusted_types`). There is no pickle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri.detection.features import FeatureSteps
from monai_ctmri.detection.fitted_files import pack_fitted, read_fitted, unpack_fitted, write_fitted
from monai_ctmri.detection.mahalanobis import MahalanobisDetector
from monai_ctmri.detection.network_parts import NETWORK_PARTS, put_together, take_apart
from monai_ctmri.detection.outlier import DETECTORS, OutlierDetector
from monai_ctmri.detection.packed_state import pack_state, unpack_state
from monai_ctmri.detection.row_detector import RowDetector
from monai_ctmri.detection.trusted_types import TRUSTED_TYPES, dump_trusted, load_trusted
from monai_ctmri.errors import InputError

__all__ = ["load_detector", "load_state", "pack_detector", "save_detector", "save_state", "unpack_detector"]

_DETECTORS: Mapping[str, type[RowDetector]] = {
    "MahalanobisDetector": MahalanobisDetector,
    "OutlierDetector": OutlierDetector,
}


def save_detector(detector: RowDetector, folder: str | os.PathLike[str], name: str = "detector") -> Path:
    """Save a fitted detector; :func:`load_detector` gives one that scores the same, bit by bit.

    Args:
        detector: an :class:`~monai_ctmri.detection.outlier.OutlierDetector` or a
            :class:`~monai_ctmri.detection.mahalanobis.MahalanobisDetector`.
        folder: made where it is missing; files of that name in it are replaced.
        name: how its files begin.

    Returns:
        The JSON file.

    Raises:
        sklearn.exceptions.NotFittedError: before ``fit``.
        InputError: another kind of detector; a parameter that JSON or the list of classes does not hold.
    """
    return write_fitted(folder, name, *_parts_of(detector))


def pack_detector(detector: RowDetector, name: str = "detector") -> dict[str, Any]:
    """What :func:`save_detector` would write, as one dictionary of a text and tensors of bytes.

    Args:
        detector: see :func:`save_detector`.
        name: what messages call it.

    Raises:
        sklearn.exceptions.NotFittedError: before ``fit``.
        InputError: see :func:`save_detector`.
    """
    return pack_fitted(name, *_parts_of(detector))


def _parts_of(detector: RowDetector) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON's content and the files of a fitted detector."""
    from sklearn.utils.validation import check_is_fitted

    what = type(detector).__name__
    if _DETECTORS.get(what) is not type(detector):
        raise InputError.about(what, "cannot be saved as a detector", f"give one of {', '.join(_DETECTORS)}")
    check_is_fitted(detector, "detector_")
    behind = type(detector.detector_).__name__
    names = [str(item) for item in detector.feature_names_in_] if hasattr(detector, "feature_names_in_") else None
    content = {
        "class": what,
        "parameters": detector.get_params(deep=False),
        "behind": behind,
        "steps": detector.steps_.get_params(deep=False),
        "columns": detector.n_features_in_,
        "feature_names": names,
    }
    state: dict[str, Any] = {"steps": detector.steps_.state_dict()}
    fitted = detector.detector_
    if behind in NETWORK_PARTS:
        content["arguments"], state["detector"], fitted = take_apart(behind, fitted)
    files = {".pt": pack_state(state, behind), ".skops": dump_trusted(fitted, TRUSTED_TYPES[behind], behind)}
    return content, files


def load_detector(folder: str | os.PathLike[str], name: str = "detector") -> RowDetector:
    """Load what :func:`save_detector` saved.

    No code of a file runs: the hashes are compared first, and what opens the files builds listed classes only. Even
    so, a detector from a stranger may score as the stranger likes.

    Raises:
        InputError: a file is missing, cut off, changed, of another kind or of a newer version of this package, holds a
            class that such a detector never holds, or does not fit the others.
    """
    return _put_together(*read_fitted(folder, name), Path(folder) / f"{name}.json")


def unpack_detector(packed: Any, name: str = "detector") -> RowDetector:
    """Load what :func:`pack_detector` packed under this name; the same holds as for :func:`load_detector`.

    Raises:
        InputError: it was cut off or changed, is of another kind or of a newer version of this package, or holds a
            class that such a detector never holds.
    """
    return _put_together(*unpack_fitted(name, packed), Path(name))


def _put_together(content: dict[str, Any], files: Mapping[str, bytes], path: Path) -> RowDetector:
    kind = _DETECTORS.get(str(content.get("class")))
    if kind is None:
        problem = f"holds a {str(content.get('class'))[:100]!r}, no detector"
        raise InputError.about(path, problem, f"it must be one of {', '.join(_DETECTORS)}")
    with _fitting_together(path):
        detector = kind(**content["parameters"])
        behind = content["behind"]
        if behind not in _behind(detector):
            raise ValueError(f"{behind!r} is not behind {content['class']}")
        state_data, fitted_data = files[".pt"], files[".skops"]
    state = unpack_state(state_data, path.with_suffix(".pt"))
    fitted = load_trusted(fitted_data, TRUSTED_TYPES[behind], path.with_suffix(".skops"))
    with _fitting_together(path):
        if behind in NETWORK_PARTS:
            fitted = put_together(behind, content["arguments"], state["detector"], fitted)
        if type(fitted).__name__ != behind:
            raise ValueError(f"a {type(fitted).__name__} is no {behind}")
        detector.detector_ = fitted
        detector.steps_ = FeatureSteps(**content["steps"]).load_state_dict(state["steps"])
        detector.n_features_in_ = int(content["columns"])
        names = content["feature_names"]
        if names is not None:
            detector.feature_names_in_ = np.array(names, dtype=object)
        if {len(detector.steps_.mean_), len(names or detector.steps_.mean_)} != {detector.n_features_in_}:
            raise ValueError("the numbers of columns differ")
    return detector


def save_state(fitted: Any, folder: str | os.PathLike[str], name: str) -> Path:
    """Save anything with ``state_dict()``: a calibrator, a fusion, a scorer.

    Args:
        fitted: its state is a dictionary of tensors, numpy arrays, numbers, texts, lists and dictionaries of these.
        folder: made where it is missing; files of that name in it are replaced.
        name: how its files begin.

    Returns:
        The JSON file.

    Raises:
        InputError: the state holds something else.
    """
    what = type(fitted).__name__
    return write_fitted(folder, name, {"class": what}, {".pt": pack_state(fitted.state_dict(), what)})


def load_state(target: Any, folder: str | os.PathLike[str], name: str) -> Any:
    """Give ``target.load_state_dict`` what :func:`save_state` saved, and return ``target``.

    Args:
        target: an object of the saved object's class, made with the same arguments.

    Raises:
        InputError: a file is missing, cut off, changed, of another kind or of a newer version of this package; it was
            saved from another class; ``target`` does not take the state.
    """
    content, files = read_fitted(folder, name)
    path, what = Path(folder) / f"{name}.json", type(target).__name__
    if content.get("class") != what:
        problem = f"was saved from a {str(content.get('class'))[:100]!r}, not from a {what}"
        raise InputError.about(path, problem, "give the object it was saved from")
    with _fitting_together(path):
        state_data = files[".pt"]
    state = unpack_state(state_data, path.with_suffix(".pt"))
    with _fitting_together(path):
        target.load_state_dict(state)
    return target


def _behind(detector: RowDetector) -> set[str]:
    """Names of the classes that may stand behind a detector."""
    if not isinstance(detector, OutlierDetector):
        return {"ShrunkGaussian"}
    recipe = DETECTORS[detector.name]
    return {recipe.class_name} | ({recipe.beyond[1].class_name} if recipe.beyond else set())


@contextmanager
def _fitting_together(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the content of files into one line about them."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # content made by hand fails in nearly any way
        problem = " ".join(f"does not fit together ({type(error).__name__}: {error}".split())[:200] + ")"
        raise InputError.about(path, problem, "fit and save it again with the libraries installed here") from error
