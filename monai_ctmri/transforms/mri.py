"""MRI intensities: arbitrary units -> [0, 1] by a robust percentile, or standard deviations from the brain's mean."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.transforms.utils_pytorch_numpy_unification import percentile as percentile_of
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from .. import keys as names
from .brain import HeadMask

__all__ = [
    "NormalizeMRI",
    "NormalizeMRID",
    "NormalizeMRIDict",
    "NormalizeMRId",
    "ZScoreMRI",
    "ZScoreMRID",
    "ZScoreMRIDict",
    "ZScoreMRId",
    "head_mask",
    "mask_like",
]

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
        foreground = channel[channel > max(_FOREGROUND * _percentile(channel, 99.9), 0.0)]
        scale = _percentile(foreground, self.percentile) if foreground.numel() else 0.0
        return (channel / scale).clamp(0.0, 1.0) if scale > 0 else torch.zeros_like(channel)


def _percentile(values: torch.Tensor, q: float) -> float:
    """Percentile with linear interpolation; torch sorts for it, numpy selects, which is several times faster."""
    return float(percentile_of(values if values.is_cuda else values.numpy(), q))


def head_mask(img: NdarrayOrTensor) -> torch.Tensor:
    """Mask of the head in MRI of any unit: bool (1, spatial...) for ``img`` (C, spatial...), holes filled.

    :py:class:`~monai_ctmri.transforms.HeadMask` of what :py:class:`NormalizeMRI` makes of it: the largest piece above
    5 % of the robust maximum.
    """
    return torch.as_tensor(HeadMask()(NormalizeMRI()(img))) > 0


def mask_like(mask: NdarrayOrTensor | None, img: torch.Tensor) -> torch.Tensor:
    """The mask as bool (1, spatial...), or the head mask of ``img`` where there is none.

    Raises:
        ValueError: when the mask's shape is not (1, spatial...) or (C, spatial...) of ``img``.
    """
    if mask is None:
        return head_mask(img)
    given = torch.as_tensor(convert_to_tensor(mask, track_meta=False)) > 0
    if given.shape[1:] != img.shape[1:] or given.shape[0] not in (1, img.shape[0]):
        raise ValueError(f"the mask has shape {tuple(given.shape)}, the image {tuple(img.shape)}.")
    return given.any(dim=0, keepdim=True)


class ZScoreMRI(Transform):
    """Map MRI to standard deviations from the mean of the brain.

    .. math:: y = \\mathrm{clip}\\left(\\frac{x - \\mu_M}{\\sigma_M}, -c, c\\right)

    with mean and (population) standard deviation over the mask ``M``; voxels outside it are mapped by the same line.
    ``x`` and ``a x + b`` (``a`` > 0) give the same result. Each channel is treated on its own. Where the mask holds
    nothing, or one value only, the channel becomes 0.

    Args:
        clip: ``c``, above 0: the result lies in [-c, c]. Defaults to 5.

    Raises:
        ValueError: when ``clip`` is not positive.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, clip: float = 5.0) -> None:
        if not clip > 0:
            raise ValueError(f"clip must be positive, got {clip}.")
        self.clip = float(clip)

    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> NdarrayOrTensor:
        """Normalise ``img`` of shape (C, spatial...); the result is float32 of the same shape.

        Args:
            img: MRI in any unit.
            mask: (1, spatial...), above 0 where the brain is; the head mask where it is None.
        """
        source = convert_to_tensor(img, track_meta=get_track_meta())
        values = torch.as_tensor(source.detach(), dtype=torch.float32)
        inside = mask_like(mask, values)[0]
        out = torch.stack([self._standardise(channel, inside) for channel in values])
        return convert_to_dst_type(out, source, dtype=torch.float32)[0]

    def _standardise(self, channel: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        tissue = channel[inside].double()
        if tissue.numel() == 0 or tissue.min() == tissue.max():
            return torch.zeros_like(channel)
        out = (channel.double() - tissue.mean()) / tissue.std(correction=0)
        return out.clamp(-self.clip, self.clip).float()


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


class ZScoreMRId(MapTransform):
    """Dictionary-based wrapper of :py:class:`ZScoreMRI`.

    Args:
        keys: entries that hold MRI. Defaults to ``"mri"``. See also: MapTransform.
        mask_key: entry that holds the brain's mask; a case without it gets the head mask. Defaults to ``"brain"``.
        clip: the result lies in [-clip, clip]. Defaults to 5.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = ZScoreMRI.backend

    def __init__(
        self,
        keys: KeysCollection = names.MRI,
        mask_key: str = "brain",
        clip: float = 5.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.transform = ZScoreMRI(clip)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Normalise the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], d.get(self.mask_key))
        return d


NormalizeMRID = NormalizeMRIDict = NormalizeMRId
ZScoreMRID = ZScoreMRIDict = ZScoreMRId
