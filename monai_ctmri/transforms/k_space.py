"""Physics of MRI on one slice: what moves, pulsates or sparks while k-space is filled line by line.

Pictures are magnitudes (H, W); k-space is their centred two-dimensional Fourier transform. Phase is encoded along
axis 0 (one line of k-space is one row of it) unless a function says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.transforms import KSpaceSpikeNoise, RandBiasField
from scipy import ndimage

__all__ = ["Pose", "bias_field", "from_k_space", "ghosts", "move", "moved_k_space", "spike", "to_k_space"]

Pose = tuple[float, float, float]
"""Rotation in degrees, and shift along rows and columns in pixels."""


def to_k_space(image: np.ndarray) -> np.ndarray:
    """Centred k-space, complex (H, W), of a picture (H, W)."""
    return np.fft.fftshift(np.fft.fft2(image))


def from_k_space(k_space: np.ndarray) -> np.ndarray:
    """Complex picture (H, W) of a centred k-space (H, W)."""
    return np.fft.ifft2(np.fft.ifftshift(k_space))


def move(image: np.ndarray, pose: Pose, fill: float = 0.0, order: int = 3) -> np.ndarray:
    """Turn a picture about its middle and shift it.

    Args:
        image: picture (H, W).
        pose: degrees (rows turn towards columns), then how far every point moves along rows and columns, pixels.
        fill: value of what comes in from outside.
        order: of the spline.

    Returns:
        Picture (H, W), not beyond the range of ``image`` and ``fill``.
    """
    angle = np.deg2rad(pose[0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(image.shape) - 1) / 2
    # ndimage asks where each point of the result comes from: the inverse motion.
    offset = middle - turn.T @ (middle + np.array(pose[1:]))
    moved = ndimage.affine_transform(image, turn.T, offset, order=order, mode="constant", cval=fill)
    return np.clip(moved, min(float(image.min()), fill), max(float(image.max()), fill))


def moved_k_space(image: np.ndarray, poses: Sequence[Pose], starts: Sequence[int]) -> np.ndarray:
    """Fill k-space while the head moves: each stretch of lines sees the head in a pose of its own.

    After Shaw et al., Proc MIDL (PMLR 102), 2019; Zaitsev et al., J Magn Reson Imaging 42(4), 2015. The stretch that
    holds the middle of k-space keeps the head where it was, so that the picture is blurred, not displaced.

    Args:
        image: picture (H, W).
        poses: a pose for each stretch, used for all but the one with the middle line.
        starts: first line of each stretch, rising, the first 0.

    Returns:
        K-space (H, W), complex.
    """
    lines = image.shape[0]
    whole = to_k_space(image)
    for pose, start, end in zip(poses, starts, [*starts[1:], lines], strict=True):
        if not start <= lines // 2 < end:
            whole[start:end] = to_k_space(move(image, pose))[start:end]
    return whole


def ghosts(image: np.ndarray, shift_px: float, amplitude: float, phase: float = 0.0) -> np.ndarray:
    """Modulate k-space periodically, as breath, pulse and flow do: a ghost on either side of the picture.

    ``k(y) (1 + 2 g cos(2 pi y shift / H + phase))`` gives ``f(y) + g (e^{i phase} f(y - shift) + e^{-i phase}
    f(y + shift))``; ghosts that leave the field of view come back on the other side. After Wood and Henkelman, Med Phys
    12(2), 1985.

    Args:
        image: picture (H, W).
        shift_px: distance of the ghosts along rows.
        amplitude: ``g``, the strength of each relative to the picture.
        phase: radians.

    Returns:
        Magnitude (H, W).
    """
    line = np.arange(image.shape[0]) - image.shape[0] // 2
    factor = 1.0 + 2.0 * amplitude * np.cos(2 * np.pi * line * shift_px / image.shape[0] + phase)
    return np.abs(from_k_space(to_k_space(image) * factor[:, None]))


def spike(image: np.ndarray, at: tuple[int, int], amplitude: float) -> np.ndarray:
    """Put one wrong sample into k-space: stripes across the whole picture (herringbone), by MONAI's spike noise.

    Args:
        image: picture (H, W).
        at: row and column in k-space relative to its middle, not (0, 0).
        amplitude: height of the stripes in units of the picture.

    Returns:
        Picture (H, W); the stripes are ``amplitude cos(2 pi (row y / H + column x / W) + phase of the sample)``.
    """
    place = tuple(int(half + step) for half, step in zip((n // 2 for n in image.shape), at, strict=True))
    # The transform sets the magnitude of the sample; one sample of magnitude H W is a wave of height 1.
    sample = abs(complex(to_k_space(image)[place]))
    noisy = KSpaceSpikeNoise((0, *place), float(np.log(amplitude * image.size + sample)))(image[None])
    return np.asarray(noisy, dtype=np.float64)[0]


def bias_field(random: np.random.RandomState, head: np.ndarray, strength: float, degree: int = 3) -> np.ndarray:
    """Draw the sensitivity of a coil: MONAI's random bias field (exp of a polynomial), scaled to a stated strength.

    After Van Leemput et al., IEEE Trans Med Imaging 18(10), 1999.

    Args:
        random: source of the field.
        head: boolean (H, W), where the strength holds.
        strength: the brightest part of ``head`` (97.5th percentile) gets ``1 + strength`` times the field's middle
            value, the darkest (2.5th) one over that.
        degree: of the polynomial.

    Returns:
        Factor (H, W), positive.
    """
    maker = RandBiasField(degree, (-1.0, 1.0), np.float64, prob=1.0)
    maker.set_random_state(state=random)
    field = np.log(np.asarray(maker(np.ones((1, *head.shape))), dtype=np.float64)[0])
    low, high = np.percentile(field[head], (2.5, 97.5))
    return np.exp((field - (low + high) / 2) * 2 * np.log1p(strength) / max(high - low, 1e-9))
