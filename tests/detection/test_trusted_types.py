"""The lists are complete, and what passes them leads nowhere it should not."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import BallTree, KDTree, NearestNeighbors
from sklearn.preprocessing import FunctionTransformer
from skops.io import dumps, get_untrusted_types

from monai_ctmri.detection.network_parts import NETWORK_PARTS
from monai_ctmri.detection.outlier import DETECTORS
from monai_ctmri.detection.trusted_types import TRUSTED_TYPES, dump_trusted, load_trusted
from monai_ctmri.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(40, 3))
TREE = "sklearn.tree._tree.Tree"


def refusal(data, trusted):
    with pytest.raises(InputError) as caught:
        load_trusted(data, trusted, "file.skops")
    assert str(caught.value).startswith("file.skops: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_detector_has_a_list_and_no_list_is_left_over():
    recipes = [*DETECTORS.values(), *(recipe.beyond[1] for recipe in DETECTORS.values() if recipe.beyond)]
    assert {recipe.class_name for recipe in recipes} | {"ShrunkGaussian"} == set(TRUSTED_TYPES)
    for recipe in recipes:
        own = f"{recipe.module}.{recipe.class_name}"
        # A network is put together from its tensors, so its detector is not built by skops.
        assert (own in TRUSTED_TYPES[recipe.class_name]) != (recipe.class_name in NETWORK_PARTS)
        assert recipe.torch == (recipe.class_name in NETWORK_PARTS)


def test_lists_name_classes_of_the_numerical_libraries_and_ours_alone():
    rooms = ("pyod.models.", "sklearn.tree.", "sklearn.neighbors.", "sklearn.metrics.", "monai_ctmri.detection.")
    assert all(name.startswith(rooms) for names in TRUSTED_TYPES.values() for name in names)


def test_a_listed_object_comes_back():
    forest = IsolationForest(n_estimators=3, random_state=0).fit(ROWS)
    back = load_trusted(dump_trusted(forest, [TREE], "forest"), [TREE], "file.skops")
    np.testing.assert_array_equal(back.score_samples(ROWS), forest.score_samples(ROWS))


@pytest.mark.parametrize(
    ("harmful", "name"),
    [
        (FunctionTransformer(func=os.system), "system"),
        (functools.partial(os.system, "true"), "functools.partial"),
        ([LinearRegression(), {"deep": FunctionTransformer(func=eval)}], "eval"),
        (IsolationForest(n_estimators=2).fit(ROWS), TREE),
    ],
)
def test_what_is_not_listed_is_neither_saved_nor_loaded(harmful, name):
    with pytest.raises(InputError, match=f"what: cannot be stored: .*{name}"):
        dump_trusted(harmful, [], "what")
    data = dumps(harmful)
    assert get_untrusted_types(data=data)
    assert name in refusal(data, TRUSTED_TYPES["KNN"])


def test_a_name_made_to_fill_the_log_is_cut():
    data = dumps(FunctionTransformer(func=os.system)).replace(b'"system"', b'"sy\\nem"')
    assert len(refusal(data, [])) < 400


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_skops_file_is_refused(data):
    assert "cannot be opened" in refusal(data, [])


def test_what_skops_cannot_store_is_refused_when_saved():
    with pytest.raises(InputError, match="what: cannot be stored") as caught:
        dump_trusted({"open": (item for item in ())}, [], "what")
    assert "\n" not in str(caught.value)


def spoilt_forest(field, value):
    forest = IsolationForest(n_estimators=2, random_state=0).fit(ROWS)
    tree = forest.estimators_[1].tree_
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    inner = np.flatnonzero(nodes["left_child"] != -1)
    nodes[field][inner[-1]] = value
    tree.__setstate__({**state, "nodes": nodes})
    return forest


@pytest.mark.parametrize(
    ("field", "value"),
    [("left_child", 10**6), ("right_child", -5), ("left_child", 0), ("feature", 3), ("feature", -7)],
)
def test_a_tree_that_leads_outside_itself_is_refused_before_it_is_walked(field, value):
    # scikit-learn follows such an index into foreign memory, or in a circle.
    data = dump_trusted(spoilt_forest(field, value), [TREE], "forest")
    assert "leads outside itself" in refusal(data, [TREE])


@pytest.mark.parametrize("columns", [2, 9])
def test_a_tree_for_other_columns_than_its_forest_says_is_refused(columns):
    forest = IsolationForest(n_estimators=2, random_state=0).fit(ROWS)
    other = IsolationForest(n_estimators=2, random_state=0).fit(np.random.default_rng(0).normal(size=(40, columns)))
    forest.estimators_ = other.estimators_
    assert "leads outside itself" in refusal(dump_trusted(forest, [TREE], "forest"), [TREE])
    forest = IsolationForest(n_estimators=2, random_state=0).fit(ROWS)
    other.estimators_[0].n_features_in_ = 3
    forest.estimators_[0] = other.estimators_[0]
    assert "leads outside itself" in refusal(dump_trusted(forest, [TREE], "forest"), [TREE])


@pytest.mark.parametrize("kind", [KDTree, BallTree])
@pytest.mark.parametrize("spoilt", ["order", "nodes", None])
def test_a_search_tree_that_leads_outside_its_rows_is_refused(kind, spoilt):
    search = NearestNeighbors(algorithm="kd_tree" if kind is KDTree else "ball_tree").fit(ROWS)
    trusted = TRUSTED_TYPES["LUNAR"]
    state = list(search._tree.__getstate__())
    if spoilt == "order":
        state[1] = np.array(state[1])
        state[1][0] = 10**6
    elif spoilt == "nodes":
        state[2] = np.array(state[2])
        state[2]["idx_end"][0] = 10**6
    search._tree.__setstate__(tuple(state))
    data = dump_trusted(search, trusted, "search")
    if spoilt:
        assert "leads outside itself" in refusal(data, trusted)
    else:
        distances, _ = load_trusted(data, trusted, "file.skops").kneighbors(ROWS, 1)
        np.testing.assert_array_equal(distances, 0)
