"""Intensities of many images pooled, without holding their pixels: counts of values, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["PERCENTILES", "PooledIntensities"]

PERCENTILES = (1, 5, 25, 75, 95, 99)
_CONSOLIDATE_AT = 1 << 20  # pairs of value and count kept before equal values are joined: 16 MB


class PooledIntensities:
    """Counts of values over images that are measured on one scale.

    Exact where every image's values were counted one by one (8-bit pictures). Where an image comes in bins, each bin
    stands for its centre: percentiles and shares are then good to half a bin of that image; number of pixels, mean,
    standard deviation, minimum and maximum stay exact when they are given.
    """

    def __init__(self) -> None:
        self.images = 0
        self.exact = True
        self._values: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._kept = 0
        self._n = 0
        self._sum = 0.0
        self._squares = 0.0
        self._low, self._high = math.inf, -math.inf

    def add(
        self,
        values: np.ndarray,
        counts: np.ndarray,
        *,
        exact: bool,
        mean: float | None = None,
        std: float | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        """Add one image.

        Args:
            values: (K,) the values that occur, or the centres of bins.
            counts: (K,) how many pixels have them.
            exact: whether ``values`` are the pixels' own.
            mean, std: of the image's pixels; from the counts where left out.
            low, high: smallest and largest value; from the counts where left out.
        """
        counts = np.asarray(counts, dtype=np.int64)
        there = counts > 0
        values, counts = np.asarray(values, dtype=np.float64)[there], counts[there]
        if not counts.size:
            return
        n = int(counts.sum())
        if mean is None or std is None:
            mean = float(values @ counts / n)
            std = math.sqrt(float(((values - mean) ** 2) @ counts / n))
        # Chan, Golub and LeVeque (1983): sums of squares about the mean join without cancellation.
        before, total = (self._sum / self._n if self._n else mean), self._n + n
        self._squares += std**2 * n + (mean - before) ** 2 * self._n * n / total
        self._sum += mean * n
        self._n = total
        self._low = min(self._low, float(values.min()) if low is None else low)
        self._high = max(self._high, float(values.max()) if high is None else high)
        self.images += 1
        self.exact &= exact
        self._values.append(values)
        self._counts.append(counts)
        self._kept += values.size
        if self._kept > _CONSOLIDATE_AT:
            self._consolidate()

    def _consolidate(self) -> None:
        values, where = np.unique(np.concatenate(self._values), return_inverse=True)
        # Weights are summed as floating point, exact up to 2**53 pixels of one value.
        counts = np.bincount(where.ravel(), weights=np.concatenate(self._counts)).astype(np.int64)
        self._values, self._counts, self._kept = [values], [counts], values.size

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values in rising order (K,) and their numbers of pixels (K,); empty when nothing was added."""
        if not self._values:
            return np.empty(0), np.empty(0, dtype=np.int64)
        self._consolidate()
        return self._values[0], self._counts[0]

    def share_at_most(self, value: float) -> float:
        """Share of pixels at or below ``value``, in [0, 1]; 0 when nothing was added."""
        values, counts = self.counts()
        return float(counts[values <= value].sum() / self._n) if self._n else 0.0

    def percentiles(self, wanted: tuple[float, ...]) -> list[float]:
        """Percentiles as ``numpy.percentile`` gives them on all pixels (linear between neighbouring ranks)."""
        values, counts = self.counts()
        ranks = np.asarray(wanted, dtype=np.float64) / 100 * (self._n - 1)
        lower = np.floor(ranks)
        ends = np.cumsum(counts)
        below = values[np.searchsorted(ends, lower, side="right")]
        above = values[np.searchsorted(ends, np.ceil(ranks), side="right")]
        return [float(one) for one in below + (ranks - lower) * (above - below)]

    def statistics(self) -> dict[str, Any]:
        """Return ``images``, ``pixels``, ``exact``, ``mean``, ``std`` (of the population), ``min``, ``max``,
        ``median``, ``percentiles`` (``p1`` ... ``p99``) and ``share_zero`` (None when bins cannot tell zero from its
        neighbours).

        Raises:
            ValueError: when no image was added.
        """
        if not self._n:
            raise ValueError("no image was added")
        values, counts = self.counts()
        median, *others = self.percentiles((50, *PERCENTILES))
        return {
            "images": self.images,
            "pixels": self._n,
            "exact": bool(self.exact),
            "mean": self._sum / self._n,
            "std": math.sqrt(max(self._squares, 0.0) / self._n),
            "min": self._low,
            "max": self._high,
            "median": median,
            "percentiles": {f"p{name}": value for name, value in zip(PERCENTILES, others, strict=True)},
            "share_zero": float(counts[values == 0].sum() / self._n) if self.exact else None,
        }
