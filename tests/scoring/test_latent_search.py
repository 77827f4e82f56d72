"""The search in the latent, against decoders whose nearest image is known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_ctmri.errors import InputError
from monai_ctmri.networks import ConvolutionalAutoencoder
from monai_ctmri.networks.variational_autoencoder import VariationalAutoencoder
from monai_ctmri.scoring.latent_search import LatentSearchScorer
from monai_ctmri.scoring.scorer import Scorer
from monai_ctmri.transforms import HeadMask

SIDE = 8


class Pixels(nn.Module):
    """Every pixel is a number of the latent: ``min |x - z| + w z^2 / 2`` is at ``z = min(x, 1 / w)``."""

    def __init__(self, start: float = 0.0, channels: int = 2) -> None:
        super().__init__()
        self.start, self.channels = start, channels
        self.gain = nn.Parameter(torch.ones(()))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full_like(image, self.start).flatten(1) * self.gain

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return (latent * self.gain).reshape(-1, self.channels, SIDE, SIDE)


class Brightness(nn.Module):
    """One number a case, painted everywhere: the least absolute deviation without a prior is the median."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.level = nn.Parameter(torch.ones(1))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1).mean(dim=1, keepdim=True) * self.level

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return (latent * self.level)[..., None, None].expand(-1, self.channels, SIDE, SIDE)


