"""Options that are intervals to draw from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import InputError

__all__ = ["Range", "interval"]

Range = tuple[float, float]


def interval(name: str, value: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Range:
    """Check an option (low, high) and return it as floats.

    Raises:
        InputError: unless ``least <= low <= high <= most``.
    """
    if len(value) != 2 or not least <= value[0] <= value[1] <= most:
        raise InputError.about(name, f"got {value}", f"give (low, high) with {least:g} <= low <= high <= {most:g}")
    return float(value[0]), float(value[1])
