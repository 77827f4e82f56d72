"""One axial slice or mask from a file: picture, ``.npy`` or NIfTI -> tensor in picture orientation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data import MetaTensor, NibabelReader, NumpyReader, PILReader, get_track_meta
from monai.transforms import LoadImage, MapTransform, Transform
from monai.utils import TransformBackends, ensure_tuple_rep

from .. import keys as names
from ..errors import InputError

__all__ = [
    "LoadMask",
    "LoadMaskD",
    "LoadMaskDict",
    "LoadMaskd",
    "LoadSlice",
    "LoadSliceD",
    "LoadSliceDict",
    "LoadSliced",
]

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_JPEGS = (".jpg", ".jpeg")
_LARGEST_SIDE = 16384
_REMEDY = "export the slice again as PNG, .npy or NIfTI"


class _UnusableError(ValueError):
    """A file was read and does not hold one slice; the message is the problem half of an :class:`InputError`."""


def _one_grey_channel(picture: Any) -> Any:
    """Turn a colour, palette or bilevel PIL picture into 8-bit grey; leave 16-bit, 32-bit and float pictures alone."""
    if getattr(picture, "n_frames", 1) > 1:
        raise _UnusableError(f"holds {picture.n_frames} frames, not one slice")
    picture.load()
    return picture if picture.mode == "L" or picture.mode.startswith(("I", "F")) else picture.convert("L")


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is no single slice before any of its values is read."""
    sides = [side for side in shape if side != 1]
    if len(shape) < 2 or 0 in shape:
        raise _UnusableError(f"has shape {shape}, not a slice")
    if len(sides) > 2:
        raise _UnusableError(f"has shape {shape}: a volume, not one slice")
    if any(side > _LARGEST_SIDE for side in sides):
        raise _UnusableError(f"has shape {shape}: a side above {_LARGEST_SIDE} pixels")


