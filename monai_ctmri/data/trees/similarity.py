"""Do the pictures of a supposed pair share more than pictures of strangers do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["GRID", "PairingEvidence", "mutual_information", "pairing_evidence"]

GRID = 64
"""Pixels a side of the common grid that pictures are brought to before they are compared."""

_BINS = 32  # 4096 pixels fill 32 x 32 cells; the 100 x 100 cells that scikit-image proposes would stay mostly empty
_STRANGERS = 8  # re-paired partners a pair is compared with
_SIMILAR_SHARE = 1 / 3  # strangers come from this share of the set, the nearest in head size
_DRAWS = 9999  # so that the smallest p-value is 1e-4


@dataclass(frozen=True, slots=True)
class PairingEvidence:
    """What the content says about a set of candidate pairs.

    Attributes:
        p_value: one-sided, that re-paired strangers share as much as the candidates do; 1 where nothing was compared.
        own: mean normalised mutual information of the candidates, in [1, 2].
        strangers: mean normalised mutual information of re-paired strangers, in [1, 2].
        n: candidate pairs compared.
        wins: share of comparisons, in [0, 1], in which a candidate shares more than the stranger; .5 is chance.
    """

    p_value: float
    own: float
    strangers: float
    n: int
    wins: float = 0.5


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Return the normalised mutual information ``(H(a) + H(b)) / H(a, b)`` of two pictures.

    Both are brought to 64 x 64 pixels first, so they may differ in size.

    Args:
        a: (H, W), any finite values.
        b: (H', W'), any finite values.

    Returns:
        From 1 (nothing shared; also when a picture is constant) to 2 (each tells the other).

    Source:
        Studholme, Hill, Hawkes: An overlap invariant entropy measure of 3D medical image alignment. Pattern
        Recognition 32 (1999) 71-86, in the form of ``skimage.metrics.normalized_mutual_information``.
    """
    return _shared(_on_grid(a), _on_grid(b))


def pairing_evidence(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0, sample: int = 64
) -> PairingEvidence:
    """Compare candidate pairs with re-paired strangers of the same set by a permutation test.

    Slices of one level resemble each other whoever they show, so a stranger has to be of a similar level to count: of
    each candidate's possible partners, the third whose head fills most nearly the same area is kept, and eight of those
    are drawn at random. Were the partner no more than one of them, it would be as good as any: the p-value counts how
    often partners drawn at random from partner and strangers together share, on average over the pairs, as much as the
    stated ones do. Neighbouring slices of one patient can be among the strangers; that makes the test harder to pass,
    not easier. Pairs of one patient are not independent, so the p-value is rather a guide than exact.

    Args:
        pairs: candidates, each (CT (H, W), MRI (H, W)); sizes may differ.
        seed: of the sampling; nothing global is touched.
        sample: at most so many candidates are compared, drawn at random.

    Returns:
        The evidence; fewer than two candidates give ``p_value`` 1, since there is no stranger.
    """
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.permutation(len(pairs))[:sample].tolist())
    cts, mris = ([_on_grid(pairs[index][side]) for index in chosen] for side in (0, 1))
    if len(chosen) < 2:
        own = [_shared(ct, mri) for ct, mri in zip(cts, mris, strict=True)]
        return PairingEvidence(1.0, float(np.mean(own)) if own else 1.0, 1.0, len(chosen))
    sizes = np.array([_head_share(mri) for mri in mris])
    count = min(_STRANGERS, max(1, round((len(chosen) - 1) * _SIMILAR_SHARE)))
    shared = np.empty((len(chosen), 1 + count))
    for row, (ct, mri) in enumerate(zip(cts, mris, strict=True)):
        others = np.delete(np.arange(len(chosen)), row)
        nearest = others[np.argsort(np.abs(sizes[others] - sizes[row]), kind="stable")]
        pool = nearest[: max(count, round(len(others) * _SIMILAR_SHARE))]
        strangers = rng.choice(pool, size=count, replace=False)
        shared[row] = [_shared(ct, mri), *(_shared(ct, mris[other]) for other in strangers)]
    drawn = rng.integers(0, 1 + count, size=(_DRAWS, len(chosen)))
    chance = shared[np.arange(len(chosen)), drawn].mean(axis=1)
    # The slack keeps rounding in the mean from telling equal sums apart.
    at_least = int(np.count_nonzero(chance >= shared[:, 0].mean() - 1e-12))
    won = (shared[:, :1] > shared[:, 1:]).mean() + 0.5 * (shared[:, :1] == shared[:, 1:]).mean()
    return PairingEvidence(
        p_value=(1 + at_least) / (1 + _DRAWS),
        own=float(shared[:, 0].mean()),
        strangers=float(shared[:, 1:].mean()),
        n=len(chosen),
        wins=float(won),
    )


def _on_grid(plane: np.ndarray) -> np.ndarray:
    from PIL import Image

    plane = np.asarray(plane, dtype=np.float32)
    if plane.shape == (GRID, GRID):
        return plane
    # BOX averages what falls into a pixel, so that a large picture is smoothed and not merely thinned out.
    return np.asarray(Image.fromarray(plane).resize((GRID, GRID), Image.Resampling.BOX))


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    from skimage.metrics import normalized_mutual_information

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 1.0
    return float(normalized_mutual_information(a, b, bins=_BINS))


def _head_share(plane: np.ndarray) -> float:
    """Return the share of a picture that is brighter than a tenth of its bright parts: roughly the head's area."""
    low, high = np.percentile(plane, (1, 99))
    return float(np.mean(plane > low + 0.1 * (high - low)))
