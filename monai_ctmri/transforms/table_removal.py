"""CT without the table: the head is kept, head-holder, cushions, wires and letters become air."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from scipy import ndimage

from .. import keys as names
from .ct import holds_hounsfield

__all__ = ["RemoveTable", "RemoveTableD", "RemoveTableDict", "RemoveTabled"]

_AIR_HU = -1000.0
_BODY_HU = -400.0
_ABOVE_AIR = 0.15
_OPENING = 0.04
_EAR = 0.25
_EAR_LENGTH = 0.75
_SCALP = 0.12
_WORKING_SIDE = 320
_SMALLEST_HEAD = 0.01


class RemoveTable(Transform):
    """Set everything around the head to air: table, head-holder, cushions, wires, letters.

    What is not air (above -400 HU; for grey levels above 15 % of the way from the darkest corner to the maximum) is
    opened with a ball of 4 % of the head's radius, which parts the head from shells that touch it. The largest piece,
    holes filled, is the head's core; in grey levels, where fat and sinuses are as black as air, so is every thick
    piece less than 12 % of the radius away (face, jaw, brain behind an open skull).

    Thin parts that the opening took come back: a piece is kept whole while it stays within 25 % of the radius (about
    20 mm: ears, folds of skin, the line of skin that a brain window parts from the skull); in HU, where scalp is no
    piece of its own, one that lies apart must also be no longer than 75 % of the radius (an ear). A piece that reaches
    farther is a holder that touches the head: of it, what is no longer a way than that from the core is kept, and in
    grey levels all that lies within 12 % (about 10 mm, a scalp). A rest of a holder that touches is preferred to an
    ear that is cut.

    The radius is that of a disk with the area of the head in its largest axial plane; so no unit is needed, and
    pictures of any zoom work alike. Volumes take their voxel size from the affine, so that thick slices count as such.

    The result is float32 of the input's shape; outside the mask it is -1000 in HU and 0 in grey levels, inside it is
    untouched. Where nothing stands out of air, the image stays as it is and the mask is empty.

    Args:
        margin: what is kept around the head, as a share of its radius. Defaults to 0.04, about 3 mm: the blurred edge
            of the skin.
        windowed: whether the input is grey levels; None asks as :py:func:`~monai_ctmri.transforms.ct.holds_hounsfield`
            does. Defaults to None.

    Raises:
        ValueError: when ``margin`` is negative.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, margin: float = 0.04, windowed: bool | None = None) -> None:
        if not margin >= 0:
            raise ValueError(f"margin must not be negative, got {margin}.")
        self.margin = float(margin)
        self.windowed = windowed

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Clear the surroundings of the head in ``img``, (C, H, W) or (C, X, Y, Z) with axial planes (X, Y)."""
        return self.separate(img)[0]

    def separate(self, img: NdarrayOrTensor) -> tuple[NdarrayOrTensor, NdarrayOrTensor]:
        """Return the cleared image, and the float32 {0, 1} mask (1, spatial...) of what was kept."""
        source = convert_to_tensor(img, track_meta=get_track_meta())
        values = source.detach().cpu().numpy().astype(np.float32)
        if values.ndim not in (3, 4):
            raise ValueError(f"expected (C, H, W) or (C, X, Y, Z), got shape {values.shape}.")
        hounsfield = holds_hounsfield(source, self.windowed)
        kept = _keep(values.max(axis=0), hounsfield, _voxel_size(source, values.ndim - 1), self.margin)
        if kept.any():
            values = np.where(kept, values, np.float32(_AIR_HU if hounsfield else 0.0))
        out = convert_to_dst_type(values, source, dtype=np.float32)[0]
        return out, convert_to_dst_type(kept[None].astype(np.float32), source, dtype=np.float32)[0]


def _voxel_size(img: object, dims: int) -> tuple[float, ...]:
    """Voxel size of a volume by its affine; pictures and tensors without one have square pixels."""
    if dims == 3 and isinstance(img, MetaTensor):
        size = np.linalg.norm(np.asarray(img.affine, dtype=np.float64)[:3, :3], axis=0)
        if np.isfinite(size).all() and (size > 0).all():
            return tuple(float(each) for each in size)
    return (1.0,) * dims


def _keep(values: np.ndarray, hounsfield: bool, size: tuple[float, ...], margin: float) -> np.ndarray:
    """Mask of what is kept, on a grid of at most ``_WORKING_SIDE`` pixels a plane: thin skin is a block's maximum."""
    step = math.ceil(max(values.shape[:2]) / _WORKING_SIDE)
    steps = (step, step, *(1 for _ in values.shape[2:]))
    padding = [(0, -length % by) for length, by in zip(values.shape, steps, strict=True)]
    body = np.pad(values > _body_level(values, hounsfield), padding)
    for axis in range(2):
        body = np.maximum.reduceat(body, np.arange(0, body.shape[axis], step), axis=axis)
    kept = _head(body, tuple(a * b for a, b in zip(size, steps, strict=True)), hounsfield, margin)
    for axis in range(2):
        kept = np.repeat(kept, step, axis=axis)
    return kept[tuple(slice(length) for length in values.shape)]


