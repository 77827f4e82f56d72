"""CT intensities: Hounsfield units -> [0, 1] through a stated window."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from .. import keys as names

__all__ = ["WindowCT", "WindowCTD", "WindowCTDict", "WindowCTd"]


class WindowCT(Transform):
    """Map CT to [0, 1] through a window of Hounsfield units.

    .. math:: y = \\mathrm{clip}\\left(\\frac{x - (c - w/2)}{w}, 0, 1\\right)

    with centre ``c`` and width ``w`` in HU. The default 40/80 is the usual brain window: 0 HU (water) gives 0, 80 HU
    gives 1; other common ones are subdural 75/215, stroke 32/8 and bone 600/2800.

    A picture that was windowed before it was stored (8 bit) has lost its HU: it is only divided by 255, whatever
    ``centre`` and ``width`` say, and its own window stays unknown.

    The result is float32 of the input's shape with ``meta["window"]`` = (centre, width), or (nan, nan) where unknown;
    the rest of ``meta`` stays.

    Args:
        centre: centre of the window in HU. Defaults to 40.
        width: width of the window in HU, above 0. Defaults to 80.
        windowed: True when the input is grey levels 0..255, False when it is HU. Defaults to None: ask
            ``meta["windowed"]``, and where there is none, uint8 means windowed and any other type HU.

    Raises:
        ValueError: when ``width`` is not positive.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, centre: float = 40.0, width: float = 80.0, windowed: bool | None = None) -> None:
        if not width > 0:
            raise ValueError(f"width must be positive, got {width}.")
        self.centre = float(centre)
        self.width = float(width)
        self.windowed = windowed

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Window ``img`` of shape (C, spatial...)."""
        source = convert_to_tensor(img, track_meta=get_track_meta())
        windowed = self._is_windowed(source)
        values = source.to(torch.float32)
        out = values / 255.0 if windowed else (values - (self.centre - self.width / 2)) / self.width
        out = convert_to_dst_type(out.clamp(0.0, 1.0), source, dtype=torch.float32)[0]
        if isinstance(out, MetaTensor):
            out.meta["window"] = (float("nan"), float("nan")) if windowed else (self.centre, self.width)
        return out

    def _is_windowed(self, img: torch.Tensor) -> bool:
        if self.windowed is not None:
            return self.windowed
        meta = img.meta if isinstance(img, MetaTensor) else {}
        return bool(meta.get("windowed", img.dtype == torch.uint8))


class WindowCTd(MapTransform):
    """Dictionary-based wrapper of :py:class:`WindowCT`.

    Args:
        keys: entries that hold CT. Defaults to ``"ct"``. See also: MapTransform.
        centre: centre of the window in HU. Defaults to 40.
        width: width of the window in HU, above 0. Defaults to 80.
        windowed: whether the input is grey levels; None asks ``meta``. Defaults to None.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = WindowCT.backend

    def __init__(
        self,
        keys: KeysCollection = names.CT,
        centre: float = 40.0,
        width: float = 80.0,
        windowed: bool | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = WindowCT(centre, width, windowed)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Window the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


WindowCTD = WindowCTDict = WindowCTd
