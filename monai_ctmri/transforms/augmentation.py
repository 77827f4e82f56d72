"""Random intensity changes for training, drawn for each modality on its own."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from ..errors import InputError
from .intervals import Range, interval

__all__ = [
    "RandIntensityVariation",
    "RandIntensityVariationD",
    "RandIntensityVariationDict",
    "RandIntensityVariationd",
    "RandNoiseInjection",
    "RandNoiseInjectionD",
    "RandNoiseInjectionDict",
    "RandNoiseInjectiond",
]


def _finish(out: torch.Tensor, source: torch.Tensor) -> NdarrayOrTensor:
    """Clip to [0, 1], put exact 0 (air, missing modality) back, and return with the meta of ``source``."""
    out = torch.where(torch.as_tensor(source) == 0, torch.zeros_like(out), out.clamp(0.0, 1.0))
    return convert_to_dst_type(out, source, dtype=torch.float32)[0]


def _intervals(name: str, given: Range | Sequence[Range], least: float = -math.inf) -> list[tuple[float, float]]:
    """One checked interval, or one a channel."""
    several = len(given) > 0 and not isinstance(given[0], int | float)
    return [interval(name, one, least) for one in (given if several else [given])]  # type: ignore[arg-type]


def _ends(intervals: Sequence[tuple[float, float]], channels: int) -> np.ndarray:
    """Lower and upper ends, shape (2, 1) or (2, channels)."""
    if len(intervals) not in (1, channels):
        problem = f"{len(intervals)} intervals for {channels} channels"
        raise InputError.about("intensity variation", problem, "give one interval for all or one a channel")
    return np.array(intervals).T


class RandNoiseInjection(RandomizableTransform):
    """Add Gaussian noise of a random standard deviation to an image in [0, 1].

    ``y = clip(x + s e, 0, 1)`` with ``e`` ~ N(0, 1) a pixel and ``s`` ~ U(std) a channel; pixels that are exactly 0
    stay 0, so that air and a missing modality remain recognisable. (MONAI's ``RandGaussianNoise`` neither clips nor
    keeps the background.)

    Args:
        prob: probability of any change. Defaults to 0.1.
        std: interval of the standard deviation, in units of the [0, 1] range. Defaults to (0, 0.05).

    Raises:
        InputError: when ``std`` is no interval of non-negative numbers.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, prob: float = 0.1, std: tuple[float, float] = (0.0, 0.05)) -> None:
        super().__init__(prob)
        self.std = interval("std", std, 0.0)
        self._noise = np.zeros(())

    def randomize(self, data: torch.Tensor) -> None:
        """Draw the noise for an image of the shape of ``data``."""
        super().randomize(None)
        if self._do_transform:
            std = self.R.uniform(*self.std, size=(len(data), *[1] * (data.ndim - 1)))
            self._noise = self.R.standard_normal(size=tuple(data.shape))
            self._noise *= std

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change ``img`` (C, spatial...) in [0, 1]; the result is float32 of the same shape in [0, 1]."""
        source = convert_to_tensor(img, dtype=torch.float32, track_meta=get_track_meta())
        if randomize:
            self.randomize(source)
        if not self._do_transform:
            return source
        return _finish(source + convert_to_dst_type(self._noise, source, dtype=torch.float32)[0], source)


class RandIntensityVariation(RandomizableTransform):
    """Change gain, offset and contrast curve of an image in [0, 1] at random, as scanners and windows do.

    ``y = clip(g x**c + b, 0, 1)`` with gain ``g``, shift ``b`` and exponent ``c`` drawn a channel; pixels that are
    exactly 0 stay 0. Gain and shift are uniform in their intervals; ``log c`` is, so that brightening and darkening
    are equally likely.

    Each interval may also be a list of intervals, one a channel: CT has a scale of its own and MRI has none.

    Args:
        prob: probability of any change. Defaults to 0.1.
        gain: interval of ``g``. Defaults to (0.9, 1.1).
        shift: interval of ``b``, in units of the [0, 1] range. Defaults to (-0.05, 0.05).
        gamma: interval of ``c``, above 0. Defaults to (0.8, 1.25).

    Raises:
        InputError: when an interval is out of order or ``gain`` or ``gamma`` is not positive, or (in a call) there is
            not one interval a channel.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        prob: float = 0.1,
        gain: Range | Sequence[Range] = (0.9, 1.1),
        shift: Range | Sequence[Range] = (-0.05, 0.05),
        gamma: Range | Sequence[Range] = (0.8, 1.25),
    ) -> None:
        super().__init__(prob)
        smallest = float(np.finfo(np.float32).tiny)
        self.gain = _intervals("gain", gain, smallest)
        self.shift = _intervals("shift", shift)
        self.gamma = _intervals("gamma", gamma, smallest)
        self._drawn = np.zeros((3, 0))

    def randomize(self, data: torch.Tensor) -> None:
        """Draw gain, shift and exponent for each channel of ``data``."""
        super().randomize(None)
        if self._do_transform:
            channels = len(data)
            gain, shift, gamma = (_ends(each, channels) for each in (self.gain, self.shift, self.gamma))
            exponent = np.log(gamma)
            self._drawn = np.stack(
                [
                    self.R.uniform(gain[0], gain[1], size=channels),
                    self.R.uniform(shift[0], shift[1], size=channels),
                    np.exp(self.R.uniform(exponent[0], exponent[1], size=channels)),
                ]
            )

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change ``img`` (C, spatial...) in [0, 1]; the result is float32 of the same shape in [0, 1]."""
        source = convert_to_tensor(img, dtype=torch.float32, track_meta=get_track_meta())
        if randomize:
            self.randomize(source)
        if not self._do_transform:
            return source
        drawn = self._drawn.reshape(3, -1, *[1] * (source.ndim - 1))
        gain, shift, gamma = (convert_to_dst_type(each, source, dtype=torch.float32)[0] for each in drawn)
        return _finish(gain * source.clamp(min=0.0) ** gamma + shift, source)


class _IndependentKeys(RandomizableTransform, MapTransform):
    """A random transform applied to several entries with a draw of its own for each, all from one random state."""

    def __init__(
        self,
        keys: KeysCollection,
        transform: RandNoiseInjection | RandIntensityVariation,
        prob: float,
        allow_missing_keys: bool,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> _IndependentKeys:
        """Set the one random state shared with the array transform. See also: monai.transforms.Randomizable."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Change the entries of ``keys``, each with probability ``prob`` and parameters of its own."""
        d = dict(data)
        for key in self.key_iterator(d):
            self.randomize(None)
            if self._do_transform:
                d[key] = self.transform(d[key])
            else:
                d[key] = convert_to_tensor(d[key], dtype=torch.float32, track_meta=get_track_meta())
        return d


