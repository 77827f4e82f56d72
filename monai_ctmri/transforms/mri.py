"""MRI intensities: arbitrary units -> [0, 1] by a robust percentile of the foreground."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.transforms.utils_pytorch_numpy_unification import percentile as percentile_of
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from .. import keys as names

__all__ = ["NormalizeMRI", "NormalizeMRID", "NormalizeMRIDict", "NormalizeMRId"]

_FOREGROUND = 0.05


class NormalizeMRI(Transform):
    """Map MRI to [0, 1] by a robust percentile of its foreground.

    .. math:: y = \\mathrm{clip}(x / P_q(\\{x_i : x_i > 0.05\\, P_{99.9}(x)\\}), 0, 1)

    MRI has no physical unit, so only a rule that does not see the scale is safe: ``x`` and ``a x`` (``a`` > 0) give
    the same result. Zero stays zero. The foreground leaves out air, whose share differs from slice to slice and would
    move the percentile; the 99.9th percentile instead of the maximum keeps one bright pixel from deciding what air
    is. Each channel is treated on its own. A channel that is constant or holds nothing above 0 gives zeros.

    Args:
        percentile: ``q``, in (0, 100]. Defaults to 99.5.

    Raises:
        ValueError: when ``percentile`` is out of range.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, percentile: float = 99.5) -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile must be in (0, 100], got {percentile}.")
        self.percentile = float(percentile)

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Normalise ``img`` of shape (C, spatial...); the result is float32 of the same shape."""
        source = convert_to_tensor(img, track_meta=get_track_meta())
        values = torch.as_tensor(source.detach(), dtype=torch.float32)
        out = torch.stack([self._normalise(channel) for channel in values])
        return convert_to_dst_type(out, source, dtype=torch.float32)[0]

    def _normalise(self, channel: torch.Tensor) -> torch.Tensor:
        if channel.numel() == 0 or channel.min() == channel.max():
            return torch.zeros_like(channel)
        foreground = channel[channel > max(_FOREGROUND * float(percentile_of(channel, 99.9)), 0.0)]
        scale = float(percentile_of(foreground, self.percentile)) if foreground.numel() else 0.0
        return (channel / scale).clamp(0.0, 1.0) if scale > 0 else torch.zeros_like(channel)


class NormalizeMRId(MapTransform):
    """Dictionary-based wrapper of :py:class:`NormalizeMRI`.

    Args:
        keys: entries that hold MRI. Defaults to ``"mri"``. See also: MapTransform.
        percentile: percentile of the foreground that becomes 1, in (0, 100]. Defaults to 99.5.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = NormalizeMRI.backend

    def __init__(
        self, keys: KeysCollection = names.MRI, percentile: float = 99.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = NormalizeMRI(percentile)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Normalise the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


NormalizeMRID = NormalizeMRIDict = NormalizeMRId
