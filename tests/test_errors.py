"""The one exception for bad input and the search for it behind another."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from monai_ctmri.errors import InputError, find_input_error


def test_about_is_one_line_of_path_problem_and_remedy():
    error = InputError.about(Path("scans") / "a.png", "cut off", "copy it again")
    assert str(error) == f"{Path('scans') / 'a.png'}: cut off; copy it again"
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)


def test_about_keeps_the_class_it_was_called_on():
    class NarrowerError(InputError):
        pass

    assert type(NarrowerError.about("a", "b", "c")) is NarrowerError


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_the_way_between_processes(protocol):
    error = InputError.about("a.png", "cut off", "copy it again")
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is InputError
    assert str(back) == str(error)


def test_is_its_own_find():
    error = InputError("x")
    assert find_input_error(error) is error


def raised_from(explicit: bool) -> RuntimeError:
    try:
        try:
            raise InputError("inner")
        except InputError as inner:
            if explicit:
                raise RuntimeError("applying transform") from inner
            raise RuntimeError("applying transform")  # noqa: B904
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("explicit", [True, False], ids=["cause", "context"])
def test_is_found_behind_another_error(explicit):
    outer = raised_from(explicit)
    assert (outer.__cause__ is not None) is explicit
    assert str(find_input_error(outer)) == "inner"


def test_is_found_through_several_layers_of_both_kinds():
    first, second, third = RuntimeError("1"), KeyError("2"), OSError("3")
    first.__cause__, second.__context__, third.__cause__ = second, third, InputError("deep")
    assert str(find_input_error(first)) == "deep"


def test_the_nearest_of_two_is_returned():
    outer, near = RuntimeError("outer"), InputError("near")
    near.__cause__, outer.__cause__ = InputError("far"), near
    assert find_input_error(outer) is near


def test_is_none_without_one():
    assert find_input_error(RuntimeError("x")) is None
    outer = RuntimeError("outer")
    outer.__cause__ = ValueError("a ValueError that is no InputError")
    assert find_input_error(outer) is None


def test_a_cycle_of_causes_ends():
    first, second = RuntimeError("1"), RuntimeError("2")
    first.__cause__, second.__cause__ = second, first
    assert find_input_error(first) is None
    own = RuntimeError("own")
    own.__cause__ = own
    assert find_input_error(own) is None


def test_monai_wraps_what_a_transform_raises_and_it_is_still_found():
    from monai.transforms import Compose

    def refuse(_: object) -> None:
        raise InputError("a.png: cut off; copy it again")

    with pytest.raises(RuntimeError) as caught:
        Compose([refuse])({"image": 1})
    assert not isinstance(caught.value, InputError)
    assert str(find_input_error(caught.value)) == "a.png: cut off; copy it again"
