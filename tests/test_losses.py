"""The Laplace loss against torch's own distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace

from monai_ctmri.losses import LaplaceLoss

LOSS = LaplaceLoss(beta=0.0)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def likelihood_loss(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Negative log-density a voxel, (N, M, ...), without the constant log 2."""
    modalities = target.shape[1]
    return -Laplace(pred[:, :modalities], pred[:, modalities:].exp()).log_prob(target) - math.log(2.0)


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (2, 1, 6, 10), (2, 3, 4, 4, 6)])
def test_it_is_the_likelihood_of_a_laplace_distribution(shape: tuple[int, ...]) -> None:
    target = drawn(*shape)
    pred = drawn(shape[0], 2 * shape[1], *shape[2:], seed=1) * 4 - 2
    torch.testing.assert_close(LOSS(pred, target), likelihood_loss(pred, target).mean())


def test_an_absent_modality_is_not_judged() -> None:
    pred, target = drawn(3, 4, 8, 8, seed=1), drawn(3, 2, 8, 8)
    target[0, 1] = 0.0
    target[2, 0] = 0.0
    each = likelihood_loss(pred, target).flatten(2).mean(dim=2)
    expected = (each[0, 0] + each[1].mean() + each[2, 1]) / 3
    torch.testing.assert_close(LOSS(pred, target), expected)
    wrong = pred.clone()
    wrong[0, [1, 3]] = 50.0
    torch.testing.assert_close(LOSS(wrong, target), expected)
    wrong.requires_grad_()
    LOSS(wrong, target).backward()
    assert wrong.grad is not None
    assert not wrong.grad[0, [1, 3]].any()
    assert wrong.grad[0, [0, 2]].any()


def test_a_case_of_nothing_costs_nothing() -> None:
    pred = drawn(2, 4, 8, 8, seed=1).requires_grad_()
    loss = LOSS(pred, torch.zeros(2, 2, 8, 8))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert pred.grad is not None
    assert not pred.grad.any()


def test_halves_of_a_batch_average() -> None:
    pred, target = drawn(6, 4, 8, 8, seed=1), drawn(6, 2, 8, 8)
    target[0, 1] = target[1, 0] = target[5, 0] = 0.0  # halves that differ in what is there
    halves = (LOSS(pred[:3], target[:3]) + LOSS(pred[3:], target[3:])) / 2
    torch.testing.assert_close(LOSS(pred, target), halves)


def test_the_best_scale_is_the_mean_absolute_error() -> None:
    target, mean = drawn(1, 1, 64, 64), torch.full((1, 1, 64, 64), 0.4)
    best = (target - mean).abs().mean().log()
    log_scale = best.clone().requires_grad_()
    LOSS(torch.cat([mean, log_scale.expand_as(mean)], dim=1), target).backward()
    assert log_scale.grad is not None
    assert float(log_scale.grad) == pytest.approx(0.0, abs=1e-5)

    def at(value: torch.Tensor) -> float:
        return float(LOSS(torch.cat([mean, value.expand_as(mean)], dim=1), target))

    assert at(best) < min(at(best - 0.1), at(best + 0.1))


def test_half_precision_is_judged_in_full() -> None:
    pred, target = drawn(2, 4, 8, 8, seed=1).bfloat16(), drawn(2, 2, 8, 8)
    loss = LOSS(pred, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LOSS(pred.float(), target))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 3, 8, 8), (1, 4, 8, 10)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is not mean and log-scale of target"):
        LOSS(torch.zeros(shape), torch.zeros(1, 2, 8, 8))


def test_beta_one_trains_the_mean_by_the_absolute_error() -> None:
    pred, target = drawn(2, 4, 8, 8, seed=1).requires_grad_(), drawn(2, 2, 8, 8)
    LaplaceLoss(beta=1.0)(pred, target).backward()
    assert pred.grad is not None
    expected = torch.sign(pred[:, :2].detach() - target) / target.numel()
    torch.testing.assert_close(pred.grad[:, :2], expected)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_gradient_is_weighed_by_the_scale(beta: float) -> None:
    target, scale = drawn(1, 1, 8, 8), drawn(1, 1, 8, 8, seed=2) + 0.1
    mean = torch.full_like(target, 0.4).requires_grad_()
    LaplaceLoss(beta)(torch.cat([mean, scale.log()], dim=1), target).backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad.abs(), scale ** (beta - 1) / target.numel())


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_best_scale_of_a_voxel_is_its_error_whatever_beta(beta: float) -> None:
    target, mean = drawn(1, 1, 8, 8) + 1.0, torch.zeros(1, 1, 8, 8)
    log_scale = (target - mean).abs().log().requires_grad_()
    LaplaceLoss(beta)(torch.cat([mean, log_scale], dim=1), target).backward()
    assert log_scale.grad is not None
    torch.testing.assert_close(log_scale.grad, torch.zeros_like(log_scale), atol=1e-7, rtol=0.0)


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_beta_out_of_range(beta: float) -> None:
    with pytest.raises(ValueError, match="beta"):
        LaplaceLoss(beta)
