"""One volume from a file or a DICOM series -> tensor with its affine."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, ensure_tuple_rep

from .. import keys as names
from ..data.reading.volumes import read_volume

__all__ = ["LoadVolume", "LoadVolumeD", "LoadVolumeDict", "LoadVolumed"]

_LOGGER = logging.getLogger(__name__)


class LoadVolume(Transform):
    """Load a volume as a tensor (1, X, Y, Z), axes as stored.

    Reads ``.nii``, ``.nii.gz``, ``.mha``, ``.nrrd``, a DICOM file (which stands for its series) and a folder with one
    DICOM series. The result is float32 with these entries in ``meta``, the same for every kind of file so that mixed
    batches collate:

    - ``filename_or_obj``: the path; ``modality``: as given or as DICOM says, or an empty string;
    - ``windowed``: False, values are physical units (HU for CT);
    - ``affine``, ``original_affine``: voxel -> RAS millimetres; ``space``: ``RAS``; ``spatial_shape``: (X, Y, Z).

    What is worth knowing about a volume that can be used, such as values that are no Hounsfield units, is logged as a
    warning; :func:`~monai_ctmri.data.reading.volumes.read_volume` returns it.

    Args:
        modality: ``"ct"`` or ``"mri"``. Defaults to None: as DICOM says.
        allow_resample: interpolate tilted and unevenly spaced DICOM series to an even grid instead of refusing them.
            Defaults to False.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, modality: str | None = None, allow_resample: bool = False) -> None:
        self.modality = modality
        self.allow_resample = allow_resample

    def __call__(self, path: str | PathLike[str]) -> torch.Tensor:
        """Load ``path``.

        Raises:
            InputError: as :func:`~monai_ctmri.data.reading.volumes.read_volume`.
        """
        volume = read_volume(path, self.modality, allow_resample=self.allow_resample)
        for finding in volume.findings:
            _LOGGER.warning("%s: %s, %s", finding.file, finding.kind, finding.measure)
        image = torch.from_numpy(volume.array[None])
        if not get_track_meta():
            return image
        meta = {
            "filename_or_obj": fspath(path),
            "modality": volume.modality or "",
            "windowed": False,
            "original_affine": volume.affine.copy(),
            "spatial_shape": np.asarray(volume.shape),
            "space": "RAS",
        }
        return MetaTensor(image, affine=torch.from_numpy(volume.affine.copy()), meta=meta)


class LoadVolumed(MapTransform):
    """Dictionary-based wrapper of :py:class:`LoadVolume`.

    An entry that is None or an empty string counts as missing and is left out of the result, as manifests mark an
    absent modality that way.

    Args:
        keys: entries that hold paths. See also: MapTransform.
        modality: ``"ct"``, ``"mri"`` or None, or one a key. Defaults to the key itself where it is ``ct`` or ``mri``.
        allow_resample: see :py:class:`LoadVolume`. Defaults to False.
        allow_missing_keys: don't raise when a key is missing. Defaults to True, since a case may have one modality.
    """

    backend = LoadVolume.backend

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        modality: str | tuple[str | None, ...] | None = None,
        allow_resample: bool = False,
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if modality is None:
            given = tuple(str(key) if key in names.MODALITIES else None for key in self.keys)
        else:
            given = ensure_tuple_rep(modality, len(self.keys))
        self.loaders = {key: LoadVolume(name, allow_resample) for key, name in zip(self.keys, given, strict=True)}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its volume.

        Raises:
            InputError: as :class:`LoadVolume`.
        """
        d = {key: value for key, value in data.items() if not (key in self.keys and (value is None or value == ""))}
        for key in self.key_iterator(d):
            d[key] = self.loaders[key](d[key])
        return d


LoadVolumeD = LoadVolumeDict = LoadVolumed