def _to_picture(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorient a NIfTI slice to rows = anterior to posterior, columns = patient right to left; also its affine."""
    array = array.reshape(*array.shape[:2], *array.shape[2:3]) if array.ndim > 2 else array[..., None]
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS"))
    affine = affine @ nib.orientations.inv_ornt_aff(change, array.shape)
    array = nib.orientations.apply_orientation(array, change)
    if array.shape[2] != 1:
        raise _UnusableError("is a coronal or sagittal slice by its affine, not an axial one")
    return np.ascontiguousarray(array[..., 0].T), affine[:, [1, 0, 2, 3]]


class LoadSlice(Transform):
    """Load one axial slice as a tensor in picture orientation.

    Pictures (PNG, JPEG, BMP, TIFF) and ``.npy`` arrays are taken as they lie: row 0 is the top. A NIfTI slice of
    shape (X, Y) or (X, Y, 1) is reoriented through its affine (to LPS, then transposed), which gives the radiological
    view: row 0 anterior, column 0 the patient's right. Colour pictures become one grey channel (ITU-R 601-2 luma);
    16-bit ones keep their values. Pickled arrays are refused.

    The result is float32 of shape (1, H, W) with these entries in ``meta``, the same for every kind of file so that
    mixed batches collate:

    - ``filename_or_obj``: the path; ``modality``: as given, or an empty string;
    - ``windowed``: True for 8-bit pictures and uint8 arrays, whose values are grey levels 0..255; False otherwise,
      where values are physical units (HU for CT);
    - ``affine``, ``original_affine``: (row, column, slice) respectively stored voxel -> RAS millimetres; identity for
      pictures and arrays, which have no geometry. ``original_shape``: the stored shape.

    Args:
        modality: name written to ``meta["modality"]``, e.g. ``"ct"``. Defaults to None.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012  (the type MONAI declares)

    def __init__(self, modality: str | None = None) -> None:
        self.modality = modality
        self._pictures = PILReader(converter=_one_grey_channel, reverse_indexing=False)
        self._arrays = NumpyReader()
        self._niftis = NibabelReader()
        self._load = LoadImage(dtype=None)

    def __call__(self, path: str | PathLike[str]) -> torch.Tensor:
        """Load ``path``.

        Raises:
            InputError: when the file is missing, broken, pickled, of an unknown kind, not one axial slice, or holds
                values that are not finite numbers.
        """
        try:
            pixels, meta = self._read(Path(path))
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError.about(path, "no such file", "correct the path in the manifest") from error
        except _UnusableError as error:
            raise InputError.about(path, str(error), "give one file for each axial slice") from error
        except Exception as error:  # broken bytes make readers raise OSError, SyntaxError, zlib.error ...
            raise InputError.about(path, f"cannot be read ({type(error).__name__})", _REMEDY) from error
        if not np.isfinite(pixels).all():
            raise InputError.about(path, "holds values that are not finite", "replace NaN and infinity by background")
        image = torch.from_numpy(pixels[None])
        return MetaTensor(image, affine=meta.pop("affine"), meta=meta) if get_track_meta() else image

    def _read(self, path: Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Return pixels (H, W) float32 and meta."""
        if not path.exists():
            raise FileNotFoundError(path)
        name = path.name.lower()
        if name.endswith(_PICTURES):
            loaded = self._load(path, reader=self._pictures)
        elif name.endswith(".npy"):
            _check_shape(np.load(path, mmap_mode="r", allow_pickle=False).shape)
            loaded = self._load(path, reader=self._arrays)
        elif name.endswith((".nii", ".nii.gz")):
            _check_shape(nib.load(path).shape)  # type: ignore[attr-defined]
            loaded = self._load(path, reader=self._niftis)
        else:
            raise InputError.about(path, "is of a kind not known here", _REMEDY)
        array = np.asarray(loaded)
        _check_shape(array.shape)
        if array.dtype.kind not in "biuf":
            raise _UnusableError(f"holds values of type {array.dtype}, not real numbers")
        shape, stored = array.shape, np.eye(4)
        if name.endswith((".nii", ".nii.gz")):
            stored = np.asarray(loaded.affine, dtype=float)
            windowed = False
            array, affine = _to_picture(array, stored)
        else:
            windowed, affine = array.dtype == np.uint8, np.eye(4)
            array = array.reshape([side for side in shape if side != 1]) if array.ndim > 2 else array
        meta = {
            "affine": torch.as_tensor(affine.copy()),
            "filename_or_obj": fspath(path),
            "modality": self.modality or "",
            "windowed": bool(windowed),
            "original_affine": stored,
            "original_shape": np.asarray(shape[:2]),
            "space": "RAS",
        }
        return np.ascontiguousarray(array, dtype=np.float32), meta


class LoadMask(Transform):
    """Load a binary mask as float32 {0, 1} of shape (1, H, W), with the geometry and errors of :class:`LoadSlice`.

    A pixel belongs to the mask when its value is above 0; in a JPEG, whose compression rings, when it is above 127.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012  (the type MONAI declares)

    def __init__(self) -> None:
        self._load = LoadSlice(names.MASK)

    def __call__(self, path: str | PathLike[str]) -> torch.Tensor:
        """Load ``path``.

        Raises:
            InputError: as :class:`LoadSlice`.
        """
        mask = self._load(path)
        return (mask > (127 if fspath(path).lower().endswith(_JPEGS) else 0)).to(torch.float32)


class LoadSliced(MapTransform):
    """Dictionary-based wrapper of :py:class:`LoadSlice`.

    An entry that is None or an empty string counts as missing and is left out of the result, as manifests mark an
    absent modality that way.

    Args:
        keys: entries that hold paths. See also: MapTransform.
        modality: name or one name a key for ``meta["modality"]``. Defaults to None: the key itself.
        allow_missing_keys: don't raise when a key is missing. Defaults to True, since a case may have one modality.
    """

    backend = LoadSlice.backend

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        modality: str | tuple[str, ...] | None = None,
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        given = [str(key) for key in self.keys] if modality is None else ensure_tuple_rep(modality, len(self.keys))
        self.loaders = {key: LoadSlice(name) for key, name in zip(self.keys, given, strict=True)}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its slice.

        Raises:
            InputError: as :class:`LoadSlice`.
        """
        d = _without_empty(data, self.keys)
        for key in self.key_iterator(d):
            d[key] = self.loaders[key](d[key])
        return d


class LoadMaskd(MapTransform):
    """Dictionary-based wrapper of :py:class:`LoadMask`.

    Args:
        keys: entries that hold paths; None or an empty string counts as missing. See also: MapTransform.
        allow_missing_keys: don't raise when a key is missing. Defaults to True, since normal cases have no mask.
    """

    backend = LoadMask.backend

    def __init__(self, keys: KeysCollection = names.MASK, allow_missing_keys: bool = True) -> None:
        super().__init__(keys, allow_missing_keys)
        self.loader = LoadMask()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its mask.

        Raises:
            InputError: as :class:`LoadSlice`.
        """
        d = _without_empty(data, self.keys)
        for key in self.key_iterator(d):
            d[key] = self.loader(d[key])
        return d


def _without_empty(data: Mapping[Hashable, Any], keys: tuple[Hashable, ...]) -> dict[Hashable, Any]:
    """Copy ``data`` without the entries of ``keys`` that name no file."""
    return {key: value for key, value in data.items() if not (key in keys and (value is None or value == ""))}


LoadSliceD = LoadSliceDict = LoadSliced
LoadMaskD = LoadMaskDict = LoadMaskd
