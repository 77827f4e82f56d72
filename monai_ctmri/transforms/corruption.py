"""What a denoiser is trained to undo: coarse noise, and modalities that are not there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple

from ..errors import InputError
from .intervals import Range, interval

__all__ = [
    "RandCoarseNoise",
    "RandCoarseNoiseD",
    "RandCoarseNoiseDict",
    "RandCoarseNoised",
    "RandModalityDropout",
    "RandModalityDropoutD",
    "RandModalityDropoutDict",
    "RandModalityDropoutd",
]

FOREGROUND = 0.01
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class RandCoarseNoise(RandomizableTransform):
    """Add noise that is as coarse as a lesion, each channel on its own.

    Gaussian noise N(0, std^2) on a coarse grid, enlarged linearly to the image, rolled by a random number of voxels
    along each axis, and added where the image lies above 0.01 (Kascenas, Pugeault and O'Neil, MIDL 2022). Nothing is
    clipped.

    Args:
        prob: probability of noise, a channel. Defaults to 1.
        std: interval from which the standard deviation is drawn, a channel, in units of the [0, 1] range. Defaults to
            (0.2, 0.2).
        grid: points of the coarse grid along each axis. Defaults to 16.

    Raises:
        InputError: when ``std`` is no interval of non-negative numbers or ``grid`` is below 1.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, prob: float = 1.0, std: Range = (0.2, 0.2), grid: int = 16) -> None:
        super().__init__(prob)
        self.std = interval("std", std, 0.0)
        if grid < 1:
            raise InputError.about("grid", f"got {grid}", "give at least 1")
        self.grid = int(grid)
        self._noise = np.zeros(())
        self._rolls: list[tuple[int, ...]] = []

    def randomize(self, data: torch.Tensor) -> None:
        """Draw the noise for each channel of ``data``."""
        channels, shape = len(data), tuple(data.shape[1:])
        noisy = self.R.uniform(size=channels) < self.prob
        std = self.R.uniform(*self.std, size=channels) * noisy
        coarse = self.R.standard_normal(size=(channels, *[self.grid] * len(shape)))
        self._noise = coarse * std.reshape(-1, *[1] * len(shape))
        self._rolls = [tuple(int(self.R.randint(size)) for size in shape) for _ in range(channels)]
        self._do_transform = bool(noisy.any())

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change ``img`` (C, spatial...) in [0, 1]; the result is float32 of the same shape, not clipped."""
        source = convert_to_tensor(img, dtype=torch.float32, track_meta=get_track_meta())
        if randomize:
            self.randomize(source)
        if not self._do_transform:
            return source
        plain = convert_to_tensor(source, track_meta=False)
        shape = tuple(plain.shape[1:])
        coarse = torch.as_tensor(self._noise, dtype=torch.float32, device=plain.device)
        noise = F.interpolate(coarse[None], size=shape, mode=_LINEAR[len(shape)], align_corners=False)[0]
        axes = tuple(range(len(shape)))
        rolled = torch.stack([torch.roll(one, by, axes) for one, by in zip(noise, self._rolls, strict=True)])
        return convert_to_dst_type(plain + rolled * (plain > FOREGROUND), source, dtype=torch.float32)[0]


class RandModalityDropout(RandomizableTransform):
    """Make channels absent (0 everywhere) at random, but never the last one that is present.

    Each channel is dropped with probability ``prob``; where that would leave none, one of the present channels is kept,
    all equally likely.

    Args:
        prob: probability of the absence of a channel, one for all or one a channel. Defaults to 0.3.

    Raises:
        InputError: when a probability is outside [0, 1], or (in a call) there is not one a channel.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, prob: float | Sequence[float] = 0.3) -> None:
        self.probs = tuple(float(one) for one in ensure_tuple(prob))
        if not self.probs or any(not 0.0 <= one <= 1.0 for one in self.probs):
            raise InputError.about("prob", f"got {prob}", "give probabilities in [0, 1]")
        super().__init__(max(self.probs))
        self._kept = np.zeros(0, dtype=bool)

    def randomize(self, data: torch.Tensor) -> None:
        """Draw which channels of ``data`` stay."""
        present = (data != 0).flatten(1).any(dim=1).cpu().numpy()
        if len(self.probs) not in (1, len(data)):
            problem = f"{len(self.probs)} probabilities for {len(data)} channels"
            raise InputError.about("prob", problem, "give one for all or one a channel")
        kept = self.R.uniform(size=len(data)) >= np.broadcast_to(self.probs, len(data))
        spared = int(self.R.randint(max(1, int(present.sum()))))
        if present.any() and not (kept & present).any():
            kept[np.flatnonzero(present)[spared]] = True
        self._kept = kept
        self._do_transform = not kept.all()

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change ``img`` (C, spatial...); the result is float32 of the same shape."""
        source = convert_to_tensor(img, dtype=torch.float32, track_meta=get_track_meta())
        if randomize:
            self.randomize(source)
        if not self._do_transform:
            return source
        out = convert_to_tensor(source, track_meta=False).clone()
        out[torch.as_tensor(~self._kept)] = 0.0
        return convert_to_dst_type(out, source, dtype=torch.float32)[0]


class _OneEntryAfterAnother(RandomizableTransform, MapTransform):
    """A random array transform applied to each entry with draws of its own, all from one random state."""

    backend = RandCoarseNoise.backend

    def __init__(
        self, keys: KeysCollection, transform: RandCoarseNoise | RandModalityDropout, allow_missing_keys: bool
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.transform = transform

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> _OneEntryAfterAnother:
        """Set the one random state shared with the array transform. See also: monai.transforms.Randomizable."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Change the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


class RandCoarseNoised(_OneEntryAfterAnother):
    """Dictionary-based wrapper of :py:class:`RandCoarseNoise`; every key and channel has draws of its own.

    Args:
        keys: entries that hold images. See also: MapTransform.
        prob: probability of noise, a channel. Defaults to 1.
        std: interval of the standard deviation. Defaults to (0.2, 0.2).
        grid: points of the coarse grid along each axis. Defaults to 16.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        std: Range = (0.2, 0.2),
        grid: int = 16,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandCoarseNoise(prob, std, grid), allow_missing_keys)


class RandModalityDropoutd(_OneEntryAfterAnother):
    """Dictionary-based wrapper of :py:class:`RandModalityDropout`; every key has draws of its own.

    Args:
        keys: entries that hold images, one channel a modality. See also: MapTransform.
        prob: probability of the absence of a channel, one for all or one a channel. Defaults to 0.3.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    def __init__(
        self, keys: KeysCollection, prob: float | Sequence[float] = 0.3, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, RandModalityDropout(prob), allow_missing_keys)


RandCoarseNoiseD = RandCoarseNoiseDict = RandCoarseNoised
RandModalityDropoutD = RandModalityDropoutDict = RandModalityDropoutd
