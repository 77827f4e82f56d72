"""The nearest image that a decoder can draw, found by a search in its latent: what is left over is abnormal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.scoring.network_run import (
    demand_finite,
    evaluating,
    latent_columns,
    on_device,
)
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.scoring.trained_network import TrainedNetworkScorer
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore

__all__ = ["LatentSearchScorer"]


class LatentSearchScorer(TrainedNetworkScorer):
    """Residual after a search for the latent whose image is nearest to the case.

    From the encoder's latent, Adam (its step shrinking linearly to nothing) minimises, for each case alone,
    ``sum |x - decode(z)| + weight * |z|^2 / 2`` over the voxels of the modalities present; the best latent on the way
    is kept, so the search never ends worse than it began. For a variational autoencoder this is the most probable
    latent under a Laplace likelihood of scale ``weight`` and the standard normal prior.

    The idea is that of AnoGAN and f-AnoGAN (Schlegl et al., IPMI 2017; Medical Image Analysis 54, 2019: search in the
    latent of a generator, from an encoder's guess) and of the restoration by You et al. (MIDL 2019: gradient steps to
    the most probable image of a variational autoencoder). The generator is the decoder; there is no discriminator, so
    f-AnoGAN's residual of discriminator features is not part of it.

    Maps ``restoration`` (mean over the modalities present) and ``restoration_<modality>``, the absolute residual;
    scores ``restoration_mean``, ``restoration_top``, ``restoration_mean_<modality>``, ``restoration_top_<modality>``
    from :class:`MapScore` within :class:`HeadMask` of the image, ``restoration_objective``, the lowest value found
    divided by the number of voxels present; features ``latent_000``, ... are the latent found.

    The network's parameters, their gradients and its training flags stay as they are.

    Args:
        network: has ``encode(image)`` and ``decode(latent)`` -> (N, C, H, W). A latent that is a narrow code is needed:
            an autoencoder with a wide map for a latent can draw lesions too, and finds them.
        modalities: the channels of ``image`` in order; a channel of zeros is absent: it does not guide the search and
            its names are left out.
        steps: gradient steps; 0 takes the encoder's latent.
        step_size: of Adam in the unit of the latent, at the start.
        weight: of the prior.
        device: where to run; None runs where the network's parameters are.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        head_mask: where to look; None takes the defaults of :class:`HeadMask`.

    Raises:
        ValueError: a negative number of steps or weight, or a step size that is not positive.
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str] = keys.MODALITIES,
        steps: int = 50,
        step_size: float = 0.1,
        weight: float = 0.1,
        device: torch.device | str | None = None,
        map_score: MapScore | None = None,
        head_mask: HeadMask | None = None,
    ) -> None:
        if steps < 0:
            raise ValueError(f"steps must not be negative, got {steps}.")
        if not step_size > 0:
            raise ValueError(f"step_size must be positive, got {step_size}.")
        if not weight >= 0:
            raise ValueError(f"weight must not be negative, got {weight}.")
        super().__init__(network, modalities, device, map_score, head_mask)
        self.steps = steps
        self.step_size = step_size
        self.weight = weight

    def _score_stack(self, images: torch.Tensor, names: list[str]) -> list[Evidence]:
        placed = on_device(self.network, images, self.device)
        # An evaluator runs under no_grad or inference_mode, and tensors made in the latter never carry gradients.
        with torch.inference_mode(False), torch.enable_grad(), evaluating(self.network, inference=False):
            latent, objective, restored = self._search(placed.clone())
        demand_finite(restored, names, "the network's restoration")
        residuals = (placed - restored).abs().cpu()
        features = latent_columns(latent, names)
        return [
            self._evidence("restoration", image, channels, {"restoration_objective": value}, row)
            for image, channels, value, row in zip(images, residuals, objective, features, strict=True)
        ]

    def _search(self, images: torch.Tensor) -> tuple[torch.Tensor, list[float], torch.Tensor]:
        """Best latent, its objective a voxel present, and its image, of each case."""
        present = (images != 0).flatten(2).any(dim=2).to(images.dtype)
        voxels = present.sum(dim=1) * images[0, 0].numel()
        with torch.no_grad():
            start = self.network.encode(images)  # type: ignore[operator]
        latent = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([latent], lr=self.step_size)
        best_value = torch.full_like(voxels, torch.inf)
        best_latent, best_image = latent.detach().clone(), torch.full_like(images, torch.nan)
        for step in range(self.steps + 1):
            image = self.network.decode(latent)  # type: ignore[operator]
            misfit = ((images - image).abs().flatten(2).sum(dim=2) * present).sum(dim=1)
            value = misfit + self.weight * latent.square().flatten(1).sum(dim=1) / 2
            better = value.detach() < best_value
            best_value = torch.where(better, value.detach(), best_value)
            best_latent[better], best_image[better] = latent.detach()[better], image.detach()[better]
            if step < self.steps:
                # Not backward(): that would add to the gradients of the network's parameters.
                (latent.grad,) = torch.autograd.grad(value.sum(), latent)
                optimizer.param_groups[0]["lr"] = self.step_size * (1 - step / self.steps)
                optimizer.step()
        return best_latent, (best_value / voxels.clamp(min=1.0)).tolist(), best_image
