"""Do the values of a CT look like Hounsfield units, and if not, what else do they look like?"""

from __future__ import annotations

import numpy as np

__all__ = ["hounsfield_problem"]

_SAMPLE = 2_000_000
_BIN = 5.0
_NO_AIR = -300.0  # everything above is tissue, bone, or a background that is no air
_AIR = (-1150.0, -700.0)
_AIR_SHARE = 0.002  # sinuses and cells of the mastoid alone are more
_FILL_SHARE = 0.1
_TISSUE = (0.0, 100.0)
_BRAIN = (10.0, 70.0)  # stricter where no air confirms the zero point
_SPREAD = 25.0
_SHIFTED, _PLAINLY_SHIFTED = 900.0, 1200.0


def hounsfield_problem(array: np.ndarray) -> str | None:
    """Say why values cannot be Hounsfield units, or None when they can be.

    By its definition the Hounsfield scale puts air at -1000 and water at 0; grey and white matter lie near 20 to 45 HU
    and muscle near 50 HU. A head in HU therefore shows air near -1000 and a peak of soft tissue between about 0 and
    100. Where air is missing (brain extracted, values clipped), one constant background has to take its place and the
    rest has to lie densely around that peak, as no MR signal and no picture does.

    Args:
        array: values of a head CT, of any shape; values that are not finite are left out.

    Returns:
        One phrase, e.g. ``shifted: ...``, or None for plausible values.
    """
    values = np.asarray(array).ravel()
    values = values[:: max(1, len(values) // _SAMPLE)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return "no finite value at all"
    low, high = float(values.min()), float(values.max())
    if low == high:
        return f"one value everywhere ({low:g})"
    if low >= -1 and high <= 1:
        return f"scaled: values from {low:g} to {high:g} are no Hounsfield units"
    if low == 0 and high == 255 and (values == np.round(values)).all():
        return "windowed: values 0 to 255 are grey levels of an 8-bit picture"
    levels, counts = np.unique(values, return_counts=True)
    commonest = int(counts.argmax())
    fill = float(levels[commonest]) if counts[commonest] >= _FILL_SHARE * len(values) else None
    content = values[values > _NO_AIR] if fill is None else values[(values > _NO_AIR) & (values != fill)]
    if not len(content):
        return f"no soft tissue: hardly a value above {_NO_AIR:g}"
    peak = _peak(content)
    if ((values >= _AIR[0]) & (values <= _AIR[1])).mean() >= _AIR_SHARE:
        if _TISSUE[0] - _BIN <= peak <= _TISSUE[1]:
            return None
        return f"scaled: the commonest tissue has {peak:.0f}, not 0 to 100 HU"
    if fill is not None and _is_brain(content, fill, peak):
        return None
    return _name(values, low, high)


def _peak(content: np.ndarray) -> float:
    """The commonest value of ``content``, to half a bin of a histogram smoothed over three."""
    top = float(np.percentile(content, 99.5))
    edges = np.arange(content.min() - 2 * _BIN, top + 3 * _BIN, max(_BIN, (top - content.min()) / 2000))
    counts = np.histogram(content, edges)[0]
    smooth = np.convolve(counts, np.ones(3), mode="same")
    return float((edges[:-1] + edges[1:])[int(smooth.argmax())] / 2)


def _is_brain(content: np.ndarray, fill: float, peak: float) -> bool:
    """Whether what stands out from a constant background is brain in HU; the background is 0, a clip, or padding."""
    background = -250 <= fill <= 0 or fill < _AIR[0]
    dense = float((np.abs(content - peak) <= _SPREAD).mean())
    # On a background of 0 even the grey levels of a wide window could pass, were it not for their bone.
    top = float(np.percentile(content, 99)) <= 120 if fill == 0 else float(np.percentile(content, 95)) <= 300
    return background and top and _BRAIN[0] <= peak <= _BRAIN[1] and dense >= 0.5


def _name(values: np.ndarray, low: float, high: float) -> str:
    if low >= 0 and high <= 255:
        return f"windowed: values {low:g} to {high:g} are grey levels of an 8-bit picture"
    head = values[values > low + 0.15 * (float(np.percentile(values, 99)) - low)]
    tissue = _peak(head) if len(head) else high
    if low > _NO_AIR and tissue >= _SHIFTED:
        how = "as with 1000 or 1024 added" if tissue <= _PLAINLY_SHIFTED else "shifted and stretched"
        return f"shifted: air near {low:.0f} and tissue near {tissue:.0f}, {how}"
    return f"unscaled: no air near -1000; values from {low:g} to {high:g}, commonest tissue {tissue:.0f}"
