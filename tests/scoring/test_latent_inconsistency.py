"""Latent inconsistency against scikit-learn's covariance and a network whose bottleneck is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf, ShrunkCovariance
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.networks import CrossModalDenoiser
from monai_ctmri.scoring.latent_inconsistency import LatentInconsistencyScorer
from monai_ctmri.scoring.scorer import Evidence, Scorer

SIDE = 16


class Blocks(nn.Module):
    """Bottleneck of 2 channels: the sum and the difference of the modalities, in 2 x 2 blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[torch.Tensor] = []

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        self.runs.append(image)
        both = torch.stack([image[:, 0] + image[:, 1], 2 * image[:, 0] - image[:, 1]], dim=1)
        return nn.functional.avg_pool2d(both, SIDE // 2)


def case_of(seed: int, shift: float = 0.0) -> dict:
    generator = np.random.default_rng(seed)
    level = generator.normal(0.5, 0.05, size=(2, 2, 2)).repeat(SIDE // 2, 1).repeat(SIDE // 2, 2)
    image = level + generator.normal(0, 0.02, size=(2, SIDE, SIDE))
    image[0] += shift
    return {keys.CASE: f"case-{seed}", keys.IMAGE: torch.from_numpy(image.astype(np.float32))}


def absent(case: dict, channel: int) -> dict:
    image = case[keys.IMAGE].clone()
    image[channel] = 0.0
    return {**case, keys.IMAGE: image}


def difference(case: dict, pool: int) -> np.ndarray:
    """CT-only minus MRI-only, worked out by hand: (c - m) and 2 c + m."""
    blocks = case[keys.IMAGE].double().numpy().reshape(2, 2, SIDE // 2, 2, SIDE // 2).mean(axis=(2, 4))
    if pool == 1:
        blocks = blocks.mean(axis=(1, 2), keepdims=True)
    return np.stack([blocks[0] - blocks[1], 2 * blocks[0] + blocks[1]]).reshape(-1)


NORMALS = [case_of(seed) for seed in range(40)]


def scores_of(scorer: LatentInconsistencyScorer, cases: list[dict]) -> np.ndarray:
    return np.array([scorer.score(case).scores["latent_inconsistency"] for case in cases])


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0, None])
@pytest.mark.parametrize("count", [40, 6])
def test_it_is_the_mahalanobis_distance_of_scikit_learn(pool: int, shrinkage: float | None, count: int) -> None:
    if shrinkage == 0.0 and count == 6 and pool == 2:
        pytest.skip("five directions for eight numbers have no inverse without shrinkage")
    scorer = LatentInconsistencyScorer(Blocks(), shrinkage=shrinkage, latent_pool=pool)
    assert isinstance(scorer, Scorer)
    assert scorer.fit(iter(NORMALS[:count])) is scorer
    rows = np.stack([difference(case, pool) for case in NORMALS[:count]])
    truth = (LedoitWolf() if shrinkage is None else ShrunkCovariance(shrinkage=shrinkage)).fit(rows)
    tested = [case_of(100), case_of(101, shift=0.3), NORMALS[0]]
    expected = np.sqrt(truth.mahalanobis(np.stack([difference(case, pool) for case in tested])))
    np.testing.assert_allclose(scores_of(scorer, tested), expected, rtol=1e-3)


def test_fewer_components_share_the_rest_of_the_variance() -> None:
    scorer = LatentInconsistencyScorer(Blocks(), components=3, shrinkage=0.2, latent_pool=2).fit(NORMALS)
    rows = np.stack([difference(case, 2) for case in NORMALS])
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    values[:-3] = values[:-3].mean()
    covariance = 0.8 * (vectors * values) @ vectors.T + 0.2 * values.mean() * np.eye(8)
    centred = difference(case_of(7, 0.2), 2) - rows.mean(axis=0)
    expected = np.sqrt(centred @ np.linalg.solve(covariance, centred))
    assert scores_of(scorer, [case_of(7, 0.2)])[0] == pytest.approx(expected, rel=1e-3)
    assert scorer.directions_.shape == (3, 8)


def test_normals_are_whitened_and_a_disagreement_stands_out() -> None:
    scorer = LatentInconsistencyScorer(Blocks(), shrinkage=0.0, latent_pool=2).fit(NORMALS)
    # The mean squared distance of the fitted cases is the number of columns.
    assert (scores_of(scorer, NORMALS) ** 2).mean() == pytest.approx(8.0, rel=1e-3)
    fresh = scores_of(scorer, [case_of(seed) for seed in range(50, 70)])
    assert scores_of(scorer, [case_of(80, 0.3)])[0] > 1.5 * fresh.max()


def test_each_pass_sees_one_modality() -> None:
    network = Blocks()
    LatentInconsistencyScorer(network).fit(NORMALS[:3])
    ct_only, mri_only = network.runs
    for images, there in ((ct_only, 0), (mri_only, 1)):
        assert not images[:, 1 - there].any()
        assert torch.equal(images[:, there], torch.stack([case[keys.IMAGE][there] for case in NORMALS[:3]]))


def test_a_case_without_both_modalities_has_no_score_and_teaches_nothing() -> None:
    scorer = LatentInconsistencyScorer(Blocks()).fit(NORMALS)
    mixed = LatentInconsistencyScorer(Blocks()).fit([absent(case_of(90), 0), *NORMALS, absent(case_of(91), 1)])
    assert torch.equal(mixed.mean_, scorer.mean_)
    assert scorer.score(absent(NORMALS[0], 0)) == scorer.score(absent(NORMALS[0], 1)) == Evidence()
    together = scorer.score_batch([absent(NORMALS[0], 0), NORMALS[1], absent(NORMALS[2], 1), NORMALS[3]])
    assert [bool(evidence.scores) for evidence in together] == [False, True, False, True]
    found = [together[1].scores["latent_inconsistency"], together[3].scores["latent_inconsistency"]]
    np.testing.assert_allclose(found, scores_of(scorer, [NORMALS[1], NORMALS[3]]), rtol=1e-5)


def test_too_few_normals_are_refused() -> None:
    for cases in ([], NORMALS[:1], [NORMALS[0], absent(NORMALS[1], 0)]):
        with pytest.raises(InputError, match=r"score latent_inconsistency: . normal cases .* give at least 2"):
            LatentInconsistencyScorer(Blocks()).fit(cases)
    with pytest.raises(InputError, match=r"5 normal cases .* give at least 6, or ask for fewer components"):
        LatentInconsistencyScorer(Blocks(), components=5).fit(NORMALS[:5])


def test_normals_that_never_vary_give_finite_scores() -> None:
    scorer = LatentInconsistencyScorer(Blocks()).fit([NORMALS[0], NORMALS[0]])
    assert np.isfinite(scores_of(scorer, NORMALS[:2])).all()
    assert scores_of(scorer, NORMALS[:1])[0] < 1e-3 < scores_of(scorer, NORMALS[1:2])[0]


@pytest.mark.parametrize("components", [None, 2])
def test_what_was_learnt_survives_a_file(tmp_path, components: int | None) -> None:
    scorer = LatentInconsistencyScorer(Blocks(), components=components, latent_pool=2).fit(NORMALS)
    torch.save(scorer.state_dict(), tmp_path / "scorer.pt")
    other = LatentInconsistencyScorer(Blocks(), latent_pool=2)
    with pytest.raises(RuntimeError, match="fit it on normal cases first"):
        other.score(NORMALS[0])
    with pytest.raises(RuntimeError, match="fit it on normal cases first"):
        other.state_dict()
    other.load_state_dict(torch.load(tmp_path / "scorer.pt", weights_only=True))
    np.testing.assert_array_equal(scores_of(other, NORMALS[:4]), scores_of(scorer, NORMALS[:4]))
    with pytest.raises(InputError, match="latent_inconsistency: has no mean_, variances_; fit it again"):
        other.load_state_dict({name: value for name, value in scorer.state_dict().items() if name[0] not in "mv"})


def test_a_latent_of_another_length_is_refused() -> None:
    scorer = LatentInconsistencyScorer(Blocks(), latent_pool=2).fit(NORMALS)
    scorer.latent_pool = 1
    with pytest.raises(InputError, match="2 latent columns, fitted on 8"):
        scorer.score(NORMALS[0])


@pytest.mark.parametrize("mirror", [False, True])
def test_the_cross_modal_denoiser_serves(mirror: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CrossModalDenoiser(features=(8, 8, 8, 8, 16, 8), mirror=mirror).train()
    images = [torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    cases = [{keys.CASE: str(n), keys.IMAGE: image} for n, image in enumerate(images)]
    scorer = LatentInconsistencyScorer(network, name="between").fit(cases)
    assert network.training
    found = scorer.score(cases[0]).scores
    assert list(found) == ["between"]
    assert len(scorer.mean_) == 16
    if mirror:
        with_mirror = {**cases[0], keys.IMAGE: torch.cat([images[0], images[0].flip(-1)])}
        assert scorer.score(with_mirror).scores == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ("ct",)}, "two modalities"),
        ({"components": 0}, "components"),
        ({"shrinkage": 1.5}, "shrinkage"),
        ({"latent_pool": 0}, "latent_pool"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentInconsistencyScorer(Blocks(), **options)
