"""Writing burnt into a slice: letters, numbers and rulers in the air beside the head."""

from __future__ import annotations

import numpy as np

from monai_ctmri.data.looking.outline import Head, shrink

__all__ = ["TEXT_LIMIT", "writing_evidence"]

TEXT_LIMIT = 0.5
"""Evidence from which a slice counts as written on: 6 strokes of a pen on lines, or a lone letter in a corner."""

_LARGEST = 1024
_CONTRAST = 0.12
_NOISE_SIGMAS = 6.0
_CORNER = 0.2
_LETTER = (0.025, 0.08)
_PEN = 0.4
_MARGIN = 0.03
_LOWEST, _HIGHEST = 4, 0.1
_WIDEST = 0.5
_MOST = 400
_LEAST_GLYPHS = 3
_LEAST_STROKES = 4
_HALF = 6.0


def writing_evidence(bright: np.ndarray, head: Head | None) -> float:
    """Evidence of writing beside the head, in [0, 1].

    What stands out of the air beside the head falls into components. Those as high as letters (4 pixels to a tenth of
    the picture) that follow one another on a line, at similar heights and less than a letter and a half apart, are
    writing when there are at least 3 of them or when a row through them crosses at least 4 strokes (letters that run
    into one another in a small picture). ``n`` strokes on all such lines give the evidence ``1 - 2 ** (-n / 6)``. A
    lone letter (2.5 to 8 % of the picture high, 2 or 3 strokes wide) in a corner counts as 6 strokes.

    Args:
        bright: plane (H, W) in [0, 1], as ``brightness`` gives it.
        head: the head in it; without one nothing is beside it, and there is no evidence.
    """
    from scipy import ndimage

    if max(bright.shape) > _LARGEST:
        bright = shrink(bright, _LARGEST)
    beside = _beside(bright.shape, head)
    if not beside.any():
        return 0.0
    some = bright[::3, ::3][beside[::3, ::3]]  # enough of it to know the air by
    some = some if some.size else bright[beside]
    air = float(np.median(some))
    noise = 1.4826 * float(np.median(np.abs(some - air)))
    ink = beside & (bright > air + max(_CONTRAST, _NOISE_SIGMAS * noise))
    for axis in (0, 1):  # frames and rules around the picture, which letters may touch
        ink &= ink.mean(axis=axis, keepdims=True) < _WIDEST
    labels, _ = ndimage.label(ink, structure=np.ones((3, 3)))
    longest = max(bright.shape)
    glyphs = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if _LOWEST <= height <= max(_LOWEST, _HIGHEST * longest) and width <= _WIDEST * longest:
            own = labels[rows, columns] == number
            if _is_thin(own):
                glyphs.append((rows.start, rows.stop, columns.start, columns.stop, _strokes(own)))
    if not 0 < len(glyphs) <= _MOST:  # more is noise, not writing
        return 0.0
    boxes = np.array(glyphs)
    line = _lines(boxes)
    count, total = np.bincount(line), np.bincount(line, weights=boxes[:, 4])
    written = float(total[(count >= _LEAST_GLYPHS) | (total >= _LEAST_STROKES)].sum())
    if _corner_letters(boxes[count[line] == 1], bright.shape).any():
        written = max(written, _HALF)
    return float(1 - 2 ** (-written / _HALF))


def _lines(boxes: np.ndarray) -> np.ndarray:
    """Number of the line that each glyph (top, bottom, left, right, strokes) stands on."""
    from scipy.sparse.csgraph import connected_components

    top, bottom, left, right, _ = boxes.T
    height = bottom - top
    overlap = np.minimum(bottom, bottom[:, None]) - np.maximum(top, top[:, None])
    gap = np.maximum(left, left[:, None]) - np.minimum(right, right[:, None])
    taller, lower = np.maximum(height, height[:, None]), np.minimum(height, height[:, None])
    return connected_components((overlap >= 0.6 * lower) & (gap <= 1.5 * taller) & (taller <= 2 * lower))[1]


def _corner_letters(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which of the glyphs are shaped as a letter and stand whole in a corner of the picture."""
    top, bottom, left, right, strokes = boxes.T
    height, width, longest = bottom - top, right - left, max(shape)
    corner = (np.abs((top + bottom) / shape[0] - 1) > 1 - 2 * _CORNER) & (
        np.abs((left + right) / shape[1] - 1) > 1 - 2 * _CORNER
    )
    sized = (height >= max(8, _LETTER[0] * longest)) & (height <= _LETTER[1] * longest)
    shaped = (width >= 0.3 * height) & (width <= 1.3 * height) & (strokes >= 2) & (strokes <= 3)
    whole = (top > 0) & (left > 0) & (bottom < shape[0]) & (right < shape[1])
    return corner & sized & shaped & whole


def _strokes(glyph: np.ndarray) -> int:
    """Most strokes that any row crosses."""
    own = np.pad(glyph, ((0, 0), (1, 0)))
    return int((own[:, 1:] & ~own[:, :-1]).sum(axis=1).max())


def _is_thin(glyph: np.ndarray) -> bool:
    """Whether no stroke is wider than a pen: 40 % of the height, where that can be told at all."""
    from scipy import ndimage

    if len(glyph) < 8:
        return True
    return bool(2 * ndimage.distance_transform_edt(np.pad(glyph, 1)).max() <= _PEN * len(glyph) + 1)


def _beside(shape: tuple[int, ...], head: Head | None) -> np.ndarray:
    """What lies clear of the head, bool (H, W)."""
    from scipy import ndimage

    if head is None:
        return np.zeros(shape, dtype=bool)
    # Distances on the small picture, looked up at full size: no dilation by dozens of pixels.
    clear = ndimage.distance_transform_edt(~head.mask) > _MARGIN * max(head.mask.shape)
    rows, columns = (
        np.minimum((np.arange(length) * small) // length, small - 1)
        for length, small in zip(shape, clear.shape, strict=True)
    )
    return clear[np.ix_(rows, columns)]
