"""Domain randomisation: the same head as other scanners, coils, protocols and windows would show it.

MONAI's random transforms do the work. What is added is what pairs of modalities need: every channel (CT and MRI of a
stack) is drawn on its own, all draws come from one random state, pixels that are exactly 0 (air, a missing modality)
stay 0, and the result stays in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import (
    MapTransform,
    RandAdjustContrast,
    RandBiasField,
    RandHistogramShift,
    RandomizableTransform,
    RandSimulateLowResolution,
)
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from ..errors import InputError
from .intervals import Range, interval

__all__ = [
    "DOMAINS",
    "RandBiasShading",
    "RandBiasShadingD",
    "RandBiasShadingDict",
    "RandBiasShadingd",
    "RandContrastCurve",
    "RandContrastCurveD",
    "RandContrastCurveDict",
    "RandContrastCurved",
    "RandDomain",
    "RandDomainD",
    "RandDomainDict",
    "RandDomaind",
    "RandGammaCurve",
    "RandGammaCurveD",
    "RandGammaCurveDict",
    "RandGammaCurved",
    "RandResolutionLoss",
    "RandResolutionLossD",
    "RandResolutionLossDict",
    "RandResolutionLossd",
]

DOMAINS: dict[str, dict[str, Any]] = {
    "mild": {"control_points": (8, 12), "gamma": (0.8, 1.25), "coefficient": (-0.05, 0.05), "zoom": (0.7, 1.0)},
    "strong": {"control_points": (4, 8), "gamma": (0.6, 1.7), "coefficient": (-0.12, 0.12), "zoom": (0.4, 1.0)},
}
"""Ranges of :class:`RandDomain`, by name."""


class _EachChannel(RandomizableTransform):
    """Apply MONAI transforms one after the other, drawn for each channel on its own from this one's random state."""

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, prob: float, *inner: RandomizableTransform) -> None:
        super().__init__(prob)
        self._inner = inner
        self._drawn: list[list[Any]] = []

    def randomize(self, data: torch.Tensor) -> None:
        """Draw, for each channel of ``data`` and each inner transform, whether and how it acts."""
        self._drawn = [[] for _ in range(len(data))]
        for steps in self._drawn:
            for inner in self._inner:
                if self.R.uniform() >= self.prob:
                    continue
                one = copy.copy(inner)
                one.set_random_state(state=self.R)
                one.randomize(tuple(data.shape[1:]))
                if isinstance(one, RandSimulateLowResolution):
                    one.upsample_mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[data.ndim - 1]
                steps.append(one)
        self._do_transform = any(self._drawn)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change ``img`` (C, spatial...) in [0, 1]; the result is float32 of the same shape in [0, 1].

        Raises:
            InputError: when ``img`` has values outside [0, 1], to which a curve of grey levels means nothing.
        """
        source = convert_to_tensor(img, dtype=torch.float32, track_meta=get_track_meta())
        plain = convert_to_tensor(source, track_meta=False)
        if plain.numel() and not (plain.min() >= -1e-4 and plain.max() <= 1 + 1e-4):
            where = str(getattr(source, "meta", {}).get("filename_or_obj", "image"))
            found = f"has values from {float(plain.min()):g} to {float(plain.max()):g}"
            raise InputError.about(where, found, "scale it to [0, 1] first")
        if randomize:
            self.randomize(source)
        if not self._do_transform:
            return source
        out = plain.clone()
        for channel, steps in enumerate(self._drawn):
            if plain[channel].min() == plain[channel].max():
                continue  # a modality that is missing, of which no curve can be drawn
            for step in steps:
                changed = convert_to_tensor(step(out[channel : channel + 1], randomize=False), track_meta=False)
                out[channel] = changed[0].clamp(0.0, 1.0)
        out[plain == 0] = 0.0
        return convert_to_dst_type(out, source, dtype=torch.float32)[0]


class RandContrastCurve(_EachChannel):
    """Bend the grey values of an image in [0, 1] by a random increasing curve, as another protocol or window does.

    The curve is piecewise linear with ``n`` ~ U{control_points} evenly spaced points, each moved between its
    neighbours (:class:`monai.transforms.RandHistogramShift`). It keeps the least and the greatest value and the order
    of grey values, lies at most ``1 / (n - 1)`` above the identity, and strays from it by about ``0.7 / (n - 1)``
    (one standard deviation). Pixels that are exactly 0 stay 0.

    Args:
        prob: probability of a change, a channel. Defaults to 0.1.
        control_points: interval of the number of points, at least 3; fewer bend more. Defaults to (5, 10).

    Raises:
        InputError: when ``control_points`` is out of range.
    """

    def __init__(self, prob: float = 0.1, control_points: tuple[int, int] = (5, 10)) -> None:
        low, high = (int(end) for end in interval("control_points", control_points, 3))
        super().__init__(prob, RandHistogramShift((low, high), prob=1.0))


class RandGammaCurve(_EachChannel):
    """Bend the grey values of an image in [0, 1] by ``x ** gamma`` between its least and greatest value.

    ``gamma`` ~ U(gamma), a channel (:class:`monai.transforms.RandAdjustContrast`). Pixels that are exactly 0 stay 0.

    Args:
        prob: probability of a change, a channel. Defaults to 0.1.
        gamma: interval of the exponent, above 0. Defaults to (0.7, 1.5).

    Raises:
        InputError: when ``gamma`` is out of range.
    """

    def __init__(self, prob: float = 0.1, gamma: Range = (0.7, 1.5)) -> None:
        checked = interval("gamma", gamma, float(np.finfo(np.float32).tiny))
        super().__init__(prob, RandAdjustContrast(1.0, checked))


class RandBiasShading(_EachChannel):
    """Multiply an image in [0, 1] by a smooth random field, as coils do in MRI and beam hardening does in CT.

    The field is ``exp`` of a polynomial of Legendre products up to ``degree`` with coefficients ~ U(coefficient), a
    channel (:class:`monai.transforms.RandBiasField`). Pixels that are exactly 0 stay 0.

    Args:
        prob: probability of a change, a channel. Defaults to 0.1.
        coefficient: interval of the coefficients. Defaults to (-0.1, 0.1), about +-20 % one standard deviation at the
            corners of the picture and +-7 % in its middle.
        degree: degree of the polynomial, at least 1. Defaults to 3.

    Raises:
        InputError: when ``coefficient`` or ``degree`` is out of range.
    """

    def __init__(self, prob: float = 0.1, coefficient: Range = (-0.1, 0.1), degree: int = 3) -> None:
        super().__init__(prob, RandBiasField(degree, interval("coefficient", coefficient), prob=1.0))


class RandResolutionLoss(_EachChannel):
    """Shrink an image in [0, 1] by ``zoom`` and enlarge it again, as a coarser acquisition shows it.

    ``zoom`` ~ U(zoom), a channel; shrinking averages areas, enlarging is linear
    (:class:`monai.transforms.RandSimulateLowResolution`). Pixels that are exactly 0 stay 0.

    Args:
        prob: probability of a change, a channel. Defaults to 0.1.
        zoom: interval of the zoom, above 0 and at most 1. Defaults to (0.5, 1).

    Raises:
        InputError: when ``zoom`` is out of range.
    """

    def __init__(self, prob: float = 0.1, zoom: Range = (0.5, 1.0)) -> None:
        checked = interval("zoom", zoom, 1e-3, 1.0)
        super().__init__(prob, RandSimulateLowResolution(1.0, downsample_mode="area", zoom_range=checked))


class RandDomain(_EachChannel):
    """Another scanner: contrast curve, gamma, bias field and resolution in this order, each drawn a channel.

    The ranges are those of :data:`DOMAINS`; see :class:`RandContrastCurve`, :class:`RandGammaCurve`,
    :class:`RandBiasShading` and :class:`RandResolutionLoss`.

    Args:
        strength: ``"mild"``, close to what scanners of one hospital differ by, or ``"strong"``, beyond it on purpose.
            Defaults to ``"mild"``.
        prob: probability of each of the four changes, a channel. Defaults to 0.5.

    Raises:
        InputError: when ``strength`` is unknown.
    """

    def __init__(self, strength: str = "mild", prob: float = 0.5) -> None:
        if strength not in DOMAINS:
            raise InputError.about("strength", f"got {strength!r}", f"use one of {', '.join(DOMAINS)}")
        ranges = DOMAINS[strength]
        parts: list[_EachChannel] = [
            RandContrastCurve(prob, ranges["control_points"]),
            RandGammaCurve(prob, ranges["gamma"]),
            RandBiasShading(prob, ranges["coefficient"]),
            RandResolutionLoss(prob, ranges["zoom"]),
        ]
        super().__init__(prob, *(inner for part in parts for inner in part._inner))


class _EachKey(RandomizableTransform, MapTransform):
    """Apply an array transform to several entries with draws of their own, all from one random state."""

    backend = _EachChannel.backend

    def __init__(self, keys: KeysCollection, transform: _EachChannel, allow_missing_keys: bool) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        # Whether anything changes is drawn by the array transform, for each channel.
        RandomizableTransform.__init__(self, 1.0)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> _EachKey:
        """Set the one random state shared with the array transform. See also: monai.transforms.Randomizable."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Change the entries of ``keys``, each channel with draws of its own."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