class RandNoiseInjectiond(_IndependentKeys):
    """Dictionary-based wrapper of :py:class:`RandNoiseInjection`.

    Whether and how an entry changes is drawn for each key on its own: the noise of CT says nothing about that of MRI.

    Args:
        keys: entries that hold images. See also: MapTransform.
        prob: probability of any change, a key. Defaults to 0.1.
        std: interval of the standard deviation. Defaults to (0, 0.05).
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = RandNoiseInjection.backend

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        std: tuple[float, float] = (0.0, 0.05),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandNoiseInjection(1.0, std), prob, allow_missing_keys)


class RandIntensityVariationd(_IndependentKeys):
    """Dictionary-based wrapper of :py:class:`RandIntensityVariation`.

    Whether and how an entry changes is drawn for each key on its own: the two modalities come from two scanners.

    Args:
        keys: entries that hold images. See also: MapTransform.
        prob: probability of any change, a key. Defaults to 0.1.
        gain: interval of the gain, one for all or one a channel. Defaults to (0.9, 1.1).
        shift: interval of the shift. Defaults to (-0.05, 0.05).
        gamma: interval of the exponent. Defaults to (0.8, 1.25).
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = RandIntensityVariation.backend

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        gain: Range | Sequence[Range] = (0.9, 1.1),
        shift: Range | Sequence[Range] = (-0.05, 0.05),
        gamma: Range | Sequence[Range] = (0.8, 1.25),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandIntensityVariation(1.0, gain, shift, gamma), prob, allow_missing_keys)


RandNoiseInjectionD = RandNoiseInjectionDict = RandNoiseInjectiond
RandIntensityVariationD = RandIntensityVariationDict = RandIntensityVariationd
