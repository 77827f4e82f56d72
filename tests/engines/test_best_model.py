"""The best weights are those of the best validation, also across a resume; patience counts validations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from monai_ctmri.engines import BestModelKeeper, ResumableCheckpoint
from monai_ctmri.errors import InputError

LOSSES = {1: 0.9, 2: 0.5, 3: 0.7, 4: 0.6, 5: 0.4, 6: 0.8}


def train(
    folder: Path,
    epochs: int,
    losses: dict[int, float] = LOSSES,
    patience: int | None = None,
    interval: int = 1,
    rank: int = 0,
    mode: str = "min",
) -> tuple[int, BestModelKeeper]:
    """Train epochs whose weight is the epoch's number and whose validation error is given; return the last epoch."""
    network = torch.nn.Linear(1, 1, bias=False)
    validator = Engine(lambda engine, batch: None)
    trainer = Engine(lambda engine, batch: network.weight.data.fill_(engine.state.epoch))
    keeper = BestModelKeeper(validator, network, folder / "models" / "model.pt", "val_mse", patience, mode)

    @trainer.on(Events.EPOCH_COMPLETED(every=interval))
    def validate(engine: Engine) -> None:
        validator.state.epoch = engine.state.epoch
        validator.state.metrics = {"val_mse": losses[engine.state.epoch]}

    keeper.attach(trainer)
    ResumableCheckpoint(folder / "checkpoints", {"model": network, "best_model": keeper}).attach(trainer)
    trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "rank", rank))
    trainer.run([0], max_epochs=epochs, epoch_length=1)
    return trainer.state.epoch, keeper


def saved(folder: Path) -> float:
    content = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert list(content) == ["weight"]  # a plain state dictionary
    return float(content["weight"])


@pytest.mark.parametrize(("epochs", "best"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 5), (6, 5)])
def test_lowest_so_far(epochs: int, best: int, tmp_path: Path) -> None:
    _, keeper = train(tmp_path, epochs)
    assert saved(tmp_path) == best
    assert (keeper.best, keeper.best_epoch) == (LOSSES[best], best)


def test_a_resume_does_not_forget_the_best(tmp_path: Path) -> None:
    train(tmp_path, 2)
    _, keeper = train(tmp_path, 4)  # 0.7 and 0.6 are worse than the 0.5 of before
    assert saved(tmp_path) == 2
    assert keeper.validator.state.best_metric == 0.5
    train(tmp_path, 5)
    assert saved(tmp_path) == 5


def test_lost_weights_are_replaced(tmp_path: Path) -> None:
    train(tmp_path, 2)
    (tmp_path / "models" / "model.pt").unlink()
    train(tmp_path, 3)
    assert saved(tmp_path) == 3


def test_patience(tmp_path: Path) -> None:
    last, _ = train(tmp_path, 6, patience=2)  # the best of epoch 2 is followed by two worse
    assert last == 4
    assert (tmp_path / "checkpoints" / "checkpoint_epoch=4.pt").is_file()  # the last epoch is kept too
    again, _ = train(tmp_path, 6, patience=2)
    assert again == 4
    more, _ = train(tmp_path, 6, patience=3)  # more patience continues
    assert more == 6
    assert saved(tmp_path) == 5


def test_patience_counts_across_a_resume(tmp_path: Path) -> None:
    assert train(tmp_path, 3, patience=2)[0] == 3
    assert train(tmp_path, 6, patience=2)[0] == 4


def test_epochs_without_validation_do_not_count(tmp_path: Path) -> None:
    _, keeper = train(tmp_path, 5, interval=2)
    assert (keeper.best_epoch, keeper.waited) == (2, 1)


def test_nan_is_never_best(tmp_path: Path) -> None:
    _, keeper = train(tmp_path, 2, {1: math.nan, 2: math.nan})
    assert not (tmp_path / "models" / "model.pt").exists()
    assert (keeper.best, keeper.waited) == (math.inf, 2)


def test_another_process_keeps_count_but_does_not_write(tmp_path: Path) -> None:
    _, keeper = train(tmp_path, 2, rank=1)
    assert keeper.best == 0.5
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("epochs", "best"), [(1, 1), (4, 1), (6, 6)])
def test_highest_so_far(epochs: int, best: int, tmp_path: Path) -> None:
    losses = LOSSES | {6: 0.95}
    _, keeper = train(tmp_path, epochs, losses, mode="max")
    assert saved(tmp_path) == best
    assert (keeper.best, keeper.best_epoch) == (losses[best], best)


def test_highest_across_a_resume_and_its_patience(tmp_path: Path) -> None:
    train(tmp_path, 2, mode="max")
    last, keeper = train(tmp_path, 6, mode="max", patience=3)
    assert (last, keeper.best_epoch, saved(tmp_path)) == (4, 1, 1)


def test_nan_is_never_highest(tmp_path: Path) -> None:
    _, keeper = train(tmp_path, 2, {1: math.nan, 2: 0.1}, mode="max")
    assert (keeper.best, keeper.best_epoch, saved(tmp_path)) == (0.1, 2, 2)


def test_a_best_value_of_another_kind_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 2)
    with pytest.raises(InputError, match="another network or configuration"):
        train(tmp_path, 4, mode="max")
    assert saved(tmp_path) == 2


def test_bad_mode(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use min or max"):
        BestModelKeeper(Engine(lambda e, b: None), torch.nn.Linear(1, 1), tmp_path / "m.pt", "val_mse", mode="best")


def test_bad_patience(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patience"):
        BestModelKeeper(Engine(lambda e, b: None), torch.nn.Linear(1, 1), tmp_path / "m.pt", "val_mse", patience=0)
