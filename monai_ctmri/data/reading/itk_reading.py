"""Pixels by ITK, through MONAI's reader, without ITK's warnings on the console."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["decode", "quiet_itk"]


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK's warnings off the console while the block runs; the state before comes back."""
    import itk

    shown = itk.Object.GetGlobalWarningDisplay()
    itk.Object.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        itk.Object.SetGlobalWarningDisplay(shown)


def decode(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], image_io: str
) -> tuple[np.ndarray, np.ndarray]:
    """Decode one file, or the files of a series in the order given.

    Args:
        source: the file or files; those of a series rising along the normal of its slices, as ITK takes it.
        image_io: ITK's class for the format (``MetaImageIO``, ``NrrdImageIO``, ``GDCMImageIO``); no other is tried.

    Returns:
        The array float32 in ITK's order of axes (first axis fastest in the file) and the affine (4, 4) to RAS mm.

    Raises:
        RuntimeError: or whatever else ITK throws at a broken file.
    """
    import itk
    from monai.data import ITKReader

    many = not isinstance(source, str | os.PathLike)
    names: Any = [os.fspath(each) for each in source] if many else os.fspath(source)  # type: ignore[union-attr,arg-type]
    with quiet_itk():
        image = itk.imread(names, itk.F, imageio=getattr(itk, image_io).New())
        # MONAI's reader gives a view into ITK's memory: copy while the image is alive.
        array, meta = ITKReader().get_data(image)
        return np.array(array, dtype=np.float32, order="C"), np.asarray(meta["affine"], dtype=np.float64)
