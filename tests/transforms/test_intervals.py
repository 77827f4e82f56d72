"""Intervals of options."""

from __future__ import annotations

import pytest

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.intervals import interval


@pytest.mark.parametrize("value", [(0, 1), [0.0, 1.0], (0.5, 0.5)])
def test_interval_in_order_becomes_floats(value):
    low, high = interval("std", value, 0.0, 1.0)
    assert (low, high) == tuple(value)
    assert isinstance(low, float)
    assert isinstance(high, float)


@pytest.mark.parametrize("value", [(1, 0), (-0.1, 1), (0, 1.1), (0, float("nan")), (0,), (0, 0, 1)])
def test_anything_else_is_refused_in_one_line(value):
    with pytest.raises(InputError, match="std: got") as caught:
        interval("std", value, 0.0, 1.0)
    assert "\n" not in str(caught.value)
