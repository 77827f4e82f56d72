"""Where the mid-sagittal line of a slice, or plane of a volume, lies: the mirror that changes a head least.

A healthy head is nearly its own mirror image; a one-sided lesion is not. The mirror is searched in two steps: the
mirror correlation of head mask and image over rotation and, by Fourier transform, every shift (the symmetry-plane
criterion of Ardekani et al., IEEE Trans Med Imaging 16(6), 1997), then a robust difference that a lesion, a swelling
or a head holder cannot outvote (in the spirit of the weighted residuals of Prima et al., IEEE Trans Med Imaging 21(2),
2002).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.fft import irfft, rfft
from scipy import ndimage, optimize

from .mask_geometry import largest_component

__all__ = ["MAX_ANGLE_DEGREES", "MAX_SHIFT_SHARE", "Midline", "Midplane", "find_midline", "find_midplane"]

MAX_ANGLE_DEGREES = 15.0
"""Largest rotation that is searched."""
MAX_SHIFT_SHARE = 0.12
"""Largest shift across the midline that is searched, as a share of the width."""

_WORKING_SIZE = {2: 128, 3: 64}
"""Voxels along the longest side while searching: about 2 mm in a slice, 4 mm in a volume."""
_ANGLE_STEP = {2: 2.5, 3: 5.0}
_SMOOTHING = 0.01
_NEIGHBOURHOOD = 0.06
_HEAD_THRESHOLD = 0.1
_MASK_WEIGHT, _IMAGE_WEIGHT = 0.3, 1.0
_ROBUST_SCALE = 0.5
_RIM = 0.05


class Midline(NamedTuple):
    """Mid-sagittal line of a slice.

    Attributes:
        angle: degrees by which the content has to turn counter-clockwise about the image centre to stand upright.
        shift: columns by which it then has to move right for the line to be the centre column.
        confidence: in [0, 1].
    """

    angle: float
    shift: float
    confidence: float


class Midplane(NamedTuple):
    """Mid-sagittal plane of a volume, ``normal · p = offset_mm`` in the world coordinates (mm) of its affine.

    Attributes:
        normal: unit vector towards positive x.
        offset_mm: signed distance of the plane from the world's origin.
        confidence: in [0, 1].
    """

    normal: tuple[float, float, float]
    offset_mm: float
    confidence: float


class _Mirror(NamedTuple):
    """A mirror in a grid: unit normal, distance from the grid's centre in voxels, confidence."""

    normal: np.ndarray
    offset: float
    confidence: float


def find_midline(image: np.ndarray) -> Midline:
    """Find the rotation and shift that bring the mid-sagittal line onto the centre column.

    Args:
        image: slice (C, H, W), any scale, background lowest; every channel that is not constant counts the same.

    Returns:
        The line, its angle within ``±MAX_ANGLE_DEGREES`` and its shift within ``±MAX_SHIFT_SHARE`` of the width. A
        constant image gives (0, 0, 0).
    """
    channels = np.asarray(image, dtype=np.float32)
    factor = max(1.0, max(channels.shape[1:]) / _WORKING_SIZE[2])
    found = _find_mirror(_resampled(channels, (factor,) * 2), (np.array([0.0, 1.0]),))
    angle = math.degrees(math.atan2(found.normal[0], found.normal[1]))
    return Midline(angle, -found.offset * factor, found.confidence)


