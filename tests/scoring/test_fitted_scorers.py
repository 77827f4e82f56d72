"""What scorers learnt, on disk: plain, beside its weights, and refused with others."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from monai_ctmri.errors import InputError
from monai_ctmri.networks.denoiser import CrossModalDenoiser
from monai_ctmri.scoring.fitted_scorers import RunScorers, ScorerFitter
from monai_ctmri.scoring.joint import JointScorer
from monai_ctmri.scoring.latent_inconsistency import LatentInconsistencyScorer

FEATURES = (8, 8, 8, 8, 16, 8)
CASES = [{"case": str(seed), "image": torch.rand(2, 32, 32, generator=torch.manual_seed(seed))} for seed in range(4)]


def network_and_scorer() -> tuple[CrossModalDenoiser, JointScorer]:
    network = CrossModalDenoiser(features=FEATURES)
    return network, JointScorer({"latent": LatentInconsistencyScorer(network)})


def save_weights(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    torch.save(CrossModalDenoiser(features=FEATURES).state_dict(), folder / "models" / "model.pt")


def scores_after_start(output_dir: Path, bundle_root: Path) -> dict[str, float]:
    network, scorer = network_and_scorer()
    network.load_state_dict(torch.load((output_dir if (output_dir / "models" / "model.pt").is_file() else bundle_root)
                                       / "models" / "model.pt", weights_only=True))  # fmt: skip
    engine = Engine(lambda engine, batch: None)
    RunScorers(scorer, output_dir, bundle_root).attach(engine)
    engine.run([0])
    return scorer.score(CASES[3]).scores


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Path, dict[str, float]]:
    """Folder of a run with weights and fitted scorers, and what they say of a case."""
    save_weights(tmp_path / "run")
    network, scorer = network_and_scorer()
    path = ScorerFitter(scorer, network, tmp_path / "run", tmp_path / "bundle").fit(CASES[:3])
    assert path == tmp_path / "run" / "models" / "scorers.pt"
    return tmp_path / "run", scorer.score(CASES[3]).scores


def test_comes_back_as_it_was(fitted: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    run, expected = fitted
    content: dict[str, Any] = torch.load(run / "models" / "scorers.pt", weights_only=True)
    assert set(content["scorers"]) == {"latent"}
    assert scores_after_start(run, tmp_path / "bundle") == pytest.approx(expected)
    assert expected["latent_inconsistency"] > 0


def test_comes_with_the_weights_of_a_bundle(fitted: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    run, expected = fitted
    shutil.copytree(run, tmp_path / "bundle")
    assert scores_after_start(tmp_path / "elsewhere", tmp_path / "bundle") == pytest.approx(expected)


def test_without_the_file_one_line_says_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_weights(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert scores_after_start(tmp_path, tmp_path) == {}
    (record,) = caplog.records
    missing = tmp_path / "models" / "scorers.pt"
    assert record.getMessage() == f"Without latent: {missing} is not there; run fit_detectors"


def test_fitted_with_other_weights_is_not_used(
    fitted: tuple[Path, dict[str, float]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = fitted
    save_weights(run, seed=1)
    with caplog.at_level(logging.WARNING):
        assert scores_after_start(run, tmp_path) == {}
    assert "was fitted with other weights; run fit_detectors" in caplog.text


def test_a_broken_file_is_named(fitted: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    run, _ = fitted
    (run / "models" / "scorers.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"scorers\.pt: not a file of fitted scorers"):
        scores_after_start(run, tmp_path)


def test_no_weights_no_fit(tmp_path: Path) -> None:
    network, scorer = network_and_scorer()
    with pytest.raises(InputError, match="train first"):
        ScorerFitter(scorer, network, tmp_path, tmp_path).fit(CASES)
    assert not (tmp_path / "models").exists()
