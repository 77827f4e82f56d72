"""One detector a set of modalities: what each is fitted on, what a case is told, what survives a file and a process."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_ctmri.detection.mahalanobis import MahalanobisDetector
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.detection.outlier_scorer import OutlierScorer
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.scorer import Evidence


class Means:
    """Features: the mean of each channel, and the product of the two, which a pair alone has."""

    def fit(self, cases: Any) -> Means:
        return self

    def score(self, case: Any) -> Evidence:
        ct, mri = (float(channel.mean()) for channel in case["image"][:2])
        return Evidence(features={"ct_mean": ct, "mri_mean": mri, "product": ct * mri})


class Latents(Means):
    """The same by ``latent_features``; its maps must not be asked for."""

    def latent_features(self, cases: Any) -> list[dict[str, float]]:
        return [super(Latents, self).score(case).features for case in cases]

    def score(self, case: Any) -> Evidence:
        raise AssertionError("the features alone are wanted")


def case(ct: float, mri: float, name: str = "c", mirror: bool = False) -> dict[str, Any]:
    image = torch.stack([torch.full((2, 2), ct), torch.full((2, 2), mri)])
    return {"case": name, "image": torch.cat([image, image]) if mirror else image}


GENERATOR = np.random.default_rng(0)
PAIRS = [case(*GENERATOR.uniform(0.4, 0.6, 2), name=f"n{number}") for number in range(20)]


def fitted(**options: Any) -> OutlierScorer:
    return OutlierScorer(Means(), MahalanobisDetector(), **options).fit(iter(PAIRS))


def expected(view: str, ct: float, mri: float) -> float:
    """The detector fitted by hand on what the view shows of the normals."""
    shown = {"pair": (1, 1), "ct": (1, 0), "mri": (0, 1)}[view]
    pairs = [(one["image"][0, 0, 0] * shown[0], one["image"][1, 0, 0] * shown[1]) for one in PAIRS]
    rows = np.array([[float(a), float(b), float(a) * float(b)] for a, b in pairs])
    ct, mri = np.float32(ct) * shown[0], np.float32(mri) * shown[1]
    return float(MahalanobisDetector().fit(rows).decision_function([[ct, mri, ct * mri]])[0])


def test_a_pair_is_judged_whole_and_by_each_half() -> None:
    scores = fitted().score(case(0.9, 0.5)).scores
    assert list(scores) == ["outlier", "outlier_ct", "outlier_mri"]
    for name, view in zip(scores, ("pair", "ct", "mri"), strict=True):
        assert scores[name] == pytest.approx(expected(view, 0.9, 0.5), rel=1e-5), name
    assert scores["outlier_ct"] > 3 > scores["outlier_mri"]  # the CT alone is unusual


@pytest.mark.parametrize(("ct", "mri", "only"), [(0.7, 0.0, "outlier_ct"), (0.0, 0.7, "outlier_mri")])
def test_one_modality_is_judged_as_in_a_pair(ct: float, mri: float, only: str) -> None:
    scorer = fitted()
    scores = scorer.score(case(ct, mri)).scores
    assert list(scores) == [only]
    assert scores[only] == scorer.score(case(ct or 0.5, mri or 0.5)).scores[only]


def test_without_the_halves() -> None:
    scorer = fitted(alone=False)
    assert list(scorer.score(case(0.5, 0.5)).scores) == ["outlier"]
    assert scorer.score(case(0.5, 0.0)).scores == {}  # no normal was like this


def test_normals_of_one_modality_teach_that_one_alone(caplog: pytest.LogCaptureFixture) -> None:
    halves = [case(float(one["image"][0, 0, 0]), 0.0) for one in PAIRS]
    with caplog.at_level(logging.WARNING):
        scorer = OutlierScorer(Means(), MahalanobisDetector(), "odd").fit([*halves, case(0.0, 0.5)])
    assert scorer.score(case(0.9, 0.5)).scores == {"odd_ct": pytest.approx(expected("ct", 0.9, 0.0), rel=1e-5)}
    assert "one normal case with mri alone" in caplog.text


def test_a_network_with_one_modality_has_one_score() -> None:
    scorer = OutlierScorer(OnlyFirst(), MahalanobisDetector(), modalities=["mri"])
    some = [{"case": str(number), "image": torch.full((1, 2, 2), 0.4 + 0.01 * number)} for number in range(5)]
    assert list(scorer.fit(some).score(some[0]).scores) == ["outlier"]


class OnlyFirst(Means):
    def score(self, case: Any) -> Evidence:
        return Evidence(features={"mean": float(case["image"].mean())})


def test_a_withheld_modality_is_withheld_from_the_mirror_image_too() -> None:
    seen = []

    class Spy(Means):
        def score(self, case: Any) -> Evidence:
            seen.append((case["image"] != 0).flatten(1).any(dim=1).tolist())
            return super().score(case)

    item = case(0.5, 0.5, mirror=True)
    before = item["image"].clone()
    OutlierScorer(Spy(), OutlierDetector("HBOS")).fit([item, case(0.4, 0.6, mirror=True)])
    assert seen[:3] == [[True] * 4, [True, False, True, False], [False, True, False, True]]
    assert torch.equal(item["image"], before)


def test_features_alone_are_asked_for_where_they_can_be() -> None:
    quick = OutlierScorer(Latents(), MahalanobisDetector()).fit(PAIRS)
    assert quick.score(case(0.9, 0.5)).scores == fitted().score(case(0.9, 0.5)).scores


def test_the_detector_of_the_configuration_stays_unfitted() -> None:
    detector = MahalanobisDetector()
    scorer = OutlierScorer(Means(), detector).fit(PAIRS)
    assert not hasattr(detector, "detector_")
    assert len({id(one) for one in scorer.detectors_.values()}) == 3


NEW_PROCESS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_outlier_scorer import Means, OutlierScorer, OutlierDetector, case
scorer = OutlierScorer(Means(), OutlierDetector("HBOS"))
scorer.load_state_dict(torch.load(sys.argv[2], weights_only=True))
print({name: value.hex() for name, value in scorer.score(case(0.9, 0.3)).scores.items()})
"""