def find_midplane(volume: np.ndarray, affine: np.ndarray) -> Midplane:
    """Find the mid-sagittal plane of a volume stored in any orientation.

    The plane is searched around the voxel axis that runs nearest to left-right and, where the affine is oblique, around
    the world's sagittal plane too: a head may lie straight in either.

    Args:
        volume: (C, X, Y, Z), any scale, background lowest (CT may be in Hounsfield units).
        affine: (4, 4), voxel -> millimetres, RAS.

    Returns:
        The plane; of a constant volume the central plane of that axis, with confidence 0.
    """
    channels, affine = np.asarray(volume, dtype=np.float32), np.asarray(affine, dtype=np.float64)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / sizes
    lateral = int(np.argmax(np.abs(axes[0])))
    order = [axis for axis in range(3) if axis != lateral] + [lateral]
    extent = sizes * channels.shape[1:]
    step = float(extent.max()) / _WORKING_SIZE[3]
    grid = _resampled(channels, step / sizes).transpose(0, *(1 + axis for axis in order))
    across = np.sign(axes[0, lateral]) * np.linalg.solve(axes, np.array([1.0, 0.0, 0.0]))[order]
    starts = [np.array([0.0, 0.0, 1.0])]
    if math.degrees(math.acos(min(1.0, abs(axes[0, lateral])))) > _ANGLE_STEP[3]:
        starts.append(across / np.linalg.norm(across))
    found = _find_mirror(grid, starts)
    # A mirror is perpendicular to its normal: normals go to the world like gradients, by the inverse transpose.
    stored = np.empty(3)
    stored[order] = found.normal
    normal = np.linalg.solve(axes.T, stored)
    centre = affine[:3, :3] @ ((np.array(channels.shape[1:]) - 1) / 2) + affine[:3, 3]
    length = math.copysign(float(np.linalg.norm(normal)), normal[0])
    normal = normal / length
    offset = float(normal @ centre) + found.offset * step / length
    return Midplane((float(normal[0]), float(normal[1]), float(normal[2])), offset, found.confidence)


