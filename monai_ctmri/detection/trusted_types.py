"""Fitted scikit-learn and PyOD objects to bytes and back through skops, with a fixed list of classes a detector.

skops opens a file only if every class in it is on its own list of harmless ones or on the list given here. The lists
are written down, never taken from the file. Some harmless classes (trees) hold indices that their compiled code follows
without a check; these are checked before anything uses them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from monai_ctmri.errors import InputError

__all__ = ["TRUSTED_TYPES", "dump_trusted", "load_trusted"]

_TREE = ("sklearn.tree._tree.Tree",)
# Which of them a search of neighbours holds depends on the rows and on the metric asked for.
_METRICS = tuple(
    f"sklearn.metrics._dist_metrics.{name}Distance64" for name in ("Euclidean", "Manhattan", "Chebyshev", "Minkowski")
)
_NEIGHBOURS = (*_METRICS, "sklearn.neighbors._kd_tree.KDTree", "sklearn.neighbors._ball_tree.BallTree")

# Keys are names of the class that was fitted: of PyOD, or ours that stands in for it. Of a detector with a network only
# the scikit-learn parts go through skops.
TRUSTED_TYPES: Mapping[str, tuple[str, ...]] = {
    "ABOD": ("pyod.models.abod.ABOD", *_NEIGHBOURS),
    "AutoEncoder": (),
    "CBLOF": ("pyod.models.cblof.CBLOF",),
    "DIF": _TREE,
    "DeepSVDD": (),
    "EmpiricalTails": ("monai_ctmri.detection.repairs.EmpiricalTails",),
    "GMM": ("pyod.models.gmm.GMM",),
    "HBOS": ("pyod.models.hbos.HBOS",),
    "IForest": ("pyod.models.iforest.IForest", *_TREE),
    "INNE": ("pyod.models.inne.INNE",),
    "KDE": ("pyod.models.kde.KDE", *_NEIGHBOURS),
    "KNN": ("pyod.models.knn.KNN", *_NEIGHBOURS),
    "KPCA": ("pyod.models.kpca.KPCA", "pyod.models.kpca.PyODKernelPCA"),
    "LODA": ("pyod.models.loda.LODA",),
    "LOF": ("pyod.models.lof.LOF", *_NEIGHBOURS),
    "LUNAR": _NEIGHBOURS,
    "MCD": ("pyod.models.mcd.MCD",),
    "NystroemOneClassSVM": ("monai_ctmri.detection.repairs.NystroemOneClassSVM",),
    "OCSVM": ("pyod.models.ocsvm.OCSVM",),
    "PCA": ("pyod.models.pca.PCA",),
    "Sampling": ("pyod.models.sampling.Sampling", *_METRICS),
    "ShrunkGaussian": ("monai_ctmri.detection.mahalanobis.ShrunkGaussian",),
    "VAE": (),
}


def dump_trusted(fitted: Any, trusted: Collection[str], what: str) -> bytes:
    """Turn a fitted object into the bytes of a skops file.

    Args:
        fitted: the object.
        trusted: full names of the classes it may hold beyond those skops calls harmless.
        what: how a message calls the object.

    Raises:
        InputError: it holds another class, or something skops has no way to store, so it could not be loaded.
    """
    from zipfile import ZIP_DEFLATED

    from skops.io import dumps, get_untrusted_types

    remedy = "fit it with parameters that are numbers, texts, lists or dictionaries"
    try:
        data = dumps(fitted, compression=ZIP_DEFLATED)
        foreign = sorted(set(get_untrusted_types(data=data)) - set(trusted))
    except Exception as error:  # skops raises nearly anything for what it does not know
        raise InputError.about(what, f"cannot be stored: {_one_line(error)}", remedy) from error
    if foreign:
        raise InputError.about(what, f"cannot be stored: it holds a {foreign[0]}", remedy)
    return data


def load_trusted(data: bytes, trusted: Collection[str], path: Any) -> Any:
    """Build the object a skops file describes, if every class in it is trusted.

    Args:
        data: the bytes of the file.
        trusted: full names of the classes it may hold beyond those skops calls harmless.
        path: the file, for messages.

    Raises:
        InputError: another class is named in it (nothing of the file was built then), no skops file, a tree with
            indices that lead outside of it.
    """
    from skops.io import get_untrusted_types, loads

    try:
        foreign = sorted(set(get_untrusted_types(data=data)) - set(trusted))
    except Exception as error:  # a file made by hand breaks skops in nearly any way
        raise _unreadable(path, error) from error
    if foreign:
        problem = f"holds {foreign[0][:100]!r}, which such a detector never holds"
        raise InputError.about(path, problem, "it was not written here: do not use it")
    try:
        fitted = loads(data, trusted=sorted(trusted))
        sound = all(_is_sound(item) for item in _everything_in(fitted))
    except Exception as error:
        raise _unreadable(path, error) from error
    if not sound:
        raise InputError.about(path, "a tree in it leads outside itself", "it was not written here: do not use it")
    return fitted


def _unreadable(path: Any, error: Exception) -> InputError:
    return InputError.about(
        path, f"cannot be opened ({_one_line(error)})", "fit and save again with the libraries installed here"
    )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _everything_in(fitted: Any) -> Iterator[Any]:
    """An object, its attributes, the items of its lists, tuples and dictionaries, and theirs."""
    seen: set[int] = set()
    waiting = [fitted]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple, set)):
            waiting.extend(item)
        elif isinstance(item, np.ndarray):
            waiting.extend(item.ravel() if item.dtype == object else ())
        else:
            waiting.extend(getattr(item, "__dict__", {}).values())


def _is_sound(item: Any) -> bool:
    """Whether every index of a tree or a forest leads to a node, a column or a row that is there."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import BallTree, KDTree
    from sklearn.tree import BaseDecisionTree
    from sklearn.tree._tree import Tree

    if isinstance(item, (KDTree, BallTree)):
        return _is_sound_search(*(np.asarray(values) for values in item.get_arrays()))
    if isinstance(item, Tree):
        return _is_sound_tree(item)
    if isinstance(item, BaseDecisionTree) and hasattr(item, "tree_"):
        return item.tree_.n_features == item.n_features_in_
    if isinstance(item, IsolationForest):
        columns = [len(features) for features in item.estimators_features_]
        return (
            max(columns) <= item.n_features_in_
            and columns == [tree.n_features_in_ for tree in item.estimators_]
            and all(isinstance(tree, BaseDecisionTree) for tree in item.estimators_)
        )
    return True


def _is_sound_search(rows: np.ndarray, order: np.ndarray, nodes: np.ndarray, bounds: np.ndarray) -> bool:
    starts, ends = nodes["idx_start"], nodes["idx_end"]
    return (
        np.array_equal(np.sort(order), np.arange(len(rows)))
        and bool(((starts >= 0) & (starts <= ends) & (ends <= len(rows))).all())
        and bounds.shape[1:] == (len(nodes), rows.shape[1])
    )


def _is_sound_tree(tree: Any) -> bool:
    index = np.arange(tree.node_count)
    left, right, column = (np.asarray(values) for values in (tree.children_left, tree.children_right, tree.feature))
    leaf = (left == -1) & (right == -1)
    # A child comes after its parent, so a walk down ends.
    inner = (left > index) & (right > index) & (left < tree.node_count) & (right < tree.node_count)
    return tree.node_count > 0 and bool((leaf | (inner & (column >= 0) & (column < tree.n_features))).all())
