"""The tables of detectors: complete over PyOD, none both offered and refused."""

from __future__ import annotations

import importlib.util
import pkgutil
from importlib import import_module
from inspect import signature

import pytest

from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.detection.recipes import DETECTORS, REFUSED
from monai_ctmri.errors import InputError

# Parts, and detectors of other things than feature rows: series, graphs, texts and pictures, sounds.
NO_DETECTORS = {
    "audio_ae",
    "base",
    "base_dl",
    "combination",
    "embedding",
    "gaal_base",
    "sklearn_base",
    "so_gaal_new",
    "thresholds",
}


def test_every_detector_of_pyod_is_offered_or_refused():
    folder = importlib.util.find_spec("pyod").submodule_search_locations[0] + "/models"
    modules = {module.name for module in pkgutil.iter_modules([folder])} - NO_DETECTORS
    modules = {name for name in modules if not name.startswith(("_", "ts_", "pyg_"))}
    known = {name.lower() for name in (*DETECTORS, *REFUSED)}
    assert {name.replace("_", "") for name in modules} == {name.replace("_", "") for name in known}


def test_none_is_both_offered_and_refused():
    assert not set(DETECTORS) & set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_why_in_one_line(name):
    with pytest.raises(InputError) as caught:
        OutlierDetector(name).fit([[0.0], [1.0]])
    message = str(caught.value)
    assert f"detector {name!r}: is refused: {REFUSED[name]}; choose one of IForest" in message
    assert "\n" not in message
    assert 30 < len(REFUSED[name]) < 120


@pytest.mark.parametrize("name", DETECTORS)
def test_a_recipe_names_only_arguments_its_class_has(name):
    recipe = DETECTORS[name]
    while recipe is not None:
        taken = set(signature(getattr(import_module(recipe.module), recipe.class_name)).parameters)
        named = {*recipe.defaults, *recipe.limits, recipe.seed, recipe.columns} - {None}
        assert named <= taken
        assert set(recipe.limits) <= set(recipe.defaults), "a limit lowers only what is stated"
        assert ("contamination" in taken) == recipe.contamination
        assert (recipe.seed is not None) == bool({"random_state"} & taken), "no detector draws without our seed"
        recipe = recipe.beyond[1] if recipe.beyond else None


@pytest.mark.parametrize("name", DETECTORS)
def test_limits_leave_something_for_the_fewest_rows(name):
    recipe = DETECTORS[name]
    for argument, limit in recipe.limits.items():
        assert limit(recipe.min_rows) >= (0.5 if argument == "alpha" else 1)
        assert type(limit(recipe.min_rows)) is type(recipe.defaults[argument])
    assert recipe.max_components is None or recipe.max_components(recipe.min_rows) >= 1
