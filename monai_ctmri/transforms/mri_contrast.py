"""Which contrast an MRI slice shows (T1, T2, PD, FLAIR), guessed from its tissues, with a confidence."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from scipy import ndimage

from .. import keys as names
from .brain import BrainMask
from .mri import NormalizeMRI, head_mask, mask_like

__all__ = [
    "MRI_CONTRAST",
    "MRI_CONTRAST_CONFIDENCE",
    "GuessContrast",
    "GuessContrastD",
    "GuessContrastDict",
    "GuessContrastd",
    "contrast_features",
    "guess_contrast",
]

MRI_CONTRAST = "mri_contrast"
"""Entry of a case that holds the guessed contrast: T1, T2, PD, FLAIR or unknown."""
MRI_CONTRAST_CONFIDENCE = "mri_contrast_confidence"
"""Entry of a case that holds how sure the guess is, in [0, 1]."""

UNKNOWN = "unknown"

EXPECTED: dict[str, dict[str, tuple[float, float]]] = {
    "T1": {"darkest": (0.53, 0.14), "brightest": (0.26, 0.12), "spread": (0.36, 0.13), "order": (0.18, 0.2),
           "scalp": (0.75, 0.35)},
    "T2": {"darkest": (0.74, 0.14), "brightest": (0.65, 0.20), "spread": (0.45, 0.18), "order": (-0.10, 0.2),
           "scalp": (0.15, 0.3)},
    "PD": {"darkest": (0.88, 0.06), "brightest": (0.11, 0.05), "spread": (0.14, 0.06), "order": (-0.12, 0.2),
           "scalp": (0.15, 0.25)},
    "FLAIR": {"darkest": (0.38, 0.15), "brightest": (0.20, 0.12), "spread": (0.20, 0.10), "order": (0.00, 0.2),
              "scalp": (0.60, 0.35)},
}  # fmt: skip
"""Contrast -> feature -> (mean, spread) of :py:func:`contrast_features`. Working ranges, set by hand after looking at
phantom slices of all four contrasts and at real slices of a few scanners, then widened. They are no measurement, and
how often they are right on a scanner never seen is not known."""

_TEMPERATURE = 2.0
_LEAST_CONFIDENCE = 0.6
_FARTHEST = 1.5
_MOST = 9.0
_FEWEST_PIXELS = 200


def contrast_features(image: NdarrayOrTensor, brain: NdarrayOrTensor | None = None) -> dict[str, float]:
    """Measure what tells contrasts apart in an axial slice; all relative to the brain's median, so without unit.

    - ``darkest``: 5th percentile of the deep brain, where the ventricles are (deeper than half the head's radius).
      CSF in T1 and FLAIR: low. In T2 and PD nothing is dark.
    - ``brightest``: logarithm of the 95th percentile there. CSF in T2: high. In PD nothing is bright.
    - ``spread``: difference of the quartiles. Grey and white matter lie apart in T1 and T2, close in FLAIR and PD.
    - ``order``: rank correlation of signal and depth in what is neither CSF nor skull. White matter lies deeper than
      cortex: positive where it is the brighter one (T1), negative where grey matter is (T2, PD).
    - ``scalp``: logarithm of the 95th percentile of the outer 12 % of the head's radius. Fat is far brighter than
      brain in T1, and in FLAIR and T2 to a varying degree.

    Args:
        image: (1, H, W) in any unit.
        brain: (1, H, W), above 0 in the brain; guessed from the head's outline where it is None.

    Returns:
        The features; empty where fewer than 200 pixels of brain show anything.
    """
    tensor = convert_to_tensor(image, track_meta=False)
    if tensor.ndim != 3 or tensor.shape[0] != 1:
        raise ValueError(f"expected (1, H, W), got shape {tuple(tensor.shape)}.")
    grey = np.asarray(NormalizeMRI()(tensor))
    head = head_mask(tensor)[0].numpy()
    inside = np.asarray(BrainMask(ct_channel=None)(grey))[0] > 0
    if brain is not None:
        inside = mask_like(brain, tensor)[0].cpu().numpy()
    if inside.sum() < _FEWEST_PIXELS or not head.any():
        return {}
    radius = math.sqrt(head.sum() / math.pi)
    depth = ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1] / radius
    smooth = ndimage.gaussian_filter(grey[0], 0.012 * radius)
    median = float(np.median(smooth[inside]))
    if median <= 0:
        return {}
    relative = smooth / median
    first, third = np.percentile(relative[inside], (25, 75))
    deep = inside & (depth > 0.5)
    low, high = np.percentile(relative[deep if deep.sum() >= _FEWEST_PIXELS / 10 else inside], (5, 95))
    tissue = inside & (relative > 0.6) & (relative < 1.45) & (depth > 0.2)
    shell = head & (depth < 0.12)
    return {
        "darkest": float(low),
        "brightest": math.log(max(high, 1e-3)),
        "spread": float(third - first),
        "order": _rank_correlation(depth[tissue], relative[tissue]),
        "scalp": math.log(max(float(np.percentile(relative[shell], 95)) if shell.any() else 1.0, 1e-3)),
    }


def guess_contrast(image: NdarrayOrTensor, brain: NdarrayOrTensor | None = None) -> tuple[str, float]:
    """Guess the contrast of an axial MRI slice at brain level.

    Each contrast expects each feature of :py:func:`contrast_features` within a range; the squared distances, in
    spreads and at most 9 (a tumour may spoil one feature, not all), are added up and compared by a softmax with
    temperature 2 (the features are not independent). It is a label for sorting and for warnings, never a measurement:
    T1 and FLAIR look alike where fat is bright and CSF is dark in both and are often left unknown or taken for each
    other, and slices at the skull base or the vertex hold too little CSF.

    Args:
        image: (1, H, W) in any unit.
        brain: (1, H, W), above 0 in the brain; guessed from the head's outline where it is None.

    Returns:
        ``(label, confidence)``: T1, T2, PD, FLAIR or unknown, and in [0, 1] the share the softmax gives the best
        contrast, lowered where even that one does not fit. Below 0.6 the label is unknown; the confidence stays that of
        the best. An empty slice gives ``("unknown", 0.0)``.

    Raises:
        ValueError: when the shape is not (1, H, W).
    """
    features = contrast_features(image, brain)
    if not features:
        return UNKNOWN, 0.0
    apart = {
        label: sum(min(((features[name] - mean) / spread) ** 2, _MOST) for name, (mean, spread) in ranges.items())
        for label, ranges in EXPECTED.items()
    }
    best = min(apart, key=lambda label: apart[label])
    share = 1.0 / sum(math.exp((apart[best] - each) / (2 * _TEMPERATURE)) for each in apart.values())
    # Features that lie 1.5 spreads off on average fit nothing: the best of four strangers is still a stranger.
    fit = min(1.0, _FARTHEST / max(math.sqrt(apart[best] / len(features)), 1e-9))
    confidence = share * fit
    return (best if confidence >= _LEAST_CONFIDENCE else UNKNOWN), confidence


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import rankdata

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


class GuessContrast(Transform):
    """Note the guessed contrast of an MRI slice in its ``meta``.

    The result is the input as float32, values untouched, with ``meta["mri_contrast"]`` and
    ``meta["mri_contrast_confidence"]`` as :py:func:`guess_contrast` gives them. Without metadata tracking nothing is
    noted: call :py:func:`guess_contrast`.
    """

    backend = [TransformBackends.NUMPY]

    def __call__(self, img: NdarrayOrTensor, brain: NdarrayOrTensor | None = None) -> NdarrayOrTensor:
        """Look at ``img`` of shape (1, H, W), with the brain's mask (1, H, W) where there is one."""
        source = convert_to_tensor(img, track_meta=get_track_meta())
        out = convert_to_dst_type(source.detach().clone(), source, dtype=torch.float32)[0]
        if isinstance(out, MetaTensor):
            out.meta[MRI_CONTRAST], out.meta[MRI_CONTRAST_CONFIDENCE] = guess_contrast(source, brain)
        return out


class GuessContrastd(MapTransform):
    """Dictionary-based wrapper of :py:class:`GuessContrast`; writes entries ``mri_contrast`` and
    ``mri_contrast_confidence`` too, from the first key there is.

    Args:
        keys: entries that hold MRI slices. Defaults to ``"mri"``. See also: MapTransform.
        mask_key: entry that holds the brain's mask; a case without it gets a guess. Defaults to ``"brain"``.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = GuessContrast.backend

    def __init__(
        self, keys: KeysCollection = names.MRI, mask_key: str = "brain", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Guess the contrast of the entries of ``keys``."""
        d = dict(data)
        for number, key in enumerate(self.key_iterator(d)):
            source = convert_to_tensor(d[key], track_meta=get_track_meta())
            label, confidence = guess_contrast(source, d.get(self.mask_key))
            out = convert_to_dst_type(source.detach().clone(), source, dtype=torch.float32)[0]
            if isinstance(out, MetaTensor):
                out.meta[MRI_CONTRAST], out.meta[MRI_CONTRAST_CONFIDENCE] = label, confidence
            d[key] = out
            if number == 0:
                d[MRI_CONTRAST], d[MRI_CONTRAST_CONFIDENCE] = label, confidence
        return d


GuessContrastD = GuessContrastDict = GuessContrastd