def _resampled(channels: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """Channels on a grid of ``steps`` voxels that shares their centre."""
    old = np.array(channels.shape[1:])
    new = np.maximum(1, np.ceil(old / steps - 1e-6)).astype(int)
    start = (old - 1) / 2 - np.asarray(steps) * (new - 1) / 2
    blur = [0.4 * step if step > 1 else 0.0 for step in steps]
    return np.stack(
        [
            ndimage.affine_transform(
                ndimage.gaussian_filter(channel, blur, truncate=2.5) if any(blur) else channel,
                np.asarray(steps, dtype=float), start, output_shape=tuple(new), order=1, mode="nearest",
            )
            for channel in channels
        ]
    )  # fmt: skip


def _scaled(channel: np.ndarray) -> np.ndarray:
    """Range [0, 1]; Hounsfield units through a soft-tissue window, anything else up to its 99.5th percentile."""
    if channel.min() < -300:
        return np.clip((channel + 100) / 250, 0, 1)
    low = channel.min()
    high = np.percentile(channel, 99.5)
    high = high if high > low else channel.max()
    return np.clip((channel - low) / max(float(high - low), 1e-12), 0, 1)


def _head_of(channels: np.ndarray) -> np.ndarray:
    """Largest piece that shows in any channel, without what hangs on it by a thread (a head holder), holes filled."""
    shown = channels.max(axis=0) > _HEAD_THRESHOLD
    rounds = 2 if shown.ndim == 2 else 1
    core = ndimage.binary_dilation(ndimage.binary_erosion(shown, iterations=rounds, border_value=1), iterations=rounds)
    return ndimage.binary_fill_holes(largest_component(core & shown))


def _features(channels: np.ndarray, head: np.ndarray) -> np.ndarray:
    """What mirrors are judged by: the head's mask, and each channel relative to its neighbourhood within the head.

    Relative, so that neither a bias field nor the bright skull outweighs falx and ventricles.
    """
    size = max(head.shape)
    weight = head.astype(np.float32)
    blur, wide = max(_SMOOTHING * size, 0.6), _NEIGHBOURHOOD * size
    share = np.maximum(ndimage.gaussian_filter(weight, wide), 1e-3)
    parts = [ndimage.gaussian_filter(weight, blur)]
    for channel in channels:
        smooth = ndimage.gaussian_filter(channel, blur)
        mean = ndimage.gaussian_filter(channel * weight, wide) / share
        spread = np.sqrt(np.maximum(ndimage.gaussian_filter((smooth - mean) ** 2 * weight, wide) / share, 0.0))
        floor = 0.25 * float(spread[head].mean())
        parts.append(np.clip((smooth - mean) / (spread + floor + 1e-6), -2, 2) * weight)
    return np.stack(parts).astype(np.float32)


def _find_mirror(channels: np.ndarray, starts: Sequence[np.ndarray]) -> _Mirror:
    """Best mirror of (C, ..., lateral) on an isotropic grid, its normal near one of ``starts``."""
    shown = [_scaled(channel) for channel in channels if np.ptp(channel) > 0]
    nowhere = _Mirror(np.asarray(starts[0], dtype=float), 0.0, 0.0)
    if not shown:
        return nowhere
    stack = np.stack(shown)
    head = _head_of(stack)
    if not head.any():
        return nowhere
    features = _features(stack, head)
    reach = MAX_SHIFT_SHARE * head.shape[-1]
    coarse = _coarse(features, starts, reach)
    candidate = max(coarse, key=lambda one: one[0])
    normal, offset = _refined(features, candidate[1], candidate[2], reach)
    return _Mirror(normal, offset, _confidence(features, head, normal, offset))


def _frame(normal: np.ndarray) -> np.ndarray:
    """Rotation that takes the last axis to ``normal`` by the shortest way (columns: where each axis goes)."""
    last = np.zeros(len(normal))
    last[-1] = 1.0
    # Rodrigues for two unit vectors: R = I + K + K^2 / (1 + cos), with K the wedge of the two.
    wedge = np.outer(normal, last) - np.outer(last, normal)
    return np.eye(len(normal)) + wedge + wedge @ wedge / (1 + float(normal @ last))


def _tilted(start: np.ndarray, degrees: Sequence[float] | np.ndarray) -> np.ndarray:
    """``start`` tilted by angles towards the other axes."""
    slopes = np.append(np.tan(np.deg2rad(degrees)), 1.0)
    normal = _frame(start) @ slopes
    return normal / np.linalg.norm(normal)


def _coarse(features: np.ndarray, starts: Sequence[np.ndarray], reach: float) -> list[tuple[float, np.ndarray, float]]:
    """(correlation, normal, offset) of the best shift for each rotation of a regular grid."""
    dims = features.ndim - 1
    step = _ANGLE_STEP[dims]
    # Every second voxel of a volume is enough for a first guess, and eight times faster.
    stride = 2 if dims == 3 else 1
    thinned = (slice(None), *[slice(None, None, stride)] * dims)
    features, reach = features[thinned], reach / stride
    angles = np.arange(-MAX_ANGLE_DEGREES, MAX_ANGLE_DEGREES + 0.1, step)
    centre = (np.array(features.shape[1:]) - 1) / 2
    weights = _weights(features)
    found = []
    for start in starts:
        for tilt in product(angles, repeat=dims - 1):
            normal = _tilted(start, tilt)
            turn = _frame(normal)
            turned = np.stack(
                [ndimage.affine_transform(one, turn, centre - turn @ centre, order=1) for one in features]
            )
            value, offset = _best_shift(turned, weights, reach)
            found.append((value, normal, offset * stride))
    return found


def _weights(features: np.ndarray) -> np.ndarray:
    images = len(features) - 1
    return np.array([_MASK_WEIGHT] + [_IMAGE_WEIGHT / images] * images)


def _best_shift(turned: np.ndarray, weights: np.ndarray, reach: float) -> tuple[float, float]:
    """Largest weighted mirror correlation about a plane across the last axis, and its distance from the centre."""
    width = turned.shape[-1]
    flat = turned.reshape(len(turned), -1, width)
    # sum over c of x(c) x(k - c): the mirror correlation about column k / 2, for every k at once
    products = irfft((rfft(flat, 2 * width, axis=-1) ** 2).sum(axis=1), 2 * width, axis=-1)
    energy = np.maximum((flat**2).sum(axis=(1, 2)), 1e-12)
    total = (weights[:, None] * products / energy[:, None]).sum(axis=0) / weights.sum()
    middle, far = width - 1, int(2 * reach)
    window = total[middle - far : middle + far + 1]
    index = int(np.argmax(window))
    return float(window[index]), (index - far) / 2


def _refined(features: np.ndarray, start: np.ndarray, offset: float, reach: float) -> tuple[np.ndarray, float]:
    """Normal and offset of the best mirror near a first guess."""
    image = torch.from_numpy(features)[None]
    size = torch.tensor(features.shape[:0:-1], dtype=torch.float32)  # grid_sample wants the last axis first
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in features.shape[1:-1]]
    half = torch.arange(features.shape[-1] // 2 + 1, dtype=torch.float32) + 0.25
    along = torch.stack([part.ravel() for part in torch.meshgrid(*axes, half, indexing="ij")], dim=-1)
    flip = torch.ones(along.shape[-1])
    flip[-1] = -1
    weights = torch.as_tensor(_weights(features), dtype=torch.float32)[:, None]
    shape = (1,) * (features.ndim - 1)

    def sampled(points: torch.Tensor) -> torch.Tensor:
        grid = (points.flip(-1) * 2 / (size - 1)).reshape(1, *shape[1:], -1, features.ndim - 1)
        return F.grid_sample(image, grid, align_corners=True).reshape(len(features), -1)

    def cost(parameters: np.ndarray) -> float:
        normal = _tilted(start, parameters[:-1])
        turn = torch.from_numpy(_frame(normal).astype(np.float32))
        centre = torch.from_numpy((normal * parameters[-1]).astype(np.float32))
        right, left = sampled(along @ turn.T + centre), sampled((along * flip) @ turn.T + centre)
        where = torch.maximum(right[0], left[0])
        square = (right - left) ** 2
        robust = square / (square + _ROBUST_SCALE**2)
        return float((weights * robust * where).sum() / where.sum().clamp(min=1e-6))

    dims = features.ndim - 1
    first = np.append(np.zeros(dims - 1), offset)
    steps = np.diag([_ANGLE_STEP[dims] / 2] * (dims - 1) + [1.5])
    simplex = np.vstack([first, first + steps])
    limits = [(-MAX_ANGLE_DEGREES, MAX_ANGLE_DEGREES)] * (dims - 1) + [(-reach, reach)]
    done = optimize.minimize(
        cost, first, method="Nelder-Mead", bounds=limits,
        options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-6, "maxiter": 60 * dims},
    )  # fmt: skip
    return _tilted(start, done.x[:-1]), float(done.x[-1])


