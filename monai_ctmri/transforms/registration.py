"""Registration of CT and MRI of one head as transforms: one image is brought onto the grid of the other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.data.utils import to_affine_nd
from monai.transforms import InvertibleTransform, MapTransform, SpatialResample
from monai.utils import TraceKeys, TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep

from .. import keys as names
from ..errors import InputError
from .itk_registration import KINDS, Registration, register_volumes

__all__ = [
    "RegisterToReference",
    "RegisterToReferenceD",
    "RegisterToReferenceDict",
    "RegisterToReferenced",
]

META_KEY = "registration"
"""Entry of the metadata that holds :meth:`~monai_ctmri.transforms.itk_registration.Registration.summary`."""

_MODES = ("bilinear", "nearest")


class RegisterToReference(InvertibleTransform):
    """Bring an image onto the grid of a reference image of the same head, by Mattes mutual information.

    CT to MRI and MRI to CT work alike. The mapping moves the image's affine, not its voxels, so that it is interpolated
    once, from its own grid to the reference's; outside its field of view it has its lowest value. The metadata gets
    ``registration``: kind, quality (normalised mutual information) and the like, and, where the identity had to be
    used, ``accepted`` 0 and the reason (see :func:`~monai_ctmri.transforms.itk_registration.register_volumes`).
    :py:meth:`inverse` returns to the grid the image came from.

    Args:
        kind: ``rigid`` (default) or ``affine``.
        spacing_mm: finest resolution that is compared, mm. Defaults to 2.
        seed: of the points at which the images are compared; the same seed gives the same result. Defaults to 0.
        mode: interpolation, ``bilinear`` (default; trilinear in a volume) or ``nearest``.

    Raises:
        InputError: for an unknown kind or mode, a spacing that is not positive, or images that are not both volumes
            (C, X, Y, Z) or both pictures (C, H, W).
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, kind: str = "rigid", spacing_mm: float = 2.0, seed: int = 0, mode: str = "bilinear") -> None:
        if kind not in KINDS:
            raise InputError.about("kind", f"got {kind!r}", f"use one of {', '.join(KINDS)}")
        if not spacing_mm > 0:
            raise InputError.about("spacing_mm", f"got {spacing_mm}", "give a resolution in mm above 0")
        if mode not in _MODES:
            raise InputError.about("mode", f"got {mode!r}", f"use one of {', '.join(_MODES)}")
        self.kind = kind
        self.spacing_mm = float(spacing_mm)
        self.seed = int(seed)
        self.mode = mode

    def register(self, img: NdarrayOrTensor, reference: NdarrayOrTensor) -> Registration:
        """Find the mapping reference world -> image world; channels are averaged. Nothing is resampled."""
        moving, fixed = _as_image(img, "image"), _as_image(reference, "reference")
        return register_volumes(
            _mean_channel(fixed),
            _affine(fixed),
            _mean_channel(moving),
            _affine(moving),
            kind=self.kind,
            spacing_mm=self.spacing_mm,
            seed=self.seed,
        )

    def __call__(  # type: ignore[override]
        self, img: NdarrayOrTensor, reference: NdarrayOrTensor, registration: Registration | None = None
    ) -> torch.Tensor:
        """Return ``img`` (C, ...) on the grid of ``reference``, float32.

        Args:
            img: image to move.
            reference: image it is brought to; it is not changed.
            registration: a mapping that is known already; by default it is searched.
        """
        found = self.register(img, reference) if registration is None else registration
        moving, fixed = _as_image(img, "image"), _as_image(reference, "reference")
        moved = np.linalg.inv(found.matrix) @ _affine(moving)
        grid = tuple(fixed.shape[1:])
        out = convert_to_dst_type(_resample(moving, moved, _affine(fixed), grid, self.mode), moving)[0]
        if isinstance(out, MetaTensor) and isinstance(moving, MetaTensor):
            self.push_transform(
                out,
                orig_size=tuple(moving.shape[1:]),
                extra_info={"matrix": found.matrix.copy(), "affine": moving.affine.numpy().copy(), "mode": self.mode},
            )
            out.affine = fixed.affine.clone() if isinstance(fixed, MetaTensor) else torch.eye(4, dtype=torch.float64)
            out.meta[META_KEY] = found.summary()
        return out

    def inverse(self, img: torch.Tensor) -> torch.Tensor:
        """Bring a registered image, or a map made from it that kept its metadata, back to the image's own grid."""
        info = self.pop_transform(img)
        known = info[TraceKeys.EXTRA_INFO]
        original = np.asarray(known["affine"], dtype=np.float64)
        dims = img.ndim - 1
        moved = np.linalg.inv(np.asarray(known["matrix"])) @ to_affine_nd(dims, original)
        size = tuple(int(n) for n in info[TraceKeys.ORIG_SIZE])
        out = convert_to_dst_type(_resample(img, _affine(img), moved, size, known["mode"]), img)[0]
        if isinstance(out, MetaTensor):
            out.affine = torch.as_tensor(original)
            out.meta.pop(META_KEY, None)
        return out


