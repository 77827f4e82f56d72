"""A training continues from its newest readable checkpoint, and a half-written one harms nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from monai_ctmri.engines import ResumableCheckpoint, SeededEpochs, latest_checkpoint, save_weights
from monai_ctmri.errors import InputError


class Training:
    """A linear fit by Adam, three random batches an epoch."""

    def __init__(self, folder: Path, *, width: int = 4, stop_at: int | None = None, **options: object) -> None:
        torch.manual_seed(99)
        self.network = torch.nn.Linear(width, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.engine = Engine(self.step)
        self.epochs: list[int] = []
        self.width, self.stop_at = width, stop_at
        SeededEpochs(0).attach(self.engine)
        objects = {"model": self.network, "optimizer": self.optimizer}
        ResumableCheckpoint(folder, objects, **options).attach(self.engine)  # type: ignore[arg-type]
        self.engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.epochs.append(engine.state.epoch))

    def step(self, engine: Engine, batch: int) -> float:
        if self.stop_at is not None and engine.state.iteration > self.stop_at:
            raise KeyboardInterrupt
        x = torch.rand(8, self.width)
        loss = (self.network(x) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def run(self, epochs: int, batches: int = 3) -> Training:
        self.engine.run(range(batches), max_epochs=epochs, epoch_length=batches)
        return self


def weights(training: Training) -> list[torch.Tensor]:
    return list(training.network.state_dict().values())


def test_interrupted_equals_uninterrupted(tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole").run(5)
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path / "cut", stop_at=7).run(5)  # in the middle of epoch 3
    assert latest_checkpoint(tmp_path / "cut") == tmp_path / "cut" / "checkpoint_epoch=2.pt"
    resumed = Training(tmp_path / "cut").run(5)
    assert resumed.epochs == [3, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_finished_training_does_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Training(tmp_path).run(3)
    with caplog.at_level(logging.INFO):
        again = Training(tmp_path).run(3)
        less = Training(tmp_path).run(2)
    assert again.epochs == less.epochs == []
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))
    assert "Nothing left to train: 3 of 2 epochs are done" in caplog.text
    assert Training(tmp_path).run(4).epochs == [4]


def test_other_number_of_batches_keeps_the_epoch(tmp_path: Path) -> None:
    Training(tmp_path).run(2)
    other = Training(tmp_path).run(3, batches=5)
    assert other.epochs == [3]
    assert other.engine.state.iteration == 15


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    Training(tmp_path, keep=3).run(12)
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint_epoch={n}.pt" for n in (10, 11, 12)}
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_epoch=12.pt"  # 12 > 9 as a number


def test_anew_removes_the_old(tmp_path: Path) -> None:
    Training(tmp_path, keep=9).run(4)
    (tmp_path / "note.txt").write_text("mine")
    training = Training(tmp_path, resume=False).run(1)
    assert training.epochs == [1]
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint_epoch=1.pt", "note.txt"}


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_unreadable_gives_way_to_the_one_before(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Training(tmp_path).run(2)
    newest = tmp_path / "checkpoint_epoch=2.pt"
    content = newest.read_bytes()
    if damage == "other":
        torch.save({"weight": torch.ones(1)}, newest)
    else:
        newest.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage])
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_epoch=1.pt"
    assert "checkpoint_epoch=2.pt cannot be read" in caplog.text
    assert newest.exists()
    assert Training(tmp_path).run(3).epochs == [2, 3]


def test_nothing_to_find(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_epoch=x.pt").write_text("")
    (tmp_path / "model.pt").write_text("")
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None


def test_another_network_is_an_input_error(tmp_path: Path) -> None:
    Training(tmp_path).run(1)
    with pytest.raises(InputError, match=r"checkpoint_epoch=1\.pt: a checkpoint of another network.*output_dir"):
        Training(tmp_path, width=5).run(2)


def test_weights_only_and_no_temporary_file(tmp_path: Path) -> None:
    Training(tmp_path).run(1)
    content = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
    assert set(content) == {"model", "optimizer", "trainer"}
    assert content["trainer"] == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_epoch=1.pt"]


def test_failed_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    save_weights({"weight": torch.ones(1)}, path)

    def half(content: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_weights({"weight": torch.zeros(1)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["weight"], torch.ones(1))
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_keep_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep"):
        ResumableCheckpoint(tmp_path, {}, keep=0)


def test_text_is_no_truth_value(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume: 'false' is no truth value; write True or False"):
        ResumableCheckpoint(tmp_path, {}, resume="false")  # type: ignore[arg-type]


def test_another_process_does_not_write(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.engine.state.rank = 1  # type: ignore[attr-defined]
    training.engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "rank", 1))
    training.run(1)
    assert list(tmp_path.iterdir()) == []
