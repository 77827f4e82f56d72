"""Rows of named scores in order, and slices made subjects."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ctmri.detection.fusion import subject_scores as from_fusion
from monai_ctmri.detection.named_scores import row_values, subject_scores
from monai_ctmri.errors import InputError

SLICES = [{"a": value} for value in (1.0, 9.0, 5.0, 3.0, 7.0)]


def test_a_row_in_order_with_gaps():
    np.testing.assert_array_equal(
        row_values({"b": 2, "a": np.float32(1.5), "z": 9.0}, ["a", "x", "b"]), [1.5, np.nan, 2]
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, "much", None])
def test_a_score_that_is_no_finite_number_is_refused_by_its_name(value):
    with pytest.raises(InputError, match="score error_ct"):
        row_values({"error_ct": value}, ["error_ct"])


@pytest.mark.parametrize(
    ("method", "expected"), [("top3_mean", 7.0), ("max", 9.0), ("mean", 5.0), ("percentile95", 7.0 + 0.8 * 2.0)]
)
def test_by_hand(method, expected):
    assert subject_scores(SLICES, ["s"] * 5, method)["s"]["a"] == pytest.approx(expected)


def test_subjects_keep_their_order_and_fewer_slices_do():
    rows = [{"a": 1.0, "b": 5.0}, {"a": 2.0}, {"a": 3.0, "b": 7.0}]
    scores = subject_scores(rows, ["late", "early", "late"])
    assert list(scores) == ["late", "early"]
    assert scores == {"late": {"a": 2.0, "b": 6.0}, "early": {"a": 2.0}}  # an absent score is absent


def test_the_order_of_slices_plays_no_part():
    assert subject_scores(SLICES[::-1], ["s"] * 5) == subject_scores(SLICES, ["s"] * 5)
    assert from_fusion is subject_scores


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="method"):
        subject_scores(SLICES, ["s"] * 5, "median")
    with pytest.raises(InputError, match="subjects"):
        subject_scores(SLICES, ["s"] * 4)
    with pytest.raises(InputError, match="score a"):
        subject_scores([{"a": np.nan}], ["s"])
