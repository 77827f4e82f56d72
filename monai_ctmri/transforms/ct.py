"""CT intensities: Hounsfield units -> [0, 1] through stated windows; metal clamped."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType

import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from .. import keys as names
from ..errors import InputError

__all__ = [
    "CT_WINDOWS",
    "ClampMetal",
    "ClampMetalD",
    "ClampMetalDict",
    "ClampMetald",
    "WindowCT",
    "WindowCTD",
    "WindowCTDict",
    "WindowCTd",
    "holds_hounsfield",
]

Window = tuple[float, float]

CT_WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "brain": (40.0, 80.0),
        "subdural": (75.0, 215.0),
        "stroke": (40.0, 40.0),
        "soft_tissue": (40.0, 375.0),
        "bone": (600.0, 2800.0),
    }
)
"""Name -> (centre, width) in HU. All lie within the ranges Radiopaedia's "Windowing (CT)" gives for the head: brain
40/80, subdural 50-100/130-300, stroke 40/40 (or 32/8), soft tissues 20-60/350-400, temporal bones 600/2800.

Stroke is 40/40, not 32/8: the latter is where readers of Lev et al., Radiology 213, 1999, *started* before they moved
the window by hand. Held fixed, 8 HU is about twice the noise of a head CT: the picture would be nearly binary. Whoever
wants it gives ``(32, 8)``."""

_UNKNOWN = (float("nan"), float("nan"))


def holds_hounsfield(img: torch.Tensor, windowed: bool | None = None) -> bool:
    """Whether a tensor holds HU rather than the grey levels of a window.

    Args:
        img: any tensor.
        windowed: the caller's word, which goes first. Without it, ``meta["window"]`` (what :py:class:`WindowCT` leaves)
            means grey levels, then ``meta["windowed"]`` decides, and where there is none, uint8 means grey levels.
    """
    if windowed is not None:
        return not windowed
    meta = img.meta if isinstance(img, MetaTensor) else {}
    return "window" not in meta and not bool(meta.get("windowed", img.dtype == torch.uint8))


def _windows(window: str | Window | Sequence[str | Window]) -> tuple[list[Window], bool]:
    """The windows meant, and whether one was given by itself rather than in a list."""
    if isinstance(window, str):
        if window not in CT_WINDOWS:
            raise ValueError(f"window {window!r} is unknown; choose {', '.join(CT_WINDOWS)} or give (centre, width).")
        return [CT_WINDOWS[window]], True
    if len(window) == 2 and all(isinstance(each, int | float) for each in window):
        centre, width = (float(each) for each in window)  # type: ignore[arg-type]
        if not width > 0:
            raise ValueError(f"width must be positive, got {width}.")
        return [(centre, width)], True
    if not window:
        raise ValueError("window must name at least one window.")
    return [_windows(each)[0][0] for each in window], False  # type: ignore[arg-type]


class WindowCT(Transform):
    """Map CT to [0, 1] through one or several windows of Hounsfield units.

    .. math:: y = \\mathrm{clip}\\left(\\frac{x - (c - w/2)}{w}, 0, 1\\right)

    with centre ``c`` and width ``w`` in HU. The default 40/80 is the usual brain window: 0 HU (water) gives 0, 80 HU
    gives 1; :py:data:`CT_WINDOWS` names others. A list of n windows turns C channels into n * C, window by window.

    A picture that was windowed before it was stored (8 bit) has lost its HU: it is only divided by 255, whatever
    one window is asked for, and its own window stays unknown. Several windows cannot be cut from it: it is refused.

    The result is float32 with ``meta["window"]`` = (centre, width), or (nan, nan) where unknown; for a list of windows
    a list of such pairs. The rest of ``meta`` stays.

    Args:
        centre: centre of the window in HU. Defaults to 40.
        width: width of the window in HU, above 0. Defaults to 80.
        windowed: True when the input is grey levels 0..255, False when it is HU. Defaults to None: ask
            ``meta["windowed"]``, and where there is none, uint8 means windowed and any other type HU.
        window: a name of :py:data:`CT_WINDOWS`, a pair (centre, width), or a list of these; goes before ``centre`` and
            ``width``. Defaults to None.

    Raises:
        ValueError: when a width is not positive, a name is unknown or the list is empty.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        centre: float = 40.0,
        width: float = 80.0,
        windowed: bool | None = None,
        window: str | Window | Sequence[str | Window] | None = None,
    ) -> None:
        self.windows, self._single = _windows((centre, width) if window is None else window)
        self.centre, self.width = self.windows[0]
        self.windowed = windowed

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Window ``img`` of shape (C, spatial...); the result has (n * C, spatial...).

        Raises:
            InputError: when several windows are asked of a picture that was windowed before.
        """
        source = convert_to_tensor(img, track_meta=get_track_meta())
        windowed = self._is_windowed(source)
        if windowed and len(self.windows) > 1:
            path = source.meta.get("filename_or_obj", "CT") if isinstance(source, MetaTensor) else "CT"
            raise InputError.about(
                path,
                f"is a picture of grey levels whose HU are lost, {len(self.windows)} windows cannot be cut from it",
                "give one window, or CT in HU (DICOM, NIfTI)",
            )
        values = source.to(torch.float32)
        if windowed:
            shown = [values / 255.0]
        else:
            shown = [(values - (centre - width / 2)) / width for centre, width in self.windows]
        out = convert_to_dst_type(torch.cat(shown).clamp(0.0, 1.0), source, dtype=torch.float32)[0]
        if isinstance(out, MetaTensor):
            used = [_UNKNOWN] if windowed else list(self.windows)
            out.meta["window"] = used[0] if self._single else used
        return out

    def _is_windowed(self, img: torch.Tensor) -> bool:
        if self.windowed is not None:
            return self.windowed
        meta = img.meta if isinstance(img, MetaTensor) else {}
        return bool(meta.get("windowed", img.dtype == torch.uint8))


class ClampMetal(Transform):
    """Clamp CT above a limit, where only metal lies, and record how much there was.

    Clips, coils, fillings and plates reach 3000 to 30000 HU on scanners with an extended scale; one such voxel decides
    every mean, maximum and interpolation around it. The default limit is the top of the 12-bit scale (-1024 to 3071),
    above cortical and petrous bone (up to about 2500 HU) and enamel (up to about 3000 HU). On a 12-bit scanner metal
    is stored *at* 3071, so the share counts what lies at or above the limit.

    The result is float32 of the input's shape with ``meta["metal_share"]``: voxels at or above the limit / voxels, or
    nan for a picture of grey levels, which is passed on as it is.

    Args:
        limit: HU above which values are clamped. Defaults to 3071.
        windowed: whether the input is grey levels; None asks as :py:func:`holds_hounsfield` does. Defaults to None.

    Raises:
        ValueError: when ``limit`` is not finite.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, limit: float = 3071.0, windowed: bool | None = None) -> None:
        if not abs(limit) < float("inf"):
            raise ValueError(f"limit must be finite, got {limit}.")
        self.limit = float(limit)
        self.windowed = windowed

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Clamp ``img`` of shape (C, spatial...) in HU."""
        source = convert_to_tensor(img, track_meta=get_track_meta())
        values, share = source.to(torch.float32), float("nan")
        if holds_hounsfield(source, self.windowed):
            share = float((values >= self.limit).float().mean()) if values.numel() else 0.0
            values = values.clamp(max=self.limit)
        out = convert_to_dst_type(values, source, dtype=torch.float32)[0]
        if isinstance(out, MetaTensor):
            out.meta["metal_share"] = share
        return out


class WindowCTd(MapTransform):
    """Dictionary-based wrapper of :py:class:`WindowCT`.

    Args:
        keys: entries that hold CT. Defaults to ``"ct"``. See also: MapTransform.
        centre: centre of the window in HU. Defaults to 40.
        width: width of the window in HU, above 0. Defaults to 80.
        windowed: whether the input is grey levels; None asks ``meta``. Defaults to None.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
        window: name, (centre, width) or a list of these; goes before ``centre`` and ``width``. Defaults to None.
    """

    backend = WindowCT.backend

    def __init__(
        self,
        keys: KeysCollection = names.CT,
        centre: float = 40.0,
        width: float = 80.0,
        windowed: bool | None = None,
        allow_missing_keys: bool = False,
        window: str | Window | Sequence[str | Window] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = WindowCT(centre, width, windowed, window)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Window the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


class ClampMetald(MapTransform):
    """Dictionary-based wrapper of :py:class:`ClampMetal`.

    Args:
        keys: entries that hold CT. Defaults to ``"ct"``. See also: MapTransform.
        limit: HU above which values are clamped. Defaults to 3071.
        windowed: whether the input is grey levels; None asks ``meta``. Defaults to None.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = ClampMetal.backend

    def __init__(
        self,
        keys: KeysCollection = names.CT,
        limit: float = 3071.0,
        windowed: bool | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ClampMetal(limit, windowed)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Clamp the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


WindowCTD = WindowCTDict = WindowCTd
ClampMetalD = ClampMetalDict = ClampMetald
