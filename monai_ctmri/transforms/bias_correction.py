"""MRI without the coil's shading: N4 bias field correction by ITK."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from scipy import ndimage

from .. import keys as names
from .mri import mask_like

__all__ = ["CorrectBiasField", "CorrectBiasFieldD", "CorrectBiasFieldDict", "CorrectBiasFieldd"]

_FEWEST = 64
_TINY = 1e-3


class CorrectBiasField(Transform):
    """Divide MRI by the smooth gain of its coil, estimated by N4.

    N4 (Tustison et al., IEEE Trans Med Imaging 29(6), 2010; ``itk.N4BiasFieldCorrectionImageFilter``) sharpens the
    histogram of log intensities and fits what is left by cubic B-splines, coarse to fine. It runs on block means of the
    image, which is what smooth fields need; the log field is then interpolated to full resolution and the untouched
    image divided by its exponential. The field has mean 0 (in logarithm) over the mask, so the overall level stays, and
    the correction does not see the image's scale. One thread, no random draw: the same input gives the same result.

    The result is float32 of the input's shape, zero and negative values keep their sign; each channel is treated on its
    own. Where the mask holds too little to fit (fewer than 64 block means above 0, or all alike), nothing is corrected.

    A large lesion is smooth too: fine levels may take a part of it for shading. The default stops at a mesh of 4
    elements a side (fields that vary over a quarter of the image).

    Args:
        shrink: block size in voxels of an axis; an axis that would keep fewer than 64 blocks gets less. Defaults to 4.
        iterations: most iterations of each level, coarse to fine; the mesh doubles from level to level. Defaults to
            (50, 50, 50).

    Raises:
        ValueError: when an argument is out of range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, shrink: int = 4, iterations: Sequence[int] = (50, 50, 50)) -> None:
        if shrink < 1:
            raise ValueError(f"shrink must be at least 1, got {shrink}.")
        if not iterations or any(each < 1 for each in iterations):
            raise ValueError(f"iterations must be positive numbers, got {tuple(iterations)}.")
        self.shrink = int(shrink)
        self.iterations = tuple(int(each) for each in iterations)

    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> NdarrayOrTensor:
        """Correct ``img`` of shape (C, H, W) or (C, X, Y, Z).

        Args:
            img: MRI in any unit, 0 where there is no signal.
            mask: (1, spatial...), above 0 where the field is estimated; the head where it is None.
        """
        source = convert_to_tensor(img, track_meta=get_track_meta())
        values = source.detach().cpu().numpy().astype(np.float32)
        out = values / np.exp(self.log_field(img, mask))
        return convert_to_dst_type(out, source, dtype=np.float32)[0]

    def log_field(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> np.ndarray:
        """Logarithm of the estimated gain, float32 of the shape of ``img``."""
        source = convert_to_tensor(img, track_meta=False)
        values = source.detach().cpu().numpy().astype(np.float32)
        if values.ndim not in (3, 4):
            raise ValueError(f"expected (C, H, W) or (C, X, Y, Z), got shape {values.shape}.")
        if mask is not None:
            inside = mask_like(mask, source)[0].cpu().numpy()
            return np.stack([self._field(channel, inside) for channel in values])
        masks = (mask_like(None, source[c : c + 1])[0].cpu().numpy() for c in range(len(values)))
        return np.stack([self._field(channel, inside) for channel, inside in zip(values, masks, strict=True)])

    def _field(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        blocks = tuple(max(1, min(self.shrink, length // _FEWEST)) for length in values.shape)
        # Blocks half in air would tell of the outline, not of the coil.
        small, whole = _block_means(values, blocks), _block_means(inside.astype(np.float32), blocks) == 1
        level = float(small[whole].mean()) if whole.any() else 0.0
        usable = whole & (small > _TINY * level)
        if level <= 0 or usable.sum() < 64 or small[usable].min() == small[usable].max():
            return np.zeros_like(values)
        coarse = _n4(np.maximum(small / level, _TINY), usable, self.iterations)
        grid = np.meshgrid(
            *((np.arange(n) - (by - 1) / 2) / by for n, by in zip(values.shape, blocks, strict=True)),
            indexing="ij",
            sparse=True,
        )
        field = ndimage.map_coordinates(coarse, np.broadcast_arrays(*grid), order=3, mode="nearest")
        return (field - field[inside].mean()).astype(np.float32)


def _block_means(values: np.ndarray, blocks: tuple[int, ...]) -> np.ndarray:
    """Mean of each block; the last one of an axis repeats the edge where it is not full."""
    from skimage.measure import block_reduce

    padding = [(0, -length % by) for length, by in zip(values.shape, blocks, strict=True)]
    return block_reduce(np.pad(values, padding, mode="edge"), blocks, np.mean)


def _n4(values: np.ndarray, mask: np.ndarray, iterations: tuple[int, ...]) -> np.ndarray:
    """Log field that N4 finds in positive values, at their resolution."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(values, dtype=np.float32))
    region = itk.image_from_array(np.ascontiguousarray(mask, dtype=np.uint8))
    corrector = itk.N4BiasFieldCorrectionImageFilter[type(image), type(region), type(image)].New()
    corrector.SetInput(image)
    corrector.SetMaskImage(region)
    corrector.SetMaskLabel(1)
    corrector.SetUseMaskLabel(True)
    corrector.SetNumberOfFittingLevels(len(iterations))
    corrector.SetMaximumNumberOfIterations(list(iterations))
    # Sums over threads depend on their number: one gives the same field on every machine.
    corrector.SetNumberOfWorkUnits(1)
    corrector.Update()
    corrected = itk.array_from_image(corrector.GetOutput())
    # The filter divides by the field everywhere, so the field is what it divided by.
    field = np.log(values) - np.log(np.maximum(corrected, np.finfo(np.float32).tiny))
    return np.where(np.isfinite(field), field, 0.0)


class CorrectBiasFieldd(MapTransform):
    """Dictionary-based wrapper of :py:class:`CorrectBiasField`.

    Args:
        keys: entries that hold MRI. Defaults to ``"mri"``. See also: MapTransform.
        mask_key: entry that holds where the field is estimated; a case without it gets the head mask. Defaults to
            ``"brain"``.
        shrink: block size in voxels. Defaults to 4.
        iterations: most iterations of each level. Defaults to (50, 50, 50).
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = CorrectBiasField.backend

    def __init__(
        self,
        keys: KeysCollection = names.MRI,
        mask_key: str = "brain",
        shrink: int = 4,
        iterations: Sequence[int] = (50, 50, 50),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.transform = CorrectBiasField(shrink, iterations)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Correct the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], d.get(self.mask_key))
        return d


CorrectBiasFieldD = CorrectBiasFieldDict = CorrectBiasFieldd
