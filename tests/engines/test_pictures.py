"""Panels that TensorBoard gets: what is drawn where, for which cases and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from monai_ctmri.engines import PrepareBatchReconstruction, TensorBoardPictures
from monai_ctmri.errors import InputError


class Writer:
    def __init__(self) -> None:
        self.drawn: dict[tuple[str, int], torch.Tensor] = {}

    def add_image(self, tag: str, picture: torch.Tensor, step: int) -> None:
        self.drawn[tag, step] = picture

    def flush(self) -> None: ...


class Network(torch.nn.Module):
    """A tenth more than the image, then channels that are no pictures."""

    def __init__(self, further: int) -> None:
        super().__init__()
        self.further = further

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image + 0.1, torch.full_like(image[:, : self.further], -4.0)], dim=1)


def run(handler: Any, further: int = 2, epochs: int = 1, shape: tuple[int, ...] = (4, 6)) -> torch.Tensor:
    images = torch.rand(5, 2, *shape, generator=torch.Generator().manual_seed(0)) * 0.8
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(
            Dataset([{"image": image, "case": f"c{number}"} for number, image in enumerate(images)]), batch_size=2
        ),
        network=Network(further),
        prepare_batch=PrepareBatchReconstruction(),
        val_handlers=[handler],
    )
    for epoch in range(1, epochs + 1):
        evaluator.run(epoch)
    return images


@pytest.mark.parametrize("further", [0, 2])
def test_panel(further: int) -> None:
    writer = Writer()
    images = run(TensorBoardPictures(cases=3, summary_writer=writer), further)
    assert list(writer.drawn) == [(f"validation/c{number}", 1) for number in range(3)]
    for number in range(3):
        panel = writer.drawn[f"validation/c{number}", 1]
        assert panel.shape == (1, 8, 18)
        assert torch.equal(panel[0, :4, :6], images[number, 0])
        assert torch.equal(panel[0, 4:, :6], images[number, 1])
        assert torch.equal(panel[0, 4:, 6:12], images[number, 1] + 0.1)
        assert torch.allclose(panel[0, :, 12:], torch.full((8, 6), 0.4), atol=1e-6)  # .1 times the gain of 4


def test_each_n_epochs() -> None:
    writer = Writer()
    run(TensorBoardPictures(cases=1, interval=2, summary_writer=writer, tag="x"), epochs=5)
    assert list(writer.drawn) == [("x/c0", 2), ("x/c0", 4)]


def test_more_cases_than_there_are() -> None:
    writer = Writer()
    run(TensorBoardPictures(cases=9, summary_writer=writer))
    assert len(writer.drawn) == 5


def test_volumes_show_their_middle() -> None:
    writer = Writer()
    images = run(TensorBoardPictures(cases=1, summary_writer=writer), shape=(4, 6, 5))
    assert torch.equal(writer.drawn["validation/c0", 1][0, :4, :6], images[0, 0, :, :, 2])


def test_mirrored_channels_are_not_drawn() -> None:
    writer = Writer()
    run(TensorBoardPictures(cases=1, modalities=1, summary_writer=writer))
    assert writer.drawn["validation/c0", 1].shape == (1, 4, 18)


def test_the_file_can_be_read(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(TensorBoardPictures(str(tmp_path), cases=2))
    events = accumulators.EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["images"] == ["validation/c0", "validation/c1"]
    (picture,) = events.Images("validation/c0")
    assert (picture.height, picture.width) == (8, 18)


@pytest.mark.parametrize("options", [{"cases": 0}, {"interval": 0}, {"modalities": 0}, {"residual_gain": 0.0}])
def test_bad_options(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        TensorBoardPictures(str(tmp_path), **options)
