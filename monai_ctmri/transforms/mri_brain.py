"""The intracranial region of an MRI slice, found by the dark ring that the skull draws around it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..data.looking.outline import brightness, find_head, rays

__all__ = ["inside_dark_ring"]

_RAYS = 180
_STEP = 0.005
_DEPTH = 0.5
_SHALLOWEST, _DEEPEST = 0.04, 0.36
_NEAR, _FAR = 0.03, 0.14
_SMOOTHING = 0.01
_BRIGHTEST = 1.1
_BRAIN_LIKE, _DARK_COST = 0.8, 0.5
_NEIGHBOURS = 4
_STEEPEST = 3
_BEND = 0.02
_LEAST_EDGE = 0.2
_RIM_SHARE = 0.35


def inside_dark_ring(mri: np.ndarray) -> np.ndarray:
    """Find what the skull encloses in an MRI slice of any contrast.

    The skull's cortical bone is dark in T1, T2, PD and FLAIR alike. Along 180 rays from the head's outline inwards,
    each depth gets how much brighter the brain-ward side is (mean of the next 3 % and of the next 14 % of the head's
    radius, relative to the brain's median and cut at 110 % of it, so that bright scalp does not draw) than the last 3
    %. An edge with another dark layer within the next 14 % (scalp, with the skull behind) loses half of what that
    layer lacks to 80 % of the brain. The closed path of depths with the largest sum, less a cost for each bend, is
    found by dynamic programming (Timp S, Karssemeijer N. A new 2D segmentation method based on dynamic programming
    applied to computer aided detection in mammography. Med Phys 2004;31:958-971) between 4 % and 36 % of the radius.
    It may move 1.5 % of the radius from ray to ray, which follows the brain where it is not round.

    Where fluid is dark (T1, FLAIR) it cannot be told from bone, and the path runs on the cortex, within the dura.
    Below the skull base no path is right; nothing here notices.

    Args:
        mri: slice (H, W), finite, in any unit that grows with brightness.

    Returns:
        bool (H, W); empty where there is no head, where the path's mean edge is under 20 % of the brain's brightness,
        or where over 35 % of it lies at the least depth: it then follows the scalp.
    """
    nothing = np.zeros(mri.shape, dtype=bool)
    head = find_head(brightness(mri, windowed=True, modality="mri"))
    if head is None:
        return nothing
    steps = round(_DEPTH / _STEP)
    grid = np.mgrid[: head.mask.shape[0], : head.mask.shape[1]].astype(np.float32)
    scale = np.array(mri.shape) / np.array(head.mask.shape)
    along = np.stack([rays(head, axis, _RAYS, _DEPTH, steps) for axis in grid])
    points = (along + 0.5) * scale[:, None, None] - 0.5  # from the small picture's pixels to the slice's own
    smooth = ndimage.gaussian_filter(mri.astype(np.float32), _SMOOTHING * head.radius * scale)
    edge = _edges(ndimage.map_coordinates(smooth, points, order=1, mode="nearest"))
    path = _closed_path(edge)
    every = np.arange(_RAYS)
    on_rim = path * _STEP <= _SHALLOWEST + 2 * _STEP
    if edge[every, path].mean() < _LEAST_EDGE or on_rim.mean() > _RIM_SHARE:
        return nothing
    from skimage.draw import polygon2mask

    return polygon2mask(mri.shape, points[:, every, path].T)


def _edges(profiles: np.ndarray) -> np.ndarray:
    """How much brighter it gets inwards, at each depth of each ray (rays, depths); -1 where no path may run."""
    count = profiles.shape[1]
    brain = max(float(np.median(profiles[:, count // 2 :])), 1e-6)
    grey = np.clip(profiles / brain, 0.0, _BRIGHTEST)
    total = np.pad(np.cumsum(grey, axis=1), ((0, 0), (1, 0)))
    at = np.arange(count)

    def mean(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        begin, end = begin.clip(0, count), end.clip(0, count)
        return (total[:, end] - total[:, begin]) / np.maximum(end - begin, 1)

    near, far = round(_NEAR / _STEP), round(_FAR / _STEP)
    edge = (mean(at, at + near) + mean(at, at + far)) / 2 - mean(at - near, at)
    # Averaged over neighbouring rays and depths the skull stays dark; sulci do not.
    layers = ndimage.uniform_filter1d(grey, 2 * _NEIGHBOURS + 1, axis=0, mode="wrap")
    layers = ndimage.uniform_filter1d(layers, near - 1, axis=1)
    behind = layers[:, (at[:, None] + np.arange(near // 2, far)).clip(0, count - 1)].min(axis=2)
    edge = edge - _DARK_COST * np.clip(_BRAIN_LIKE - behind, 0.0, None)
    depth = at * _STEP
    edge[:, (depth < _SHALLOWEST - 1e-9) | (depth > _DEEPEST + 1e-9)] = -1.0
    return edge


def _closed_path(gain: np.ndarray) -> np.ndarray:
    """Index along each ray (rays, depths) of the path of largest gain; it ends where it begins, nearly.

    The rays are run through twice and the middle is kept, where both ends no longer matter.
    """
    count, steps = gain.shape
    around = np.concatenate([gain, gain])
    moves = np.arange(-_STEEPEST, _STEEPEST + 1)
    sources = np.arange(steps) + moves[:, None]
    possible = (sources >= 0) & (sources < steps)
    sources = sources.clip(0, steps - 1)
    cost = _BEND * np.abs(moves)[:, None]
    best, came = around[0], np.zeros(around.shape, dtype=np.intp)
    for ray in range(1, len(around)):
        options = np.where(possible, best[sources] - cost, -np.inf)
        pick = options.argmax(axis=0)
        came[ray] = np.arange(steps) + moves[pick]
        best = options[pick, np.arange(steps)] + around[ray]
    path = np.empty(len(around), dtype=np.intp)
    path[-1] = int(best.argmax())
    for ray in range(len(around) - 1, 0, -1):
        path[ray - 1] = came[ray, path[ray]]
    half = count // 2
    return np.roll(path[half : half + count], half)
