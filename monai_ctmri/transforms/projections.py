"""Physics of CT on one slice: line integrals, what goes wrong with them, and how that looks after reconstruction.

Filtered back-projection is linear, so an error of the projections makes the same change in any picture: only the error
is reconstructed, never the slice, which keeps its own texture. Geometry is parallel over 180 degrees and a channel of
the detector is one pixel wide. Pictures are (H, W), projections (channels, views); a line integral has no unit.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.transform import iradon, radon

__all__ = [
    "WATER_PER_MM",
    "attenuation",
    "disc_integrals",
    "dose_noise",
    "line_integrals",
    "reconstruct",
    "ring_profile",
    "streak_error",
]

WATER_PER_MM = 0.0193
"""Linear attenuation of water at 70 keV, per mm (NIST tables of X-ray mass attenuation, 0.193 per cm)."""

_COARSE = 128
_ELECTRONIC_VARIANCE = 10.0
_STARVATION = 1.5


def attenuation(hounsfield: np.ndarray) -> np.ndarray:
    """Linear attenuation per mm, at least 0, of a picture in HU."""
    return np.maximum(WATER_PER_MM * (1.0 + hounsfield / 1000.0), 0.0)


def line_integrals(density: np.ndarray, spacing_mm: float, views: int = 180) -> np.ndarray:
    """Project a picture: its sum along parallel lines, in mm.

    It is projected at no more than 128 pixels a side: the cost is that of ``views`` rotations, and what is used of the
    result, noise levels and paths through bone, is smooth at that scale.

    Args:
        density: picture (H, W), per mm.
        spacing_mm: size of a pixel.
        views: directions, evenly over 180 degrees.

    Returns:
        Array (channels, views) as :func:`reconstruct` takes it for this picture.
    """
    side = max(density.shape)
    coarse = min(side, _COARSE)
    step = side / coarse
    smooth = ndimage.gaussian_filter(density, 0.4 * step) if step > 1 else density
    # The centre of rotation, pixel size // 2, must stay where it is.
    offset = [size // 2 - step * (coarse // 2) for size in density.shape]
    square = ndimage.affine_transform(smooth, [step, step], offset, (coarse, coarse), order=1)
    found = radon(square, _angles(views), circle=False) * spacing_mm * step
    where = _channels(side) / step + len(found) // 2
    return np.stack([np.interp(where, np.arange(len(found)), view, 0.0, 0.0) for view in found.T], axis=1)


def disc_integrals(
    shape: tuple[int, int], centre: tuple[float, float], radius_mm: float, spacing_mm: float, views: int = 180
) -> np.ndarray:
    """Length of every line within a disc, mm: the exact projection, (channels, views), of a disc of density 1.

    Args:
        shape: (H, W) of the picture.
        centre: row and column of the disc, pixels.
        radius_mm: its radius; at least one channel is hit however small it is.
        spacing_mm: size of a pixel.
        views: directions.
    """
    angles = np.deg2rad(_angles(views))
    row, column = centre[0] - shape[0] // 2, centre[1] - shape[1] // 2
    away = (_channels(max(shape))[:, None] - (column * np.cos(angles) - row * np.sin(angles))[None]) * spacing_mm
    radius = max(radius_mm, 0.75 * spacing_mm)
    return 2.0 * np.sqrt(np.maximum(radius**2 - away**2, 0.0))


def reconstruct(projections: np.ndarray, shape: tuple[int, int], spacing_mm: float, window: str = "hann") -> np.ndarray:
    """Filtered back-projection of line integrals.

    Args:
        projections: line integrals (channels, views).
        shape: (H, W) of the result.
        spacing_mm: size of a pixel.
        window: name of a filter of :func:`skimage.transform.iradon`; ``"hann"`` stands for a soft-tissue kernel.

    Returns:
        Picture (H, W) in HU above -1000, that is, 1000 times the attenuation over that of water.
    """
    side = max(shape)
    picture = iradon(projections, _angles(projections.shape[1]), side, window, circle=False)
    first = [side // 2 - size // 2 for size in shape]
    cut = picture[first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]
    return cut * (1000.0 / (WATER_PER_MM * spacing_mm))


def streak_error(random: np.random.RandomState, metal: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Error of the projections through metal.

    A beam of many energies is attenuated by ``-ln E[exp(-mu L)] = E[mu] L - Var[mu] L^2 / 2 + ...``: what a
    reconstruction that believes in one energy misses grows with the square of the path through matter whose
    attenuation depends on energy. For metal behind bone that is ``(m + b)^2 - b^2`` (bone alone is corrected by every
    scanner). Few photons come through metal, hence noise of a standard deviation that grows with ``m``. After
    De Man et al., IEEE Trans Nucl Sci 46(3), 1999, and Barrett and Keat, RadioGraphics 24(6), 2004.

    Args:
        random: source of the noise.
        metal: paths through metal, (channels, views), as a share of the longest.
        bone: the same through bone.

    Returns:
        Error (channels, views) in a unit of its own.
    """
    noise = ndimage.gaussian_filter(random.standard_normal(metal.shape), (0.8, 3.0))
    # Starved rays fail one by one: few are far off, most are nearly right.
    noise = np.sign(noise) * np.abs(noise) ** 2
    noise /= max(float(noise.std()), 1e-12)
    return -((metal + bone) ** 2 - bone**2) + _STARVATION * metal * noise


