"""The history file against losses and metrics that are known beforehand."""

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events

from monai_ctmri.engines.history import EpochHistory, read_history


def trainer_with(losses: list[float], as_list: bool) -> Engine:
    def step(engine, batch):
        output = {"loss": losses[engine.state.iteration - 1]}
        return [output] if as_list else output

    return Engine(step)


@pytest.mark.parametrize("as_list", [True, False])
def test_mean_loss_and_metrics_of_each_epoch(tmp_path, as_list):
    evaluator = Engine(lambda engine, batch: None)
    trainer = trainer_with([1.0, 3.0, 0.5, 0.25], as_list)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.state.metrics = {"val_mse": engine.state.epoch / 10}

    EpochHistory(tmp_path / "history.json", evaluator).attach(trainer)
    trainer.run([0, 1], max_epochs=2)
    assert read_history(tmp_path / "history.json") == [
        {"epoch": 1, "train_loss": 2.0, "val_mse": 0.1},
        {"epoch": 2, "train_loss": 0.375, "val_mse": 0.2},
    ]


def test_a_resumed_training_keeps_the_earlier_epochs_and_replaces_repeated_ones(tmp_path):
    path = tmp_path / "history.json"
    first = trainer_with([1.0, 2.0, 3.0], False)
    EpochHistory(path).attach(first)
    first.run([0], max_epochs=3)
    second = trainer_with([0.0, 0.0, 7.0, 8.0], False)
    EpochHistory(path).attach(second)

    @second.on(Events.STARTED)
    def resume(engine):
        engine.state.epoch, engine.state.iteration = 2, 2

    second.run([0], max_epochs=4)
    assert [(entry["epoch"], entry["train_loss"]) for entry in read_history(path)] == [(1, 1), (2, 2), (3, 7), (4, 8)]


def test_other_processes_do_not_write(tmp_path):
    trainer = trainer_with([1.0], False)
    trainer.state.rank = 1
    EpochHistory(tmp_path / "history.json").attach(trainer)
    trainer.run([0], max_epochs=1)
    assert read_history(tmp_path / "history.json") == []
