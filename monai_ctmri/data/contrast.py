"""From tissue fractions to what a CT or MR scanner shows: Hounsfield units, T1-, T2-, PD- and FLAIR-weighted signal.

Values are working ranges of the radiological literature: CT in Hounsfield units at 120 kV; MR as relative signal of
    spin-echo
sequences at 1.5 T, scaled so that the brightest tissue of a contrast is about 1.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_ctmri.data.anatomy import TISSUES

__all__ = ["HOUNSFIELD", "MR_CONTRASTS", "MR_SIGNAL", "ct_slice", "mr_slice"]

HOUNSFIELD: dict[str, float] = {
    "air": -1000, "csf": 8, "gm": 38, "wm": 29, "bone": 1250, "diploe": 520,
    "fat": -85, "skin": 45, "dura": 58, "calcification": 190,
}  # fmt: skip
HOUNSFIELD_JITTER: dict[str, float] = {"csf": 2.0, "gm": 1.2, "wm": 1.2, "bone": 120, "diploe": 90, "calcification": 50}

MR_SIGNAL: dict[str, dict[str, float]] = {
    "T1": {"csf": 0.20, "gm": 0.56, "wm": 0.78, "bone": 0.06, "diploe": 0.55, "fat": 0.98, "skin": 0.42, "dura": 0.45},
    "T2": {"csf": 1.00, "gm": 0.55, "wm": 0.36, "bone": 0.04, "diploe": 0.20, "fat": 0.46, "skin": 0.26, "dura": 0.22},
    "PD": {"csf": 0.74, "gm": 0.90, "wm": 0.72, "bone": 0.07, "diploe": 0.40, "fat": 0.80, "skin": 0.52, "dura": 0.50},
    "FLAIR": {
        "csf": 0.10,
        "gm": 0.66,
        "wm": 0.52,
        "bone": 0.05,
        "diploe": 0.30,
        "fat": 0.72,
        "skin": 0.40,
        "dura": 0.35,
    },
}
"""Relative signal of each tissue in each contrast; air and calcification give none."""

MR_CONTRASTS = tuple(MR_SIGNAL)


def _correlated_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise of unit standard deviation, correlated over ``sigma`` pixels in the last two axes."""
    noise = rng.standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, (0,) * (len(shape) - 2) + (sigma, sigma), mode="wrap")
    return smooth / smooth.std()


def _blend(fractions: np.ndarray, values: dict[str, float]) -> np.ndarray:
    return np.tensordot(np.array([values.get(name, 0.0) for name in TISSUES], dtype=np.float32), fractions, axes=1)


def _blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (0, sigma_px, sigma_px))


def ct_slice(fractions: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """CT slices of one subject in Hounsfield units.

    Args:
        fractions: tissue fractions, shape (tissues, slices, H, W).
        spacing_mm: pixel size.
        rng: the subject's generator: tissue values, sharpness and noise level are drawn once for the subject.

    Returns:
        float32 array (slices, H, W) in HU, clipped to [-1024, 3071].
    """
    values = {name: hu + rng.normal(0, HOUNSFIELD_JITTER.get(name, 0.0)) for name, hu in HOUNSFIELD.items()}
    blur_mm, noise_hu = rng.uniform(0.8, 1.25), rng.uniform(1.2, 3.2)
    texture = 0.9 * _correlated_noise(rng, fractions.shape[1:], 2.2 / spacing_mm)
    soft = fractions[1] + fractions[2] + fractions[3]
    image = _blur(_blend(fractions, values) + texture * soft, blur_mm / spacing_mm)
    # Quantum noise after a soft-tissue kernel is correlated, and denser paths (the head) carry more of it than air.
    noise = _correlated_noise(rng, fractions.shape[1:], 0.65)
    image = image + noise_hu * noise * (0.35 + 0.65 * (1 - fractions[0]))
    return np.clip(image, -1024, 3071).astype(np.float32)


def mr_slice(fractions: np.ndarray, spacing_mm: float, contrast: str, rng: np.random.Generator) -> np.ndarray:
    """MR slices of one subject as relative signal (no unit).

    Args:
        fractions: tissue fractions, shape (tissues, slices, H, W).
        spacing_mm: pixel size.
        contrast: one of :data:`MR_CONTRASTS`.
        rng: the subject's generator.

    Returns:
        float32 array (slices, H, W), >= 0, with Rician noise (Gudbjartsson and Patz, Magn Reson Med 34, 1995).

    Raises:
        ValueError: for a contrast that is not in the table.
    """
    if contrast not in MR_SIGNAL:
        raise ValueError(f"contrast must be one of {', '.join(MR_CONTRASTS)}, got {contrast!r}.")
    values = {name: signal * np.exp(rng.normal(0, 0.05)) for name, signal in MR_SIGNAL[contrast].items()}
    blur_mm, noise_level = rng.uniform(0.5, 0.9), rng.uniform(0.008, 0.025)
    tissue = _blend(fractions, values)
    tissue = tissue * (1 + 0.035 * _correlated_noise(rng, tissue.shape, 2.0 / spacing_mm))
    signal = _blur(tissue * _bias_field(tissue.shape, rng), blur_mm / spacing_mm)
    real = signal + noise_level * rng.standard_normal(signal.shape)
    imaginary = noise_level * rng.standard_normal(signal.shape)
    return np.hypot(real, imaginary).astype(np.float32)


def _bias_field(shape: tuple[int, ...], rng: np.random.Generator, strength: float = 0.08) -> np.ndarray:
    """Smooth multiplicative coil sensitivity: the exponential of a random quadratic polynomial of the position."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    terms = np.stack([x, y, z, x * y, x * z, y * z, x**2, y**2, z**2])
    return np.exp(np.tensordot(rng.normal(0, strength, len(terms)), terms, axes=1))
