"""Random state is given back exactly; seeded epochs draw the same wherever a training starts."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.transforms import Compose, RandGaussianNoised

from monai_ctmri.engines import SeededEpochs, preserved_random_state


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


def reseed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def test_states_are_given_back() -> None:
    reseed(3)
    expected = [draw(), draw()]
    reseed(3)
    assert draw() == expected[0]
    with preserved_random_state():
        reseed(42)
        draw()
    assert draw() == expected[1]


def test_states_are_given_back_after_an_error() -> None:
    reseed(3)
    expected = draw()
    reseed(3)
    with pytest.raises(RuntimeError, match="inside"), preserved_random_state():  # noqa: PT012
        reseed(42)
        raise RuntimeError("inside")
    assert draw() == expected


def epochs(seed: int, start: int, stop: int, *, disturb: bool = False) -> dict[int, tuple[float, float]]:
    """What each epoch draws from torch and from a random transform."""
    dataset = Dataset(
        [{"image": torch.zeros(1, 4, 4)}], Compose([RandGaussianNoised("image", prob=1.0, mean=0.0, std=1.0)])
    )
    drawn = {}
    engine = Engine(lambda engine, batch: None)
    SeededEpochs(seed, dataset).attach(engine)

    @engine.on(Events.STARTED)
    def begin(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = start, start * 2

    @engine.on(Events.EPOCH_COMPLETED)
    def record(engine: Engine) -> None:
        drawn[engine.state.epoch] = (float(torch.rand(1)), float(dataset[0]["image"].sum()))
        if disturb:
            torch.rand(7)

    engine.run([0, 1], max_epochs=stop)
    return drawn


def test_a_resumed_run_draws_what_an_uninterrupted_one_draws() -> None:
    whole = epochs(0, 0, 4)
    assert len(set(whole.values())) == 4
    assert {**epochs(0, 0, 2, disturb=True), **epochs(0, 2, 4)} == whole


def test_seed_matters() -> None:
    assert epochs(0, 0, 1) != epochs(1, 0, 1)


def test_without_dataset() -> None:
    engine = Engine(lambda engine, batch: None)
    SeededEpochs(5).attach(engine)
    engine.run([0])
    first = torch.rand(1)
    engine.run([0])
    assert torch.equal(first, torch.rand(1))
