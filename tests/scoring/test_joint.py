"""Several scorers as one: evidence side by side, states by name, the unfitted left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from monai_ctmri.scoring.joint import JointScorer
from monai_ctmri.scoring.scorer import Evidence, Scorer


class Plain:
    """Needs no fit, has no state."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = 0

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> Plain:
        self.seen = len(list(normal_cases))
        return self

    def score(self, case: Mapping[str, Any]) -> Evidence:
        value = float(case["image"].mean())
        return Evidence({f"{self.name}_map": case["image"][0].numpy()}, {f"{self.name}_mean": value}, {self.name: 1.0})


class Learner(Plain):
    """How far a case's mean lies from that of the normals."""

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> Learner:
        self.centre_ = torch.stack([case["image"].mean() for case in normal_cases]).mean()
        return self

    def score(self, case: Mapping[str, Any]) -> Evidence:
        return Evidence(scores={self.name: float((case["image"].mean() - self.centre_).abs())})

    def state_dict(self) -> dict[str, Any]:
        if not hasattr(self, "centre_"):
            raise RuntimeError("fit first")
        return {"centre_": self.centre_}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.centre_ = state["centre_"]


def case(value: float) -> dict[str, Any]:
    return {"case": "one", "image": torch.full((2, 4, 4), value)}


def test_is_a_scorer() -> None:
    assert isinstance(JointScorer({"a": Plain("a")}), Scorer)


def test_evidence_of_all_and_none_of_the_unfitted() -> None:
    joint = JointScorer({"a": Plain("a"), "far": Learner("far")})
    assert joint.unfitted == ["far"]
    assert joint.score(case(0.5)).scores == {"a_mean": 0.5}
    assert joint.state_dict() == {}
    joint.fit([case(0.2), case(0.4)])
    assert joint.unfitted == []
    evidence = joint.score(case(0.5))
    assert evidence.scores == {"a_mean": 0.5, "far": pytest.approx(0.2)}
    assert evidence.features == {"a": 1.0}
    np.testing.assert_array_equal(evidence.maps["a_map"], np.full((4, 4), 0.5, dtype=np.float32))


def test_cases_that_can_be_read_once_reach_every_scorer() -> None:
    plain = Plain("a")
    joint = JointScorer({"far": Learner("far"), "a": plain}).fit(case(value) for value in (0.2, 0.4, 0.6))
    assert plain.seen == 3
    assert joint.score(case(0.4)).scores["far"] == pytest.approx(0.0, abs=1e-6)


def test_state_goes_over_by_name() -> None:
    state = JointScorer({"a": Plain("a"), "far": Learner("far")}).fit([case(0.2)]).state_dict()
    assert list(state) == ["far"]
    other = JointScorer({"far": Learner("far")})
    other.load_state_dict(state | {"of another run": {"centre_": torch.tensor(9.0)}})
    assert other.score(case(0.5)).scores == {"far": pytest.approx(0.3)}


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="second gives maps that another scorer gave: a_map"):
        JointScorer({"first": Plain("a"), "second": Plain("a")}).score(case(0.5))
    with pytest.raises(ValueError, match="at least one"):
        JointScorer({})
