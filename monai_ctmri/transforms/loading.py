"""One axial slice or mask from a file: picture, ``.npy`` or volume -> tensor in picture orientation."""

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
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, ensure_tuple_rep

from .. import keys as names
from ..data.formats import ARRAY_SUFFIXES, PICTURE_SUFFIXES, VOLUME_SUFFIXES, suffix_of
from ..data.reading.volumes import read_header, read_volume
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

_JPEGS = (".jpg", ".jpeg")
_NIFTIS = (".nii", ".nii.gz")
_LARGEST_SIDE = 16384


class _UnusableError(ValueError):
    """A file was read and does not hold one slice; the message is the problem half of an :class:`InputError`."""


def _one_grey_channel(picture: Any) -> Any:
    """Turn a colour, palette or bilevel PIL picture into 8-bit grey; leave 16-bit, 32-bit and float pictures alone."""
    if getattr(picture, "n_frames", 1) > 1:
        raise _UnusableError(f"holds {picture.n_frames} frames, not one slice")
    picture.load()
    return picture if picture.mode == "L" or picture.mode.startswith(("I", "F")) else picture.convert("L")


def _check(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse what is no single slice of numbers; called on headers, before a value is read."""
    if len(shape) < 2 or 0 in shape:
        raise _UnusableError(f"has shape {shape}, not a slice")
    if sum(side > 1 for side in shape) > 2:
        raise _UnusableError(f"has shape {shape}: a volume, not one slice")
    if max(shape) > _LARGEST_SIDE:
        raise _UnusableError(f"has shape {shape}: a side above {_LARGEST_SIDE} pixels")
    if dtype.kind not in "biuf":
        raise _UnusableError(f"holds values of type {dtype}, not real numbers")


def _to_plane(array: np.ndarray) -> np.ndarray:
    """Drop axes of length 1 from (1, H, W) or (H, W, 1) until two are left."""
    while array.ndim > 2:
        array = array.squeeze(axis=array.shape.index(1))
    return array


def _to_picture(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorient a volume's slice to rows = anterior to posterior, columns = patient right to left; also its affine."""
    array = array.reshape((*array.shape, 1)[:3])
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS"))
    affine = affine @ nib.orientations.inv_ornt_aff(change, array.shape)
    array = nib.orientations.apply_orientation(array, change)
    if array.shape[2] != 1:
        raise _UnusableError("is a coronal or sagittal slice by its affine, not an axial one")
    return array[..., 0].T, affine[:, [1, 0, 2, 3]]


class LoadSlice(Transform):
    """Load one axial slice as a tensor in picture orientation.

    Pictures (PNG, JPEG, TIFF) and ``.npy`` arrays are taken as they lie: row 0 is the top. A slice of shape (X, Y) or
    (X, Y, 1) in a NIfTI, MetaImage (``.mha``) or NRRD file is reoriented through its affine (to LPS, then transposed),
    which gives the radiological view: row 0 anterior, column 0 the patient's right. Colour pictures become one grey
    channel (ITU-R 601-2 luma); 16-bit ones keep their values. Pickled arrays are refused.

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

    backend = [TransformBackends.NUMPY]

    def __init__(self, modality: str | None = None) -> None:
        self.modality = modality
        self._pictures = PILReader(converter=_one_grey_channel, reverse_indexing=False)
        self._arrays = NumpyReader()
        self._niftis = NibabelReader()

    def __call__(self, path: str | PathLike[str]) -> torch.Tensor:
        """Load ``path``.

        Raises:
            InputError: when the file is missing, broken, pickled, of an unknown kind, not one axial slice, or holds
                values that are not finite.
        """
        try:
            pixels, meta = self._read(Path(path))
        except FileNotFoundError as error:
            raise InputError.about(path, "no such file", "correct the path in the manifest") from error
        except InputError:
            raise
        except _UnusableError as error:
            raise InputError.about(path, str(error), "give one file for each axial slice") from error
        except Exception as error:  # broken bytes make readers raise OSError, SyntaxError, EOFError, zlib.error ...
            problem = f"cannot be read as a slice ({type(error).__name__})"
            raise InputError.about(path, problem, "replace the file or take the case out of the manifest") from error
        if not np.isfinite(pixels).all():
            raise InputError.about(path, "holds values that are not finite", "replace NaN and infinity by background")
        image = torch.from_numpy(pixels[None])
        return MetaTensor(image, affine=meta.pop("affine"), meta=meta) if get_track_meta() else image

    def _read(self, path: Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Return pixels (H, W) float32 and meta, ``affine`` among it."""
        if not path.exists():
            raise FileNotFoundError(path)
        if not path.is_file():  # a pipe would be waited for without end
            raise _UnusableError("is a folder or device, not a file")
        suffix = suffix_of(path)
        stored = np.eye(4)
        if suffix in PICTURE_SUFFIXES:
            array, _ = self._pictures.get_data(self._pictures.read(path))
            _check(array.shape, array.dtype)
            windowed = array.dtype == np.uint8
        elif suffix in ARRAY_SUFFIXES:
            header = np.load(path, mmap_mode="r", allow_pickle=False)
            _check(header.shape, header.dtype)
            windowed = header.dtype == np.uint8
            array, _ = self._arrays.get_data(self._arrays.read(path))
        elif suffix in _NIFTIS:
            image = self._niftis.read(path)
            _check(image.shape, image.get_data_dtype())
            windowed = False
            array, header = self._niftis.get_data(image)
            stored = np.asarray(header["affine"], dtype=float)
        elif suffix in VOLUME_SUFFIXES:
            _check(read_header(path).shape, np.dtype(np.float32))
            volume, windowed = read_volume(path), False
            array, stored = volume.array, volume.affine
        else:
            known = ", ".join((*PICTURE_SUFFIXES, *ARRAY_SUFFIXES, *VOLUME_SUFFIXES))
            raise _UnusableError(f"is of a kind not known here (known: {known})")
        plane, affine = _to_picture(array, stored) if suffix in VOLUME_SUFFIXES else (_to_plane(array), stored)
        meta = {
            "affine": torch.from_numpy(affine.copy()),
            "filename_or_obj": fspath(path),
            "modality": self.modality or "",
            "windowed": bool(windowed),
            "original_affine": stored,
            "original_shape": np.asarray(array.shape[:2]),
            "space": "RAS",
        }
        return np.array(plane, dtype=np.float32, order="C"), meta


class LoadMask(Transform):
    """Load a binary mask as float32 {0, 1} of shape (1, H, W), with the geometry and errors of :class:`LoadSlice`.

    A pixel belongs to the mask when its value is above 0; in a JPEG, whose compression rings, when it is above 127.
    """

    backend = [TransformBackends.NUMPY]

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