def _confidence(features: np.ndarray, head: np.ndarray, normal: np.ndarray, offset: float) -> float:
    """How far the mirror can be trusted, in [0, 1]: the product of three shares.

    How well the structures within the head agree with their mirror image (their correlation, 0.1 to 0.6), how well
    its outline does (Dice, 0.7 to 0.95), and how much of the head's rim lies inside the field of view at the sides.
    """
    centre = (np.array(head.shape) - 1) / 2
    turn = np.eye(len(normal)) - 2 * np.outer(normal, normal)
    start = centre + 2 * normal * offset - turn @ centre
    mirrored = np.stack([ndimage.affine_transform(one, turn, start, order=1) for one in features])
    # The rim of any round thing has a mirror image; what lies deeper in has to have one too.
    deep = _RIM * max(head.shape)
    both = ndimage.distance_transform_edt(np.minimum(features[0], mirrored[0]) > 0.5) > deep
    if not both.any():
        return 0.0
    first, second = features[1:, both], mirrored[1:, both]
    length = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    correlation = float((first * second).sum()) / max(length, 1e-12)
    dice = 2 * float(np.minimum(features[0], mirrored[0]).sum()) / max(float((features[0] + mirrored[0]).sum()), 1e-12)
    # A side that the field of view cuts leaves the head's mask standing against the grid's border.
    sides = [np.take(head, index, axis=-1) for index in (0, -1)]
    extent = max(1, int(head.any(axis=-1).sum()))
    cut = max(int(side.sum()) for side in sides) / extent
    shares = ((correlation - 0.1) / 0.5, (dice - 0.7) / 0.25, 1 - cut / 0.3)
    return float(np.prod([min(1.0, max(0.0, share)) for share in shares]))
