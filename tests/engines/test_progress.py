"""The bar reads MONAI's list of dictionaries and stays silent where told."""

from __future__ import annotations

import io

import pytest
import torch
from ignite.engine import Engine

from monai_ctmri.engines import TrainingProgress


def run(disable: bool | None, output: object) -> str:
    stream = io.StringIO()
    engine = Engine(lambda engine, batch: output)
    TrainingProgress(disable=disable, file=stream, mininterval=0).attach(engine)
    engine.run([1, 2, 3], max_epochs=2)
    return stream.getvalue()


@pytest.mark.parametrize("output", [[{"loss": torch.tensor(0.25)}, {"loss": torch.tensor(0.25)}], {"loss": 0.25}])
def test_loss_is_shown(output: object) -> None:
    text = run(False, output)
    assert "loss=0.25" in text
    assert "[2/2]" in text


def test_silent() -> None:
    assert run(True, [{"loss": 1.0}]) == ""


def test_silent_in_a_log_file() -> None:
    assert run(None, [{"loss": 1.0}]) == ""