def test_the_same_bit_by_bit_in_a_new_process(tmp_path: Path) -> None:
    """The state says which detector it is, whatever the configuration would fit."""
    scorer = OutlierScorer(Means(), OutlierDetector("KNN", explained_variance=0.99)).fit(PAIRS)
    torch.save(scorer.state_dict(), tmp_path / "state.pt")
    words = [sys.executable, "-c", NEW_PROCESS, str(Path(__file__).parent), str(tmp_path / "state.pt")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = {name: value.hex() for name, value in scorer.score(case(0.9, 0.3)).scores.items()}
    assert done.stdout.strip() == str(here)


def test_a_state_that_was_changed_is_refused() -> None:
    state = fitted().state_dict()
    changed = {**state, "ct": {**state["ct"], ".skops": state["ct"][".skops"].clone()}}
    changed["ct"][".skops"][40] += 1
    with pytest.raises(InputError, match="SHA-256 differs"):
        OutlierScorer(Means(), MahalanobisDetector()).load_state_dict(changed)
    with pytest.raises(InputError, match="was fitted for ct and pet"):
        OutlierScorer(Means(), MahalanobisDetector()).load_state_dict({"ct+pet": state["ct"]})
    for wrong in ({}, {"ct": {}}, {"ct": {"json": "{}"}}, {"ct": "text"}):
        with pytest.raises(InputError):
            OutlierScorer(Means(), MahalanobisDetector()).load_state_dict(wrong)


def test_before_fit_there_is_no_state_and_no_score() -> None:
    scorer = OutlierScorer(Means(), MahalanobisDetector())
    for ask in (scorer.state_dict, lambda: scorer.score(case(0.5, 0.5))):
        with pytest.raises(RuntimeError, match="fit it on normal cases first"):
            ask()


def test_bad_cases_are_named() -> None:
    scorer = fitted()
    with pytest.raises(InputError, match="blank: the image is 0 everywhere"):
        scorer.score(case(0.0, 0.0, name="blank"))
    with pytest.raises(InputError, match="less than two normal cases"):
        OutlierScorer(Means(), MahalanobisDetector()).fit(PAIRS[:1])
    other = OutlierScorer(OnlyFirst(), MahalanobisDetector())
    other.load_state_dict(scorer.state_dict())
    with pytest.raises(InputError, match="c: 1 features for outlier, fitted on 3"):
        other.score(case(0.5, 0.5))