def dose_noise(
    random: np.random.RandomState, integrals: np.ndarray, at: np.ndarray, noise_hu: float, spacing_mm: float
) -> tuple[np.ndarray, float]:
    """Noise of line integrals at a dose that makes a wished noise in the picture.

    ``I ~ Poisson(I0 exp(-p)) + N(0, 10)`` photons a ray (Beer-Lambert, quantum noise and that of the electronics:
    Zeng et al., IEEE Trans Nucl Sci 62(5), 2015); the noise of ``p`` is ``-ln(I / I0) - p``. The flux ``I0`` follows
    from the variance of a filtered back-projection, ``(pi / views)^2 G sum_views var(p)`` with
    ``G = mean over f of (f W(f))^2 (2 + cos 2 pi f) / 3`` for the ramp, the Hann window and linear interpolation.

    Args:
        random: source of the noise.
        integrals: line integrals ``p`` of the slice, (channels, views).
        at: rows and columns, (n, 2), relative to the centre of rotation, where ``noise_hu`` is meant as the mean.
        noise_hu: standard deviation of the noise to add, HU.
        spacing_mm: size of a pixel.

    Returns:
        Noise (channels, views) for :func:`reconstruct` with the Hann window, and ``I0``, photons a ray.
    """
    channels, views = integrals.shape
    angles = np.deg2rad(_angles(views))
    hit = at[:, 1:] * np.cos(angles) - at[:, :1] * np.sin(angles) + channels // 2
    seen = integrals[np.clip(np.rint(hit), 0, channels - 1).astype(int), np.arange(views)]
    f = np.linspace(0.0, 0.5, 512)
    window = 0.5 + 0.5 * np.cos(2 * np.pi * f)
    gain = float(np.mean((f * window) ** 2 * (2 + np.cos(2 * np.pi * f)) / 3))
    factor = (np.pi / views) ** 2 * gain * (1000.0 / (WATER_PER_MM * spacing_mm)) ** 2 * views
    quantum = factor * float(np.mean(np.exp(seen)))
    electronic = factor * _ELECTRONIC_VARIANCE * float(np.mean(np.exp(2 * seen)))
    # noise^2 = quantum / I0 + electronic / I0^2
    flux = (quantum + np.sqrt(quantum**2 + 4 * noise_hu**2 * electronic)) / (2 * noise_hu**2)
    counts = random.poisson(flux * np.exp(-integrals)) + np.sqrt(_ELECTRONIC_VARIANCE) * random.standard_normal(
        integrals.shape
    )
    return -np.log(np.maximum(counts, 1.0) / flux) - integrals, float(flux)


def ring_profile(radii_px: np.ndarray, channel_px: float, width_px: float) -> np.ndarray:
    """What a channel with a wrong gain makes of a picture, along a radius: a thin ring with a dark or bright rim.

    The wrong gain adds the same error in every view: a Gaussian of standard deviation ``width_px`` about
    ``channel_px`` (and about ``-channel_px``, half a turn later). Its filtered back-projection has the symmetry of a
    circle, so one radius is enough: ``f(r) = mean over angles of q(r cos a)``, ``q`` the ramp-filtered error.

    Args:
        radii_px: distances from the centre of rotation, (n,).
        channel_px: distance of the channel from the axis.
        width_px: width of the channel.

    Returns:
        Change (n,), with 1 as its largest absolute value.
    """
    reach = int(np.ceil(max(float(radii_px.max()), channel_px) + 8 * width_px + 8))
    place = np.arange(-4 * reach, 4 * reach + 1) / 2.0
    error = sum(np.exp(-0.5 * ((place - side * channel_px) / width_px) ** 2) for side in (-1, 1))
    filtered = np.fft.ifft(np.fft.fft(error) * np.abs(np.fft.fftfreq(place.size))).real
    angles = np.linspace(0.0, 0.5 * np.pi, 721)
    seen = np.interp(np.abs(radii_px[:, None] * np.cos(angles)), place, filtered)
    profile = seen.mean(axis=1)
    return profile / np.abs(profile).max()


def _angles(views: int) -> np.ndarray:
    return np.linspace(0.0, 180.0, views, endpoint=False)


def _channels(side: int) -> np.ndarray:
    """Places of the channels that cover a square, in pixels from the axis, as :func:`skimage.transform.radon` has."""
    count = int(np.ceil(np.sqrt(2) * side))
    return np.arange(count) - float(count // 2)
