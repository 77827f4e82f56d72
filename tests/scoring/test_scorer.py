"""The contract of a scorer: what counts as one, and what its evidence is."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.scoring.baselines import trivial_baselines
from monai_ctmri.scoring.reconstruction import LatentScorer, ReconstructionScorer
from monai_ctmri.scoring.scorer import Evidence, Scorer

SIDE = 24


class Blur(nn.Module):
    """Smooths the image; its latent is the image in small."""

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image, 3, stride=1, padding=1)


def every_scorer() -> dict[str, Scorer]:
    reconstruction = ReconstructionScorer(Blur())
    found: dict[str, Scorer] = {type(one).__name__ + str(n): one for n, one in enumerate(trivial_baselines())}
    return {
        **found,
        "reconstruction": reconstruction,
        "latent": LatentScorer(reconstruction, OutlierDetector("OCSVM")),
    }


@pytest.fixture(scope="module")
def cases() -> list[dict]:
    generator = np.random.default_rng(5)
    found = []
    for index in range(8):
        image = np.zeros((2, SIDE, SIDE), dtype=np.float32)
        image[:, 3:-3, 3:-3] = generator.uniform(0.2, 0.9, size=(2, SIDE - 6, SIDE - 6))
        found.append({keys.CASE: f"case-{index}", keys.IMAGE: torch.from_numpy(image)})
    return found


def test_evidence_starts_empty_and_shares_nothing():
    one, other = Evidence(), Evidence()
    assert (one.maps, one.scores, one.features) == ({}, {}, {})
    one.scores["a"] = 1.0
    assert other.scores == {}


def test_evidence_cannot_be_rebound():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Evidence().scores = {}  # type: ignore[misc]


def test_evidence_survives_pickling_between_workers():
    evidence = Evidence(maps={"m": np.eye(3, dtype=np.float32)}, scores={"s": 1.5}, features={"f": 2.0})
    again = pickle.loads(pickle.dumps(evidence))
    np.testing.assert_array_equal(again.maps["m"], np.eye(3))
    assert (again.scores, again.features) == (evidence.scores, evidence.features)


def test_a_scorer_is_what_fits_and_scores():
    class Half:
        def score(self, case):
            return Evidence()

    class Whole(Half):
        def fit(self, normal_cases):
            return self

    assert isinstance(Whole(), Scorer)
    assert not isinstance(Half(), Scorer)


@pytest.mark.parametrize("name", every_scorer())
def test_every_scorer_keeps_the_contract(name, cases):
    scorer = every_scorer()[name]
    assert isinstance(scorer, Scorer)
    assert scorer.fit(iter(cases)) is scorer  # a generator is enough: one pass
    first = [scorer.score(case) for case in cases]
    again = [scorer.score(case) for case in reversed(cases)][::-1]
    for one, other in zip(first, again, strict=True):
        assert isinstance(one, Evidence)
        assert one.scores
        assert one.scores == other.scores
        assert one.features == other.features
        for part in (one.scores, one.features):
            assert all(type(label) is str and type(value) is float for label, value in part.items())
            assert np.isfinite(list(part.values())).all()
        for label, image in one.maps.items():
            assert type(image) is np.ndarray
            assert image.shape == (SIDE, SIDE)
            assert image.dtype == np.float32
            np.testing.assert_array_equal(image, other.maps[label])


@pytest.mark.parametrize("name", every_scorer())
def test_every_case_gets_the_same_columns(name, cases):
    scorer = every_scorer()[name].fit(cases)
    columns = {(tuple(e.maps), tuple(e.scores), tuple(e.features)) for e in map(scorer.score, cases)}
    assert len(columns) == 1


@pytest.mark.parametrize("name", every_scorer())
def test_scoring_changes_neither_case_nor_process(name, cases):
    scorer = every_scorer()[name].fit(cases)
    before = cases[0][keys.IMAGE].clone()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    scorer.score(cases[0])
    assert set(cases[0]) == {keys.CASE, keys.IMAGE}
    assert torch.equal(cases[0][keys.IMAGE], before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002


def test_no_two_scorers_name_a_score_alike(cases):
    names = [label for scorer in every_scorer().values() for label in scorer.fit(cases).score(cases[0]).scores]
    assert len(names) == len(set(names))
