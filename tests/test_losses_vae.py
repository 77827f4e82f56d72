"""The evidence lower bound, against torch.distributions, scipy and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.handlers import ParamSchedulerHandler
from scipy import stats
from torch.distributions import Normal, kl_divergence

from monai_ctmri.losses import EvidenceLowerBoundLoss, negative_log_likelihood
from monai_ctmri.networks.variational_autoencoder import VariationalAutoencoder, kl_from_standard_normal

FAMILIES = {"laplace": stats.laplace, "normal": stats.norm}


def outputs(cases: int = 4, channels: int = 2, side: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn(cases, 2 * channels + 1, side, side, generator=generator)
    draw[:, -1] = torch.rand(cases, 1, 1, generator=generator) * 20
    return draw, torch.rand(cases, channels, side, side, generator=generator)


@pytest.mark.parametrize("likelihood", FAMILIES)
def test_the_likelihood_is_that_of_scipy(likelihood: str) -> None:
    pred, target = outputs()
    mean, log_scale = pred[:, :2], pred[:, 2:4]
    found = negative_log_likelihood(target, mean, log_scale, likelihood)
    expected = -FAMILIES[likelihood].logpdf(target.numpy(), mean.numpy(), np.exp(log_scale.numpy()))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("likelihood", FAMILIES)
def test_the_density_integrates_to_one(likelihood: str) -> None:
    places = torch.linspace(-20, 20, 200_001, dtype=torch.float64)
    mean, log_scale = torch.full_like(places, 0.3), torch.full_like(places, -0.5)
    density = torch.exp(-negative_log_likelihood(places, mean, log_scale, likelihood).double())
    assert float(torch.trapezoid(density, places)) == pytest.approx(1.0, abs=1e-4)


def test_the_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (2 * torch.randn(7, 5, generator=generator) for _ in range(2))
    expected = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_from_standard_normal(mean, log_variance), expected)
    assert kl_from_standard_normal(torch.zeros(1, 5), torch.zeros(1, 5)).item() == 0.0


def test_the_bound_of_one_voxel_by_hand() -> None:
    """Target 1, mean 0.5, scale e^-1, divergence 3 at weight 0.5: 0.5 e + log 2 - 1 + 1.5."""
    pred = torch.tensor([0.5, -1.0, 3.0]).reshape(1, 3, 1, 1)
    found = EvidenceLowerBoundLoss(kl_weight=0.5)(pred, torch.ones(1, 1, 1, 1))
    assert found.item() == pytest.approx(0.5 * math.e + math.log(2) - 1 + 1.5)


@pytest.mark.parametrize("likelihood", FAMILIES)
@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_the_bound_by_numpy(likelihood: str, weight: float) -> None:
    pred, target = outputs()
    expected = []
    for one, wanted in zip(pred.numpy(), target.numpy(), strict=True):
        surprise = -FAMILIES[likelihood].logpdf(wanted, one[:2], np.exp(one[2:4])).sum()
        expected.append((surprise + weight * one[4, 0, 0]) / wanted.size)
    found = EvidenceLowerBoundLoss(weight, likelihood)(pred, target)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_two_halves_of_a_batch_average_to_the_whole() -> None:
    pred, target = outputs()
    loss = EvidenceLowerBoundLoss(0.7)
    halves = [loss(pred[part], target[part]) for part in (slice(0, 2), slice(2, 4))]
    assert float(sum(halves) / 2) == pytest.approx(float(loss(pred, target)), rel=1e-6)


def test_gradients_of_two_halves_average_too() -> None:
    """What a distributed training relies on; the divergence reaches the encoder through one voxel of its channel."""
    network = VariationalAutoencoder(1, (8, 8), 3, channels=(8, 8))
    images = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        network.autoencoder.logvar.bias.fill_(-30.0)  # no spread: the random draws do not matter
        network.autoencoder.logvar.weight.zero_()
    loss = EvidenceLowerBoundLoss(1.0)

    def gradient(part: slice) -> torch.Tensor:
        return torch.autograd.grad(loss(network(images[part]), images[part]), network.autoencoder.mu.weight)[0]

    halves = (gradient(slice(0, 2)) + gradient(slice(2, 4))) / 2
    torch.testing.assert_close(halves, gradient(slice(0, 4)), rtol=1e-3, atol=1e-6)
    assert halves.abs().max() > 1e-4


def test_the_weight_decides_how_far_the_latent_is_pulled() -> None:
    """The gradient of the divergence's part is weight * mean / voxels, by the formula mean^2 / 2."""
    mean = torch.tensor([[1.5, -2.0]], requires_grad=True)
    divergence = kl_from_standard_normal(mean, torch.zeros(1, 2)).reshape(1, 1, 1, 1).expand(1, 1, 2, 2)
    pred = torch.cat([torch.zeros(1, 2, 2, 2), divergence], dim=1)
    EvidenceLowerBoundLoss(0.4)(pred, torch.zeros(1, 1, 2, 2)).backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, 0.4 * mean.detach() / 4)


def test_the_likeliest_scale_is_the_mean_absolute_error() -> None:
    """Maximum likelihood of a Laplace distribution: its scale is the mean absolute deviation."""
    target = torch.tensor([0.1, 0.4, 0.9, 0.2]).reshape(1, 1, 2, 2)
    scales = torch.linspace(0.1, 0.6, 501)
    values = []
    for scale in scales:
        pred = torch.stack([torch.zeros(2, 2), scale.log().expand(2, 2), torch.zeros(2, 2)])[None]
        values.append(EvidenceLowerBoundLoss()(pred, target).item())
    assert scales[int(np.argmin(values))].item() == pytest.approx(0.4, abs=2e-3)


def test_half_precision_is_summed_in_float32() -> None:
    pred, target = outputs(side=16)
    found = EvidenceLowerBoundLoss()(pred.bfloat16(), target)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(EvidenceLowerBoundLoss()(pred, target).item(), rel=0.02)


def test_monais_scheduler_sets_the_weight() -> None:
    loss = EvidenceLowerBoundLoss(1.0)
    arguments = {"initial_value": 0.0, "max_value": 2.0, "step_constant": 0, "step_max_value": 4}
    handler = ParamSchedulerHandler(loss.set_kl_weight, "linear", arguments, epoch_level=True)
    network = torch.nn.Linear(1, 1)
    trainer = SupervisedTrainer("cpu", 1, [], network, torch.optim.SGD(network.parameters(), 0.1), loss)
    seen = []
    for epoch in (1, 2, 3, 4, 9, 2):
        trainer.state.epoch = epoch
        handler(trainer)
        seen.append(loss.kl_weight)
    assert seen == [0.5, 1.0, 1.5, 2.0, 2.0, 1.0]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="kl_weight must not be negative"):
        EvidenceLowerBoundLoss(-0.1)
    with pytest.raises(ValueError, match="kl_weight must not be negative"):
        EvidenceLowerBoundLoss().set_kl_weight(float("nan"))
    with pytest.raises(ValueError, match="laplace, normal"):
        EvidenceLowerBoundLoss(likelihood="poisson")
    with pytest.raises(ValueError, match="laplace, normal"):
        negative_log_likelihood(*[torch.zeros(1)] * 3, "poisson")
    pred, target = outputs()
    for bad in (pred[:, :-1], pred[..., :-1], pred[:, :2]):
        with pytest.raises(ValueError, match="is not mean, log-scale and divergence"):
            EvidenceLowerBoundLoss()(bad, target)
