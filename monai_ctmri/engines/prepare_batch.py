"""What a batch means to a trainer: what goes in, and what has to come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import PrepareBatch

from monai_ctmri import keys

__all__ = ["PrepareBatchReconstruction"]


class PrepareBatchReconstruction(PrepareBatch):
    """Give the image as input and, unless another entry is named, as target: MONAI's supervised trainer and evaluator
    then train a reconstruction, or a denoiser.

    MONAI's default gives no target where the batch has no ``label``, and a class number where it has one.

    Args:
        key: entry of the batch to reconstruct, shape [N, C, H, W].
        target_key: entry with what the image must become, e.g. ``target`` where ``image`` was corrupted; None takes the
            image itself.
    """

    def __init__(self, key: str = keys.IMAGE, target_key: str | None = None) -> None:
        self.key = key
        self.target_key = target_key

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(image, target)`` on ``device``; ``kwargs`` go to :meth:`torch.Tensor.to`.

        Raises:
            KeyError: when the batch lacks an entry.
        """
        image = batchdata[self.key].to(device=device, non_blocking=non_blocking, **kwargs)
        if self.target_key is None:
            return image, image
        return image, batchdata[self.target_key].to(device=device, non_blocking=non_blocking, **kwargs)
