"""The reconstruction probability, against the closed form of a linear Gaussian autoencoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_ctmri.errors import InputError
from monai_ctmri.networks.variational_autoencoder import VariationalAutoencoder
from monai_ctmri.scoring.probability import ReconstructionProbabilityScorer
from monai_ctmri.scoring.scorer import Scorer
from monai_ctmri.transforms import HeadMask, MapScore

SIDE = 12
LATENT = 3


class LinearGaussian(nn.Module):
    """``z ~ N(E x, diag(v))``, ``x | z ~ N(W z + c, s^2)``: the mean of -log p over z is known in closed form."""

    def __init__(self, channels: int = 2, scale: float = 0.3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        pixels = channels * SIDE * SIDE
        self.channels, self.log_scale = channels, math.log(scale)
        self.encoder = nn.Parameter(0.2 * torch.randn(LATENT, pixels, generator=generator))
        self.decoder = nn.Parameter(0.2 * torch.randn(pixels, LATENT, generator=generator))
        self.centre = nn.Parameter(0.5 * torch.ones(pixels))
        self.log_variance = nn.Parameter(torch.tensor([-1.0, 0.0, 0.5]))
        self.dropout = nn.Dropout(0.5)

    def posterior(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image.flatten(1) @ self.encoder.T, self.log_variance.expand(len(image), -1)

    def likelihood(self, latent: torch.Tensor) -> torch.Tensor:
        mean = (latent @ self.decoder.T + self.centre).reshape(-1, self.channels, SIDE, SIDE)
        return torch.cat([self.dropout(mean), torch.full_like(mean, self.log_scale)], dim=1)

    def closed_form(self, image: torch.Tensor) -> np.ndarray:
        """``((x - W m - c)^2 + W v W^T) / (2 s^2) + log s + log(2 pi) / 2``, pixel by pixel."""
        with torch.no_grad():
            mean, log_variance = (each.double() for each in self.posterior(image[None]))
            weight = self.decoder.double()
            error = image.double().flatten() - weight @ mean[0] - self.centre.double()
            spread = (weight**2) @ torch.exp(log_variance[0])
            value = (error**2 + spread) / (2 * math.exp(2 * self.log_scale)) + self.log_scale
        return (value + math.log(2 * math.pi) / 2).reshape(image.shape).numpy()


def case(seed: int = 0, channels: int = 2) -> dict[str, Any]:
    image = torch.rand(channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return {"image": 0.2 + 0.8 * image, "case": f"c{seed}"}


def scorer(network: nn.Module | None = None, **options: Any) -> ReconstructionProbabilityScorer:
    return ReconstructionProbabilityScorer(network or LinearGaussian(), **{"likelihood": "normal", **options})


def test_it_is_a_scorer_that_learns_nothing() -> None:
    made = scorer()
    assert isinstance(made, Scorer)
    assert made.fit([]) is made
    assert made.state_dict() == {}
    made.load_state_dict({})


def test_the_estimate_converges_to_the_closed_form() -> None:
    network, one = LinearGaussian(), case()
    expected = network.closed_form(one["image"])
    errors = []
    for samples in (4, 64, 4096):
        maps = scorer(network, samples=samples).score(one).maps
        errors.append(np.abs(np.stack([maps["improbability_ct"], maps["improbability_mri"]]) - expected).mean())
    assert errors[2] < 0.25 * errors[1] < 0.25 * errors[0]
    assert errors[2] < 0.02 * expected.std()
    np.testing.assert_allclose(maps["improbability"], expected.mean(axis=0), atol=0.05 * expected.std())


def test_scores_are_the_maps_in_numbers() -> None:
    made = scorer(samples=3)
    evidence = made.score(case())
    mask = np.asarray(HeadMask()(case()["image"]))[0] > 0
    for suffix in ("", "_ct", "_mri"):
        one = evidence.maps[f"improbability{suffix}"]
        assert one.dtype == np.float32
        assert one.shape == (SIDE, SIDE)
        assert evidence.scores[f"improbability_mean{suffix}"] == pytest.approx(float(one[mask].mean()), rel=1e-5)
        expected = MapScore()(one, mask)["top"]
        assert evidence.scores[f"improbability_top{suffix}"] == pytest.approx(expected, rel=1e-5)
    assert set(evidence.maps) == {"improbability", "improbability_ct", "improbability_mri"}
    assert len(evidence.scores) == 7


def test_divergence_and_features_are_of_the_latent() -> None:
    network, one = LinearGaussian(), case()
    evidence = scorer(network).score(one)
    mean, log_variance = (each[0].double().detach().numpy() for each in network.posterior(one["image"][None]))
    expected = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum()
    assert evidence.scores["divergence"] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(list(evidence.features.values()), mean, rtol=1e-5)
    assert list(evidence.features) == ["latent_000", "latent_001", "latent_002"]


def test_a_score_depends_on_the_case_and_the_seed_alone() -> None:
    made = scorer(samples=2)
    first = made.score(case())
    torch.manual_seed(99)
    torch.rand(7)
    state = torch.get_rng_state()
    made.score(case(1))
    second = made.score(case())
    assert torch.equal(torch.get_rng_state(), state), "the process's random state was used"
    assert first.scores == second.scores
    np.testing.assert_array_equal(first.maps["improbability"], second.maps["improbability"])
    assert scorer(samples=2, seed=1).score(case()).scores != first.scores


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_cases_scored_together_are_scored_alone(batch_size: int) -> None:
    made = scorer(samples=2)
    cases = [case(seed) for seed in range(3)]
    for one, found in zip(cases, made.score_batch(cases, batch_size), strict=True):
        alone = made.score(one)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
        np.testing.assert_allclose(found.maps["improbability"], alone.maps["improbability"], atol=1e-5)


def test_an_error_counts_for_more_where_the_network_is_sure() -> None:
    class TwoScales(LinearGaussian):
        def likelihood(self, latent: torch.Tensor) -> torch.Tensor:
            found = torch.zeros(len(latent), 4, SIDE, SIDE)
            found[:, :2] = 0.5
            found[:, 2:, :, : SIDE // 2], found[:, 2:, :, SIDE // 2 :] = math.log(0.05), math.log(0.5)
            return found

    images = torch.full((2, SIDE, SIDE), 0.5)
    images[:, 5, 2] = images[:, 5, 9] = 1.0
    found = scorer(TwoScales(), likelihood="laplace").score({"image": images}).maps["improbability_ct"]
    clean = found[0, 2], found[0, 9]
    assert found[5, 2] - clean[0] == pytest.approx(0.5 / 0.05, rel=1e-4)
    assert found[5, 9] - clean[1] == pytest.approx(0.5 / 0.5, rel=1e-4)
    assert clean[0] == pytest.approx(math.log(2 * 0.05), rel=1e-4)
    assert clean[0] < 0, "a density may exceed 1"


def test_an_absent_modality_has_no_name() -> None:
    one = case()
    one["image"][0] = 0.0
    evidence = scorer().score(one)
    assert set(evidence.maps) == {"improbability", "improbability_mri"}
    np.testing.assert_array_equal(evidence.maps["improbability"], evidence.maps["improbability_mri"])
    assert not any("_ct" in name for name in evidence.scores)


def test_nothing_present_leaves_no_map() -> None:
    evidence = scorer().score({"image": torch.zeros(2, SIDE, SIDE)})
    assert evidence.maps == {}
    assert set(evidence.scores) == {"divergence"}


def test_the_network_stays_as_it_was() -> None:
    network = LinearGaussian().train()
    network.dropout.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (scorer(network).score(case()).scores for _ in range(2))
    assert first == second
    assert network.training
    assert not network.dropout.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_projects_own_network() -> None:
    torch.manual_seed(0)
    network = VariationalAutoencoder(2, (16, 16), 4, channels=(8, 8)).train()
    image = torch.rand(2, 16, 16)
    maps = ReconstructionProbabilityScorer(network, samples=5, seed=3).score({"image": image}).maps
    draws = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    network.eval()
    with torch.no_grad():
        mean, log_variance = network.posterior(image[None])
        pred = network.likelihood(mean + torch.exp(log_variance / 2) * draws)
    expected = -torch.distributions.Laplace(pred[:, :2], pred[:, 2:].exp()).log_prob(image).mean(dim=0)
    np.testing.assert_allclose(maps["improbability"], expected.mean(dim=0).numpy(), rtol=1e-4, atol=1e-5)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="samples must be at least 1"):
        scorer(samples=0)
    with pytest.raises(ValueError, match="likelihood must be one of laplace, normal"):
        scorer(likelihood="cauchy")
    with pytest.raises(InputError, match=r"c0: .*channels ct, mri"):
        scorer().score(case(channels=1))
    one = case()
    one["image"][0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="c0: the image holds NaN"):
        scorer().score(one)
    network = LinearGaussian()
    with torch.no_grad():
        network.centre[3] = torch.nan
    with pytest.raises(InputError, match="c0: the network's likelihood holds NaN"):
        scorer(network).score(case())
