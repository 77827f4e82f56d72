"""A learning-rate schedule goes on where a killed training left it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler
from torch.optim import lr_scheduler

from monai_ctmri.engines import ResumableCheckpoint, SeededEpochs

EPOCHS = 6
SCHEDULES: dict[str, Any] = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS),
    "warm restarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2),
    "steps": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 4]),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=EPOCHS + 1),
    "warm-up": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, total_iters=2), lr_scheduler.ExponentialLR(optimizer, 0.5)],
        [2],
    ),
}


def train(folder: Path, schedule: str, epochs: int = EPOCHS, killed_in: int | None = None) -> dict[int, Any]:
    """Return the learning rate of each epoch that ran, and under 0 the weights."""
    torch.manual_seed(5)
    network = torch.nn.Linear(4, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    scheduler = SCHEDULES[schedule](optimizer)
    rates: dict[int, Any] = {}

    def step(engine: Engine, batch: int) -> None:
        rates[engine.state.epoch] = optimizer.param_groups[0]["lr"]
        if engine.state.epoch == killed_in:
            raise KeyboardInterrupt
        x = torch.rand(8, 4)
        loss = (network(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    engine = Engine(step)
    SeededEpochs(0).attach(engine)
    LrScheduleHandler(scheduler, print_lr=False).attach(engine)
    objects = {"model": network, "optimizer": optimizer, "scheduler": scheduler}
    ResumableCheckpoint(folder, objects).attach(engine)
    try:
        engine.run([0, 1], max_epochs=epochs)
    except KeyboardInterrupt:
        rates.pop(killed_in or 0)
    return rates | {0: torch.cat([p.detach().flatten() for p in network.parameters()])}


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_a_killed_training_goes_on_with_the_same_rates(schedule: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", schedule)
    before = train(tmp_path / "cut", schedule, killed_in=4)
    after = train(tmp_path / "cut", schedule)
    assert sorted(before) == [0, 1, 2, 3]
    assert sorted(after) == [0, 4, 5, 6]
    assert len({whole[epoch] for epoch in range(1, EPOCHS + 1)}) > 1  # the rate does change
    for epoch in range(1, EPOCHS + 1):
        assert (before if epoch < 4 else after)[epoch] == whole[epoch]
    assert torch.equal(after[0], whole[0])


def test_cosine_is_the_formula(tmp_path: Path) -> None:
    rates = train(tmp_path, "cosine")
    for epoch in range(1, EPOCHS + 1):
        expected = 0.05 * (1 + torch.cos(torch.tensor((epoch - 1) / EPOCHS * torch.pi, dtype=torch.float64)))
        assert rates[epoch] == pytest.approx(float(expected), abs=1e-12)


def test_a_handler_behind_the_checkpoint_would_repeat_a_rate(tmp_path: Path) -> None:
    """Why the schedule has to stand before the checkpoint in the list of handlers."""
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    engine = Engine(lambda engine, batch: optimizer.step())
    ResumableCheckpoint(tmp_path, {"scheduler": scheduler}).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: scheduler.step())
    engine.run([0], max_epochs=1)
    content = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
    assert content["scheduler"]["last_epoch"] == 0