class RegisterToReferenced(MapTransform, InvertibleTransform):
    """Dictionary-based wrapper of :py:class:`RegisterToReference`: one mapping, applied to every key.

    The mapping is searched between the first of ``keys`` that is present and ``reference_key``; further keys (a mask
    drawn on the same image, another contrast of the same scan) share its world coordinates and follow it, each from
    its own grid.

    Args:
        keys: entries to bring to the reference. Defaults to ``"mri"``. See also: MapTransform.
        reference_key: entry whose grid the result has. Defaults to ``"ct"``.
        kind: ``rigid`` (default) or ``affine``.
        spacing_mm: finest resolution that is compared, mm. Defaults to 2.
        seed: of the points at which the images are compared. Defaults to 0.
        mode: interpolation, one for all or one per key (``nearest`` for masks). Defaults to ``bilinear``.
        quality_key: entry that gets the summary of the registration as a dictionary of numbers and strings, or None
            to keep it in the metadata alone. Defaults to ``"registration"``.
        allow_missing_keys: don't raise when a key is missing; without a reference the case is returned as it is.

    Raises:
        InputError: as :py:class:`RegisterToReference`, or when ``reference_key`` is among ``keys``.
        KeyError: when an entry is missing and that is not allowed.
    """

    backend = RegisterToReference.backend

    def __init__(
        self,
        keys: KeysCollection = names.MRI,
        reference_key: Hashable = names.CT,
        kind: str = "rigid",
        spacing_mm: float = 2.0,
        seed: int = 0,
        mode: str | tuple[str, ...] = "bilinear",
        quality_key: str | None = META_KEY,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if reference_key in self.keys:
            raise InputError.about(
                "reference_key", f"{reference_key!r} is among the keys", "name the entry that stays where it is"
            )
        self.reference_key = reference_key
        self.quality_key = quality_key
        self.registrars = [
            RegisterToReference(kind, spacing_mm, seed, one) for one in ensure_tuple_rep(mode, len(self.keys))
        ]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        present = list(self.key_iterator(d, self.registrars))
        if self.reference_key not in d and not self.allow_missing_keys:
            raise KeyError(f"{self.reference_key!r} is missing from the case; {type(self).__name__} needs it")
        if not present or self.reference_key not in d:
            return d
        reference = d[self.reference_key]
        found = self.registrars[0].register(d[present[0][0]], reference)
        for key, registrar in present:
            d[key] = registrar(d[key], reference, found)
        if self.quality_key is not None:
            d[self.quality_key] = found.summary()
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring every key back to the grid it came from."""
        d = dict(data)
        for key, registrar in self.key_iterator(d, self.registrars):
            d[key] = registrar.inverse(d[key])
        return d


def _as_image(img: NdarrayOrTensor, name: str) -> torch.Tensor:
    # The affine is needed even where metadata is not tracked further on.
    tensor = img if isinstance(img, MetaTensor) else convert_to_tensor(img, track_meta=get_track_meta())
    if tensor.ndim not in (3, 4):
        raise InputError.about(
            name, f"got shape {tuple(tensor.shape)}", "give a volume (C, X, Y, Z) or a picture (C, H, W)"
        )
    return tensor if tensor.is_floating_point() else tensor.float()


def _mean_channel(image: torch.Tensor) -> np.ndarray:
    return image.detach().cpu().as_subclass(torch.Tensor).float().mean(dim=0).numpy()


def _affine(image: torch.Tensor) -> np.ndarray:
    """Voxel -> RAS mm for the axes that the image has, (D + 1, D + 1); the identity without metadata."""
    dims = image.ndim - 1
    return (
        to_affine_nd(dims, image.affine.numpy().astype(np.float64))
        if isinstance(image, MetaTensor)
        else np.eye(dims + 1)
    )


def _resample(
    image: torch.Tensor, source: np.ndarray, target: np.ndarray, size: tuple[int, ...], mode: str
) -> torch.Tensor:
    """Interpolate onto another grid; the image's lowest value stands for what it does not see."""
    values = image.detach().as_subclass(torch.Tensor)
    low = values.amin()
    resampler = SpatialResample(mode=mode, padding_mode="zeros", dtype=np.float32)
    out = resampler(MetaTensor(values - low, affine=torch.as_tensor(source)), torch.as_tensor(target), size)
    return out.as_subclass(torch.Tensor) + low


RegisterToReferenceD = RegisterToReferenceDict = RegisterToReferenced
