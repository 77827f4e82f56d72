"""Products of witnesses: the formula, the names, and what is passed on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ctmri.scoring.scorer import Evidence, Scorer
from monai_ctmri.scoring.witnesses import PRODUCTS, WitnessScorer
from monai_ctmri.transforms import MapScore

GENERATOR = np.random.default_rng(0)
A, B = (GENERATOR.uniform(0, 9, (16, 16)).astype(np.float32) for _ in range(2))


class Fixed:
    """Draws the same maps of every case."""

    def __init__(self, maps: dict[str, np.ndarray]) -> None:
        self.maps = maps
        self.seen = 0

    def fit(self, normal_cases) -> Fixed:
        self.seen = len(list(normal_cases))
        return self

    def score(self, case) -> Evidence:
        return Evidence(dict(self.maps), {"own": 3.0}, {"column": 1.5})


class Learning(Fixed):
    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def case(channels: int = 2) -> dict:
    return {"image": torch.full((channels, 16, 16), 0.5), "case": "one"}


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, *image.shape[1:])


def test_is_a_scorer():
    assert isinstance(WitnessScorer(Fixed({})), Scorer)


def test_the_geometric_mean():
    found = WitnessScorer(Fixed({"asymmetry": A, "error": B})).score(case())
    assert np.allclose(found.maps["asymmetry_error"], np.sqrt(A.astype(float) * B), rtol=1e-5)
    assert found.maps["asymmetry_error"].dtype == np.float32
    assert "mirrored_error" not in found.maps


def test_three_factors():
    products = {"all": ("a", "b", "c")}
    maps = {"a": A, "b": B, "c": A + B}
    found = WitnessScorer(Fixed(maps), products=products).score(case()).maps["all"]
    assert np.allclose(found, (A.astype(float) * B * (A + B)) ** (1 / 3), rtol=1e-5)


def test_negative_factors_count_as_nothing():
    found = WitnessScorer(Fixed({"asymmetry": -A, "error": B})).score(case())
    assert not found.maps["asymmetry_error"].any()


def test_large_values_do_not_overflow():
    huge = np.full((16, 16), 1e30, dtype=np.float32)
    found = WitnessScorer(Fixed({"asymmetry": huge, "error": huge})).score(case())
    assert np.allclose(found.maps["asymmetry_error"], huge, rtol=1e-3)


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_products_of_one_modality(modality):
    maps = {"asymmetry": A, "error": B, f"asymmetry_{modality}": B, f"error_{modality}": B}
    found = WitnessScorer(Fixed(maps)).score(case())
    assert np.allclose(found.maps[f"asymmetry_error_{modality}"], B, rtol=1e-5)
    other = {"ct": "mri", "mri": "ct"}[modality]
    assert not [name for name in (*found.maps, *found.scores) if name.endswith(f"_{other}")]


def test_a_product_with_a_missing_factor_has_no_name():
    found = WitnessScorer(Fixed({"asymmetry": A})).score(case())
    assert set(found.maps) == {"asymmetry"}
    assert found.scores == {"own": 3.0}


def test_scores_are_those_of_the_map():
    number = MapScore(top_fraction=0.1, erode=0, median=1)
    found = WitnessScorer(Fixed({"asymmetry": A, "error": B}), mask=everywhere, map_score=number).score(case())
    product = np.sqrt(A.astype(float) * B)
    assert found.scores["asymmetry_error_mean"] == pytest.approx(product.mean(), rel=1e-5)
    assert found.scores["asymmetry_error_top"] == pytest.approx(np.sort(product.ravel())[-26:].mean(), rel=1e-5)


def test_the_mask_sees_the_modalities_alone():
    seen = []

    def mask(image):
        seen.append(tuple(image.shape))
        return everywhere(image)

    WitnessScorer(Fixed({"asymmetry": A, "error": B}), mask=mask).score(case(channels=4))
    assert seen == [(2, 16, 16)]


def test_what_the_scorer_says_is_passed_on():
    found = WitnessScorer(Fixed({"asymmetry": A, "error": B})).score(case())
    assert found.maps["asymmetry"] is A
    assert found.scores["own"] == 3.0
    assert found.features == {"column": 1.5}


def test_fit_and_state_are_those_of_the_scorer():
    learning = WitnessScorer(Learning({}))
    assert learning.fit([case(), case()]).state_dict() == {"seen": 2}
    other = WitnessScorer(Learning({}))
    other.load_state_dict(learning.state_dict())
    assert other.state_dict() == {"seen": 2}
    assert WitnessScorer(Fixed({})).state_dict() == {}


def test_one_factor_is_no_product():
    with pytest.raises(ValueError, match="at least two"):
        WitnessScorer(Fixed({}), products={"alone": ("error",)})


def test_a_name_is_not_taken_twice():
    with pytest.raises(ValueError, match="draws error"):
        WitnessScorer(Fixed({"error": A, "b": B}), products={"error": ("error", "b")}).score(case())


def test_the_default_products_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        PRODUCTS["more"] = ("a", "b")