def case(seed: int = 0, channels: int = 2) -> dict[str, Any]:
    image = torch.rand(channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return {"image": 0.2 + 0.8 * image, "case": f"c{seed}"}


def stacked(maps: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([maps["restoration_ct"], maps["restoration_mri"]])


def test_it_is_a_scorer_that_learns_nothing() -> None:
    made = LatentSearchScorer(Pixels())
    assert isinstance(made, Scorer)
    assert made.fit([]) is made
    assert made.state_dict() == {}
    made.load_state_dict({})


@pytest.mark.parametrize("weight", [1.25, 4.0])
def test_pixel_by_pixel_it_finds_the_optimum(weight: float) -> None:
    """What is left is the soft threshold of the image at 1 / weight."""
    one = case()
    found = LatentSearchScorer(Pixels(), steps=400, step_size=0.02, weight=weight).score(one)
    expected = np.maximum(one["image"].numpy() - 1 / weight, 0)
    assert expected.max() > 0
    np.testing.assert_allclose(stacked(found.maps), expected, atol=0.01)
    latent = np.minimum(one["image"].numpy(), 1 / weight)
    objective = (np.abs(one["image"].numpy() - latent) + weight * latent**2 / 2).mean()
    assert found.scores["restoration_objective"] == pytest.approx(objective, abs=1e-3)


def test_without_a_prior_a_level_becomes_the_median() -> None:
    """The encoder starts at the mean, which one bright lesion has shifted; the search is not deceived by it."""
    image = torch.full((1, SIDE, SIDE), 0.3)
    image[0, :3, :4] = 1.0
    found = LatentSearchScorer(Brightness(), ["ct"], steps=200, step_size=0.05, weight=0.0).score({"image": image})
    expected = np.where(image[0].numpy() == 1.0, 0.7, 0.0)
    np.testing.assert_allclose(found.maps["restoration"], expected, atol=0.005)
    assert found.features["latent_000"] == pytest.approx(0.3, abs=0.005)


def test_the_prior_pulls_a_level_towards_zero() -> None:
    """``n |x - z| + w z^2 / 2`` for one grey is least at ``z = min(x, n / w)``, n pixels."""
    image = torch.full((1, SIDE, SIDE), 0.8)
    made = LatentSearchScorer(Brightness(), ["ct"], steps=300, step_size=0.05, weight=2.0 * SIDE * SIDE)
    found = made.score({"image": image})
    assert found.features["latent_000"] == pytest.approx(0.5, abs=0.005)
    np.testing.assert_allclose(found.maps["restoration_ct"], 0.3, atol=0.005)


def test_no_step_is_the_encoders_image() -> None:
    one = case(channels=1)
    found = LatentSearchScorer(Brightness(), ["ct"], steps=0).score(one)
    expected = (one["image"][0] - one["image"].mean()).abs()
    np.testing.assert_allclose(found.maps["restoration"], expected.numpy(), atol=1e-6)


def test_it_never_ends_worse_than_it_began() -> None:
    """With a step far too large every latent on the way is worse than the first."""
    one = case()
    exact = Pixels()
    exact.encode = lambda image: image.flatten(1)  # type: ignore[method-assign]
    found = LatentSearchScorer(exact, steps=5, step_size=50.0, weight=0.0).score(one)
    np.testing.assert_array_equal(stacked(found.maps), 0.0)


def test_more_steps_come_nearer() -> None:
    values = [
        LatentSearchScorer(Pixels(), steps=steps, weight=0.1).score(case()).scores["restoration_objective"]
        for steps in (0, 3, 30)
    ]
    assert values[0] > values[1] > values[2]


def test_scores_are_the_maps_in_numbers() -> None:
    evidence = LatentSearchScorer(Pixels(), steps=2).score(case())
    mask = np.asarray(HeadMask()(case()["image"]))[0] > 0
    for suffix in ("", "_ct", "_mri"):
        one = evidence.maps[f"restoration{suffix}"]
        assert one.dtype == np.float32
        assert evidence.scores[f"restoration_mean{suffix}"] == pytest.approx(float(one[mask].mean()), rel=1e-5)
    np.testing.assert_allclose(evidence.maps["restoration"], stacked(evidence.maps).mean(axis=0), atol=1e-6)
    assert len(evidence.scores) == 7


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_cases_searched_together_are_searched_alone(batch_size: int) -> None:
    torch.manual_seed(0)
    made = LatentSearchScorer(VariationalAutoencoder(2, (SIDE, SIDE), 4, channels=(8,)), steps=4)
    cases = [case(seed) for seed in range(3)]
    for one, found in zip(cases, made.score_batch(cases, batch_size), strict=True):
        alone = made.score(one)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
        np.testing.assert_allclose(found.maps["restoration"], alone.maps["restoration"], atol=1e-5)
        assert made.score(one).scores == alone.scores


def test_an_absent_modality_neither_guides_nor_counts() -> None:
    """With CT gone, the level is the median of the MRI alone."""
    image = torch.zeros(2, SIDE, SIDE)
    image[1] = 0.6
    found = LatentSearchScorer(Brightness(2), steps=200, step_size=0.05, weight=0.0).score({"image": image})
    assert set(found.maps) == {"restoration", "restoration_mri"}
    assert found.features["latent_000"] == pytest.approx(0.6, abs=0.005)
    assert found.scores["restoration_objective"] == pytest.approx(0.0, abs=0.005)
    assert not any("_ct" in name for name in found.scores)
    nothing = LatentSearchScorer(Pixels(), steps=1).score({"image": torch.zeros(2, SIDE, SIDE)})
    assert nothing.maps == {}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_searches_inside_an_evaluator(context: Any) -> None:
    made = LatentSearchScorer(Pixels(), steps=20, weight=0.1)
    expected = made.score(case()).scores
    with context():
        image = case()["image"] * 1.0
        assert made.score({"image": image}).scores == expected
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (context is torch.inference_mode)


def test_the_network_stays_as_it_was() -> None:
    torch.manual_seed(0)
    network = VariationalAutoencoder(2, (SIDE, SIDE), 4, channels=(8,)).train()
    network.autoencoder.mu.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kept = torch.full_like(network.autoencoder.decodeL.weight, 7.0)
    network.autoencoder.decodeL.weight.grad = kept.clone()
    state = torch.get_rng_state()
    LatentSearchScorer(network, steps=2).score(case())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(network.autoencoder.decodeL.weight.grad, kept)
    others = [value for name, value in network.named_parameters() if "decodeL.weight" not in name]
    assert all(value.grad is None and value.requires_grad for value in others)
    assert network.training
    assert not network.autoencoder.mu.training


def test_a_latent_map_and_frozen_weights_are_searched_too() -> None:
    torch.manual_seed(0)
    network = ConvolutionalAutoencoder(channels=(4, 4, 4)).requires_grad_(False)
    found = [
        LatentSearchScorer(network, steps=steps, weight=0.0).score(case()).scores["restoration_objective"]
        for steps in (0, 10)
    ]
    assert found[1] < found[0]


def test_bad_input_is_refused() -> None:
    for options, message in (
        ({"steps": -1}, "steps"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"weight": -0.1}, "weight"),
    ):
        with pytest.raises(ValueError, match=message):
            LatentSearchScorer(Pixels(), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"c0: .*channels ct, mri"):
        LatentSearchScorer(Pixels()).score(case(channels=1))
    broken = Pixels()
    with torch.no_grad():
        broken.gain.fill_(torch.nan)
    with pytest.raises(InputError, match="c0: the network's restoration holds NaN"):
        LatentSearchScorer(broken).score(case())
