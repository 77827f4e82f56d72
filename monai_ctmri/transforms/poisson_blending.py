"""Seamless blending: the gradients of one picture inside a patch of another, without a seam at its border."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

__all__ = ["poisson_blend"]


def poisson_blend(target: Any, source: Any, mask: Any, alpha: Any = 1.0) -> np.ndarray:
    """Blend ``source`` into ``target`` inside ``mask`` by Poisson's equation.

    The result ``f`` solves ``div grad f = div ((1 - alpha) grad target + alpha grad source)`` inside the mask and
    equals ``target`` outside (Perez, Gangnet and Blake, "Poisson image editing", SIGGRAPH 2003; with the interpolated
    gradient it is the Poisson image interpolation of Tan et al., "Detecting outliers with Poisson image
    interpolation", MICCAI 2021). The interpolation is linear, not the larger of the two gradients, so that a picture
    blended with itself stays what it is for every ``alpha``.

    Writing ``f = target + alpha (source - target + w)``, what is left to solve is Laplace's equation for ``w`` with
    ``w = target - source`` around the mask (5-point stencil). It is the smooth part alone: a constant offset of the
    source cancels exactly.

    Args:
        target: pictures (..., H, W).
        source: pictures of the same shape.
        mask: boolean (H, W), at least one pixel off the frame, so that a border is known all around.
        alpha: share of the source in [0, 1], a number or an array that broadcasts against ``target``.

    Returns:
        float64 array of the shape of ``target``; it is not clipped.

    Raises:
        ValueError: when the shapes differ or the mask touches the frame.
    """
    target, source = np.asarray(target, dtype=np.float64), np.asarray(source, dtype=np.float64)
    inside = np.asarray(mask, dtype=bool)
    if target.shape != source.shape or target.shape[-2:] != inside.shape:
        raise ValueError(f"target {target.shape}, source {source.shape} and mask {inside.shape} do not fit together.")
    if inside[[0, -1]].any() or inside[:, [0, -1]].any():
        raise ValueError("mask must stay one pixel off the frame, got one that touches it.")
    if not inside.any():
        return target.copy()
    change = np.zeros_like(target)
    gap = (target - source).reshape(-1, *inside.shape)
    change[..., inside] = (_membrane(gap, inside) - gap[:, inside]).reshape(*target.shape[:-2], -1)
    return target + np.asarray(alpha) * change


def _membrane(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Solve Laplace's equation inside, with ``values`` (N, H, W) given around; (N, number of pixels inside)."""
    count = np.count_nonzero(inside)
    index = np.cumsum(inside).reshape(inside.shape) - 1
    given = np.where(inside, 0.0, values)
    around = np.zeros_like(given)
    links: list[np.ndarray] = []
    for axis in (0, 1):
        low, high = [slice(None)] * 2, [slice(None)] * 2
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        first, second = (low[0], low[1]), (high[0], high[1])
        around[:, first[0], first[1]] += given[:, second[0], second[1]]
        around[:, second[0], second[1]] += given[:, first[0], first[1]]
        both = inside[first] & inside[second]
        links += [index[first][both], index[second][both]]
    row = np.concatenate(links)
    column = np.concatenate([links[place] for place in (1, 0, 3, 2)])
    neighbours = sparse.csc_matrix((np.ones(len(row)), (row, column)), (count, count))
    stencil = (sparse.identity(count, format="csc") * 4.0 - neighbours).tocsc()
    # One factorisation serves every channel, and for patches of some thousand pixels it is as fast as conjugate
    # gradients while exact.
    solver = linalg.splu(stencil, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return solver.solve(around[:, inside].T).T
