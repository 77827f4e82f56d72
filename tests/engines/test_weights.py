"""A run's own weights come before the bundle's; wrong ones are an input error, not a traceback."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from monai_ctmri.engines import RunWeights, find_weights, save_weights
from monai_ctmri.errors import InputError


def put(home: Path, value: float) -> Path:
    path = home / "models" / "model.pt"
    save_weights({"weight": torch.full((1, 1), value)}, path)
    return path


def test_own_then_bundle_then_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    with pytest.raises(InputError, match=r"run/models/model\.pt: no trained weights here.*; train first"):
        find_weights(run, bundle)
    theirs = put(bundle, 2.0)
    with caplog.at_level(logging.INFO):
        assert find_weights(run, bundle) == theirs
    assert f"the bundle's weights: {theirs}" in caplog.text
    own = put(run, 1.0)
    with caplog.at_level(logging.INFO):
        assert find_weights(run, bundle) == own
    assert f"this run's own weights: {own}" in caplog.text


def test_loaded_when_the_engine_starts(tmp_path: Path) -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    engine = Engine(lambda engine, batch: None)
    RunWeights(network, tmp_path, tmp_path / "bundle").attach(engine)  # no file yet, no error yet
    put(tmp_path, 3.0)
    engine.run([0])
    assert float(network.weight) == 3.0


@pytest.mark.parametrize("content", ["other", "broken"])
def test_weights_of_another_network(content: str, tmp_path: Path) -> None:
    path = put(tmp_path, 1.0)
    if content == "broken":
        path.write_bytes(b"no weights")
    engine = Engine(lambda engine, batch: None)
    RunWeights(torch.nn.Linear(2, 1, bias=False), tmp_path, tmp_path).attach(engine)
    with pytest.raises(InputError, match="not weights of this network; use the modalities"):
        engine.run([0])