class RandContrastCurved(_EachKey):
    """Dictionary-based wrapper of :py:class:`RandContrastCurve`; every key and channel has draws of its own.

    Args:
        keys: entries that hold images. See also: MapTransform.
        prob: probability of a change, a channel. Defaults to 0.1.
        control_points: interval of the number of points. Defaults to (5, 10).
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        control_points: tuple[int, int] = (5, 10),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandContrastCurve(prob, control_points), allow_missing_keys)


class RandGammaCurved(_EachKey):
    """Dictionary-based wrapper of :py:class:`RandGammaCurve`; every key and channel has draws of its own.

    Args:
        keys: entries that hold images. See also: MapTransform.
        prob: probability of a change, a channel. Defaults to 0.1.
        gamma: interval of the exponent. Defaults to (0.7, 1.5).
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.1, gamma: Range = (0.7, 1.5), allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, RandGammaCurve(prob, gamma), allow_missing_keys)


class RandBiasShadingd(_EachKey):
    """Dictionary-based wrapper of :py:class:`RandBiasShading`; every key and channel has draws of its own.

    Args:
        keys: entries that hold images. See also: MapTransform.
        prob: probability of a change, a channel. Defaults to 0.1.
        coefficient: interval of the coefficients. Defaults to (-0.1, 0.1).
        degree: degree of the polynomial. Defaults to 3.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        coefficient: Range = (-0.1, 0.1),
        degree: int = 3,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandBiasShading(prob, coefficient, degree), allow_missing_keys)


class RandResolutionLossd(_EachKey):
    """Dictionary-based wrapper of :py:class:`RandResolutionLoss`; every key and channel has draws of its own.

    Args:
        keys: entries that hold images. See also: MapTransform.
        prob: probability of a change, a channel. Defaults to 0.1.
        zoom: interval of the zoom. Defaults to (0.5, 1).
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.1, zoom: Range = (0.5, 1.0), allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, RandResolutionLoss(prob, zoom), allow_missing_keys)


class RandDomaind(_EachKey):
    """Dictionary-based wrapper of :py:class:`RandDomain`; every key and channel has draws of its own.

    Args:
        keys: entries that hold images. See also: MapTransform.
        strength: ``"mild"`` or ``"strong"``. Defaults to ``"mild"``.
        prob: probability of each of the four changes, a channel. Defaults to 0.5.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    def __init__(
        self, keys: KeysCollection, strength: str = "mild", prob: float = 0.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, RandDomain(strength, prob), allow_missing_keys)


RandContrastCurveD = RandContrastCurveDict = RandContrastCurved
RandGammaCurveD = RandGammaCurveDict = RandGammaCurved
RandBiasShadingD = RandBiasShadingDict = RandBiasShadingd
RandResolutionLossD = RandResolutionLossDict = RandResolutionLossd
RandDomainD = RandDomainDict = RandDomaind