def _body_level(values: np.ndarray, hounsfield: bool) -> float:
    """Value above which there is no air."""
    if hounsfield:
        return _BODY_HU
    rows, columns = (max(1, length // 16) for length in values.shape[:2])
    corners = [values[r, c] for r in (slice(rows), slice(-rows, None)) for c in (slice(columns), slice(-columns, None))]
    air = min(float(np.median(corner)) for corner in corners)
    return air + _ABOVE_AIR * (float(values.max()) - air)


def _head(body: np.ndarray, size: tuple[float, ...], hounsfield: bool, margin: float) -> np.ndarray:
    radius = _radius(_fill(_largest(body)), size)
    opened = ndimage.distance_transform_edt(body, sampling=size) > _OPENING * radius
    core = _largest(opened)
    if core.sum() < _SMALLEST_HEAD * body.shape[0] * body.shape[1]:
        return np.zeros_like(body)
    if not hounsfield:
        joined = ndimage.distance_transform_edt(~opened, sampling=size) <= (_OPENING + _SCALP / 2) * radius
        labels, _ = ndimage.label(joined)
        core = opened & (labels == labels[core][0])
    core = ndimage.distance_transform_edt(~core, sampling=size) <= _OPENING * radius
    core = _fill(core & body)
    radius = _radius(core, size)
    reach = ndimage.distance_transform_edt(~core, sampling=size)
    kept = core.copy()
    labels, count = ndimage.label(body & ~core, structure=np.ones((3,) * body.ndim))
    farthest = ndimage.maximum(reach, labels, np.arange(1, count + 1)) if count else np.zeros(0)
    stays = np.concatenate([[False], np.asarray(farthest) <= _EAR * radius])
    if hounsfield:
        touched = np.unique(labels[ndimage.binary_dilation(core)])
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            length = max((box[axis].stop - box[axis].start) * size[axis] for axis in range(2))
            # In HU the scalp is one with the head: what lies apart and is longer than an ear is a holder close by.
            stays[label] &= label in touched or length <= _EAR_LENGTH * radius
    near = stays[labels]
    kept |= near
    touching = body & ~core & ~near
    kept |= touching & (_way(core, touching, size) <= _EAR * radius)
    if not hounsfield:
        kept |= touching & (reach <= _SCALP * radius)
    kept = _fill(kept)
    gone = body & ~kept
    # The blurred edge of what goes must go with it, else its outline would stay within the margin.
    blurred = ndimage.binary_dilation(gone) & ~kept if gone.any() else gone
    return (ndimage.distance_transform_edt(~kept, sampling=size) <= margin * radius) & ~blurred


def _way(core: np.ndarray, ways: np.ndarray, size: tuple[float, ...]) -> np.ndarray:
    """Length of the shortest way from ``core`` within ``ways``, in the unit of ``size``; infinite without one."""
    from skimage.graph import MCP_Geometric

    starts = core & ndimage.binary_dilation(ways)
    if not starts.any():
        return np.full(core.shape, np.inf)
    return MCP_Geometric(np.where(ways | starts, 1.0, -1.0), sampling=size).find_costs(np.argwhere(starts))[0]


def _radius(mask: np.ndarray, size: tuple[float, ...]) -> float:
    """Radius of a disk with the area of the mask in its largest plane, in the unit of ``size``."""
    return math.sqrt(float(np.max(mask.sum(axis=(0, 1)))) * size[0] * size[1] / math.pi)


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else mask


def _fill(mask: np.ndarray) -> np.ndarray:
    """Fill holes plane by plane: a volume that ends inside the head is open at its ends."""
    if mask.ndim == 2:
        return ndimage.binary_fill_holes(mask)
    return np.stack([ndimage.binary_fill_holes(mask[..., k]) for k in range(mask.shape[2])], axis=-1)


class RemoveTabled(MapTransform):
    """Dictionary-based wrapper of :py:class:`RemoveTable`.

    Args:
        keys: entries that hold CT. Defaults to ``"ct"``. See also: MapTransform.
        margin: what is kept around the head, as a share of its radius. Defaults to 0.04.
        windowed: whether the input is grey levels; None asks ``meta``. Defaults to None.
        mask_key: entry that gets the mask of what was kept, from the first key there is; None writes none. Defaults
            to None.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = RemoveTable.backend

    def __init__(
        self,
        keys: KeysCollection = names.CT,
        margin: float = 0.04,
        windowed: bool | None = None,
        mask_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.transform = RemoveTable(margin, windowed)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Clear the entries of ``keys``."""
        d = dict(data)
        written = self.mask_key is None
        for key in self.key_iterator(d):
            d[key], mask = self.transform.separate(d[key])
            if not written:
                d[self.mask_key], written = mask, True
        return d


RemoveTableD = RemoveTableDict = RemoveTabled
