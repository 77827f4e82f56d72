"""How well a network's error tells planted anomalies from normal tissue: a key metric that needs no label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric, compute_roc_auc

from monai_ctmri.engines.planting import PLANTED, PLANTED_MASK

__all__ = ["PixelSeparation", "PlantedSeparation"]

_ERROR, _WHERE = "planted_error", "planted_where"


class PixelSeparation(CumulativeIterationMetric):
    """Mean over the cases of the area under the ROC curve of an error map against a mask.

    It is how often a marked pixel has the larger error than an unmarked one, ties half. MONAI's ROCAUCMetric pools the
    pixels of all cases into one curve, on which a case with large errors everywhere hides the others.

    Gathers over processes as MONAI's metrics do. Cases without a marked or without an unmarked pixel do not count.
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Judge a batch.

        Args:
            y_pred: error, [N, 1, ...].
            y: 1 marked, 0 unmarked, negative left out; of the same shape.

        Returns:
            [N, 1], NaN for cases that do not count.

        Raises:
            ValueError: for shapes that differ.
        """
        if y is None or y_pred.shape != y.shape:
            raise ValueError(f"error {tuple(y_pred.shape)} and mask {None if y is None else tuple(y.shape)} differ.")
        errors, masks = (torch.as_tensor(part).detach().flatten(1).float().cpu() for part in (y_pred, y))
        areas = [_area(error[mask >= 0], mask[mask >= 0]) for error, mask in zip(errors, masks, strict=True)]
        return torch.tensor(areas, dtype=torch.float32, device=y_pred.device)[:, None]

    def aggregate(self) -> torch.Tensor:
        """Return the mean over all cases that count, of all processes; NaN where none does."""
        areas = self.get_buffer()
        if not isinstance(areas, torch.Tensor):
            raise ValueError("no case was judged.")
        return areas.nanmean()


class PlantedSeparation(IgniteMetricHandler):
    """Run the network of an evaluator once more, on the planted images, and judge how its error separates them.

    A denoiser's validation loss keeps falling while the network learns to copy lesions; this value then falls too. The
    error is ``|x - mean| / exp(log-scale)``, or ``|x - mean|`` of a network without a scale, mean over the modalities
    that are present. 1 is perfect, .5 is chance: **higher is better**, which is MONAI's default comparison, and wants
    ``mode: max`` of :class:`~monai_ctmri.engines.BestModelKeeper`.

    Needs a :class:`monai.engines.SupervisedEvaluator` and :class:`~monai_ctmri.engines.PlantedAnomalyd` in the
    preprocessing of its data.

    Args:
        planted_key: entry of the batch with the planted images, [N, M, ...] or [N, 2M, ...].
        mask_key: entry of the batch with 1 planted, 0 untouched, -1 neither, [N, 1, ...].
        modalities: how many of the image's channels are modalities; None takes all.
        save_details: keep the value of each case in ``engine.state.metric_details``.
    """

    def __init__(
        self,
        planted_key: str = PLANTED,
        mask_key: str = PLANTED_MASK,
        modalities: int | None = None,
        save_details: bool = True,
    ) -> None:
        super().__init__(PixelSeparation(), output_transform=from_engine([_ERROR, _WHERE]), save_details=save_details)
        self.planted_key = planted_key
        self.mask_key = mask_key
        self.modalities = modalities

    def attach(self, engine: Engine, name: str) -> None:  # type: ignore[override]
        """Judge each batch of ``engine`` (an evaluator) under this name."""
        super().attach(engine, name)
        # After the network ran and before the batch is taken apart into cases.
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._run_planted)

    def _run_planted(self, engine: Any) -> None:
        batch, device = engine.state.batch, engine.state.device
        planted = batch[self.planted_key].to(device, non_blocking=engine.non_blocking)
        with engine.mode(engine.network), torch.autocast("cuda", enabled=bool(engine.amp), **engine.amp_kwargs):
            pred = engine.inferer(planted, engine.network)
        engine.state.output[_ERROR] = _error(planted, pred, self.modalities or planted.shape[1])
        engine.state.output[_WHERE] = batch[self.mask_key].to(device)


def _error(image: torch.Tensor, pred: torch.Tensor, modalities: int) -> torch.Tensor:
    """[N, 1, ...]: the mean over the present modalities of the error in units of the predicted scale."""
    image, pred = image[:, :modalities].float(), pred.float()
    error = (image - pred[:, :modalities]).abs()
    if pred.shape[1] >= 2 * modalities:
        error = error * torch.exp(-pred[:, modalities : 2 * modalities])
    present = (image != 0).flatten(2).any(dim=2).float().reshape(*image.shape[:2], *[1] * (image.ndim - 2))
    return (error * present).sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp(min=1.0)


def _area(error: torch.Tensor, marked: torch.Tensor) -> float:
    if marked.unique().numel() < 2:
        return float("nan")
    return float(np.asarray(compute_roc_auc(error, marked)))
