"""Training losses that MONAI has none of."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Laplace, Normal

__all__ = ["LIKELIHOODS", "EvidenceLowerBoundLoss", "LaplaceLoss", "negative_log_likelihood"]

LIKELIHOODS: dict[str, type[Laplace] | type[Normal]] = {"laplace": Laplace, "normal": Normal}
"""Distributions of a voxel by name; each has a place (the mean) and a scale."""


def negative_log_likelihood(
    target: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor, likelihood: str = "laplace"
) -> torch.Tensor:
    """Return ``-log p(target)`` a voxel in nats, float32; a density, so it can be negative.

    Args:
        target: any shape.
        mean: of that shape; the scale is ``exp(log_scale)``.
        log_scale: of that shape.
        likelihood: a name of :data:`LIKELIHOODS`.

    Raises:
        ValueError: for another likelihood.
    """
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {likelihood}.")
    family = LIKELIHOODS[likelihood]
    density = family(mean.float(), log_scale.float().exp(), validate_args=False)
    return -density.log_prob(target.float())


class LaplaceLoss(nn.Module):
    """Negative log-likelihood of a Laplace distribution a voxel: ``b'^beta (|y - m| / b + log b)``.

    Training with it makes ``b`` the expected absolute error (heteroscedastic regression, Kendall and Gal, NeurIPS
    2017, with the Laplace density). torch has this loss for the normal distribution only. ``b'`` is ``b`` without its
    gradient: with ``beta`` 0 a network that errs somewhere calls that place uncertain, and the gradient of the mean
    dies there (Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation", ICLR 2022); with 1 the
    mean is trained as by the absolute error. The ``b`` that is best for a voxel is the same for every ``beta``.

    The mean is taken over the voxels of a case, then over those of its modalities that are present in the target (a
    channel of zeros is absent), then over the cases: a batch in two halves gives the mean of the halves' losses.

    Args:
        beta: in [0, 1]. Defaults to 0.5.

    Raises:
        ValueError: when ``beta`` is out of range.
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= beta <= 1.0:
            raise ValueError(f"beta must be in [0, 1], got {beta}.")
        self.beta = float(beta)

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            pred: [N, 2M, ...], M means and M logarithms of the scale, from
                :class:`~monai_ctmri.networks.CrossModalDenoiser`.
            target: [N, M, ...].

        Raises:
            ValueError: when the shapes do not fit.
        """
        modalities = target.shape[1]
        if pred.shape[1] != 2 * modalities or pred.shape[2:] != target.shape[2:]:
            raise ValueError(f"pred {tuple(pred.shape)} is not mean and log-scale of target {tuple(target.shape)}.")
        mean, log_scale = pred[:, :modalities].float(), pred[:, modalities:].float()
        loss = (target.float() - mean).abs() * torch.exp(-log_scale) + log_scale
        loss = (loss * torch.exp(self.beta * log_scale.detach())).flatten(2).mean(dim=2)
        present = (target != 0).flatten(2).any(dim=2).to(loss.dtype)
        return ((loss * present).sum(dim=1) / present.sum(dim=1).clamp(min=1.0)).mean()


class EvidenceLowerBoundLoss(nn.Module):
    """Negative evidence lower bound of a variational autoencoder, in nats a voxel.

    ``(sum of -log p(x | z) + kl_weight * KL) / number of voxels`` of a case, then the mean over the cases: a batch in
    two halves gives the mean of the halves' losses. ``kl_weight`` 1 is the bound itself (Kingma and Welling, ICLR
    2014), another the beta-VAE of Higgins et al., ICLR 2017. The division by the number of voxels changes no optimum;
    it keeps loss and gradients of one size for all image sizes. MONAI and torch leave this loss to the user.

    Args:
        kl_weight: weight of the divergence; :meth:`set_kl_weight` changes it, for a warm-up.
        likelihood: a name of :data:`LIKELIHOODS`.

    Raises:
        ValueError: for a negative weight or another likelihood.
    """

    def __init__(self, kl_weight: float = 1.0, likelihood: str = "laplace") -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {likelihood}.")
        self.likelihood = likelihood
        self.kl_weight = 0.0
        self.set_kl_weight(kl_weight)

    def set_kl_weight(self, value: float) -> None:
        """Weigh the divergence anew; MONAI's ParamSchedulerHandler calls this.

        Raises:
            ValueError: for a negative number.
        """
        if not value >= 0:
            raise ValueError(f"kl_weight must not be negative, got {value}.")
        self.kl_weight = float(value)

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            pred: [N, 2C + 1, ...], C means, C log-scales and the divergence, as from
                :meth:`monai_ctmri.networks.variational_autoencoder.VariationalAutoencoder.training_outputs`.
            target: [N, C, ...].

        Raises:
            ValueError: when the shapes do not fit.
        """
        channels = target.shape[1]
        if pred.shape[1] != 2 * channels + 1 or pred.shape[2:] != target.shape[2:]:
            raise ValueError(
                f"pred {tuple(pred.shape)} is not mean, log-scale and divergence of target {tuple(target.shape)}."
            )
        surprise = negative_log_likelihood(target, pred[:, :channels], pred[:, channels:-1], self.likelihood).flatten(1)
        divergence = pred[:, -1].flatten(1)[:, 0]
        return (surprise.mean(dim=1) + self.kl_weight * divergence / surprise.shape[1]).mean()
