"""How improbable each voxel is to a variational autoencoder: the reconstruction probability as an anomaly score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.losses import LIKELIHOODS, negative_log_likelihood
from monai_ctmri.networks.variational_autoencoder import kl_from_standard_normal
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

__all__ = ["ReconstructionProbabilityScorer"]


class ReconstructionProbabilityScorer(TrainedNetworkScorer):
    """Negative reconstruction probability of An and Cho (SNU Data Mining Center, 2015), voxel by voxel.

    ``-(1 / L) sum over l of log p(x | z_l)``, ``z_l ~ q(z | x)``, with mean and scale of each voxel from the decoder:
    an error counts for more where the network is sure. In nats; a density, so negative where the image is well
    explained.

    Maps ``improbability`` (mean over the modalities present) and ``improbability_<modality>``; scores
    ``improbability_mean``, ``improbability_top``, ``improbability_mean_<modality>``, ``improbability_top_<modality>``
    from :class:`MapScore` within :class:`HeadMask` of the image, and ``divergence``, that of the latent from the prior;
    features ``latent_000``, ... are the mean latent.

    Every case meets the same random numbers, drawn from ``seed`` by a generator of its own: the score of a case is the
    same alone, in a batch and at every call, and the process's random state is neither used nor changed.

    Args:
        network: has ``posterior(image)``, mean and log-variance (N, L) of the latent, and ``likelihood(latent)``
            (N, 2C, H, W), means and log-scales, as
            :class:`~monai_ctmri.networks.variational_autoencoder.VariationalAutoencoder`.
        modalities: the channels of ``image`` in order; a channel of zeros is absent and its names are left out.
        samples: number L of latents drawn a case.
        seed: decides the random numbers.
        likelihood: distribution of a voxel, as in training: a name of :data:`monai_ctmri.losses.LIKELIHOODS`.
        device: where to run; None runs where the network's parameters are.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        head_mask: where to look; None takes the defaults of :class:`HeadMask`.

    Raises:
        ValueError: no sample, or another likelihood.
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str] = keys.MODALITIES,
        samples: int = 16,
        seed: int = 0,
        likelihood: str = "laplace",
        device: torch.device | str | None = None,
        map_score: MapScore | None = None,
        head_mask: HeadMask | None = None,
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}.")
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {likelihood}.")
        super().__init__(network, modalities, device, map_score, head_mask)
        self.samples = samples
        self.seed = seed
        self.likelihood = likelihood

    def _score_stack(self, images: torch.Tensor, names: list[str]) -> list[Evidence]:
        placed = on_device(self.network, images, self.device)
        with evaluating(self.network):
            mean, log_variance = self.network.posterior(placed)  # type: ignore[operator]
            maps = self._improbability(placed, mean, log_variance).cpu()
            divergence = kl_from_standard_normal(mean, log_variance).tolist()
            features = latent_columns(mean, names)
        demand_finite(maps, names, "the network's likelihood")
        return [
            self._evidence("improbability", image, channels, {"divergence": value}, row)
            for image, channels, value, row in zip(images, maps, divergence, features, strict=True)
        ]

    def _improbability(self, images: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """Mean of ``-log p`` over the samples, (N, C, H, W); one sample at a time, so that memory does not grow."""
        generator = torch.Generator().manual_seed(self.seed)
        draws = torch.randn(self.samples, mean.shape[1], generator=generator).to(mean.device)
        spread = torch.exp(0.5 * log_variance)
        channels = images.shape[1]
        total = torch.zeros_like(images)
        for draw in draws:
            pred = self.network.likelihood(mean + spread * draw)  # type: ignore[operator]
            total += negative_log_likelihood(images, pred[:, :channels], pred[:, channels:], self.likelihood)
        return total / self.samples
