"""Known anomalies in the normal images of a validation, so that a metric can ask whether they would be found."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from monai.utils import convert_to_numpy

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.brain import BrainMask, HeadMask
from monai_ctmri.transforms.training_anomalies import RandGainShiftd, RandLocalWarpd, RandNoiseBlobsd
from monai_ctmri.transforms.training_anomaly import TrainingAnomaly

__all__ = ["PLANTED", "PLANTED_MASK", "PlantedAnomalyd"]

PLANTED = "planted"
PLANTED_MASK = "planted_mask"

_FAMILY = "A"
_PLANTED, _UNTOUCHED, _NEITHER = 1.0, 0.0, -1.0
logger = logging.getLogger(__name__)


class PlantedAnomalyd(Transform):
    """Write a copy of the image with an anomaly of family A in it, and where it is.

    Place it after the image is stacked; it is not random for MONAI, so CacheDataset keeps what it made. The anomaly
    depends on the seed and the case's name alone: each validation sees the same ones, whatever the order, the batch
    size or the number of processes. Clinical types (family B) only test and are refused.

    Writes:

    - ``planted``, float32 of the image's shape: the modalities changed, absent ones (zeros) still absent, mirrored
      channels (as :class:`~monai_ctmri.networks.CrossModalDenoiser` takes them) mirrored anew;
    - ``planted_mask``, float32 [1, H, W]: 1 where the anomaly is, 0 in the untouched head, -1 where neither is sure
      (the faint edge of the anomaly) and outside the head. A slice without brain gets no anomaly: -1 everywhere, and a
      warning names it.

    Args:
        key: entry with the image, [M, H, W] or [2M, H, W] in [0, 1].
        modalities: what the first M channels are, in order.
        anomalies: transforms of family A, of which each case gets one; None takes noise, gain and warp.
        pixel_spacing_mm: size of a pixel, for the default anomalies.
        seed: another seed plants other anomalies.
        planted_key: entry to write the image to.
        mask_key: entry to write the mask to.
        case_key: entry with the name of the case.

    Raises:
        InputError: for an anomaly of another family, a case without a name, or an image of another shape or range.
    """

    def __init__(
        self,
        key: str = keys.IMAGE,
        modalities: Sequence[str] = keys.MODALITIES,
        anomalies: Sequence[TrainingAnomaly] | None = None,
        pixel_spacing_mm: float = 1.8,
        seed: int = 0,
        planted_key: str = PLANTED,
        mask_key: str = PLANTED_MASK,
        case_key: str = keys.CASE,
    ) -> None:
        self.key = key
        self.modalities = tuple(modalities)
        if anomalies is None:
            shared: dict[str, Any] = {"keys": self.modalities, "pixel_spacing_mm": pixel_spacing_mm, "prob": 1.0}
            anomalies = [RandNoiseBlobsd(**shared), RandGainShiftd(**shared), RandLocalWarpd(**shared)]
        self.anomalies = tuple(anomalies)
        for anomaly in self.anomalies:
            family = getattr(anomaly, "family", None)
            if family != _FAMILY:
                problem = f"is of family {family}, not {_FAMILY}"
                raise InputError.about(type(anomaly).__name__, problem, "choose models by training anomalies only")
        if not self.anomalies:
            raise InputError.about("anomalies", "empty", "give one at least, or None")
        self.seed = seed
        self.planted_key = planted_key
        self.mask_key = mask_key
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add both entries to one case."""
        d = dict(data)
        if d.get(self.case_key) is None:
            raise InputError.about(f"entry {self.case_key!r}", "missing", "keep the name of the case in the data")
        name = str(d[self.case_key])
        image = np.asarray(convert_to_numpy(d[self.key]), dtype=np.float32)
        count = len(self.modalities)
        if image.ndim != 3 or image.shape[0] not in (count, 2 * count):
            remedy = f"give ({count}, H, W), or twice the channels with the mirrored image"
            raise InputError.about(name, f"image has shape {image.shape}", remedy)
        planted, inside = self._plant(name, image[:count])
        mask = np.full((1, *image.shape[1:]), _NEITHER, dtype=np.float32)
        if inside is not None:
            head = np.asarray(convert_to_numpy(HeadMask()(image[:count]))).max(axis=0) > 0
            mask[0, head & (planted == image[:count]).all(axis=0)] = _UNTOUCHED
            mask[0, head & inside] = _PLANTED
        if image.shape[0] > count:
            given = image[count:].any(axis=(1, 2), keepdims=True)
            planted = np.concatenate([planted, planted[..., ::-1] * given])
        d[self.planted_key] = torch.from_numpy(planted)
        d[self.mask_key] = torch.from_numpy(mask)
        return d

    def _plant(self, name: str, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The changed channels [M, H, W], and where [H, W]; None where there is no brain."""
        present: dict[Hashable, Any] = {
            each: plane[None] for each, plane in zip(self.modalities, image, strict=True) if plane.any()
        }
        if not present:
            raise InputError.about(name, "no modality is present", "give at least one")
        first = next(iter(present))
        brain = BrainMask(ct_channel=0 if first == keys.CT else None)(present[first])
        if not np.asarray(convert_to_numpy(brain)).any():
            logger.warning("%s: no brain in this slice, nothing is planted into it", name)
            return image.copy(), None
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        random = np.random.RandomState(int.from_bytes(digest[:4], "big"))
        # A copy: threads that fill a cache share this transform.
        anomaly = copy.deepcopy(self.anomalies[random.randint(len(self.anomalies))])
        anomaly.set_random_state(state=random)
        changed = anomaly({**present, anomaly.brain_key: brain, keys.CASE: name})
        planted = np.stack(
            [
                np.asarray(convert_to_numpy(changed[each]), dtype=np.float32)[0] if each in present else plane
                for each, plane in zip(self.modalities, image, strict=True)
            ]
        )
        return planted, np.asarray(convert_to_numpy(changed[anomaly.mask_key]))[0] > 0
