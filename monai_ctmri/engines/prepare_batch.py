"""What a batch means to a trainer: for a reconstruction, the image is its own target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import PrepareBatch

from monai_ctmri import keys

__all__ = ["PrepareBatchReconstruction"]


class PrepareBatchReconstruction(PrepareBatch):
    """Give the image as input and as target, so that MONAI's supervised trainer and evaluator train a reconstruction.

    MONAI's default gives no target where the batch has no ``label``, and a class number where it has one.

    Args:
        key: entry of the batch to reconstruct, shape [N, C, H, W].
    """

    def __init__(self, key: str = keys.IMAGE) -> None:
        self.key = key

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(image, image)`` on ``device``; ``kwargs`` go to :meth:`torch.Tensor.to`."""
        image = batchdata[self.key].to(device=device, non_blocking=non_blocking, **kwargs)
        return image, image
