"""The image is its own target, whatever labels the batch has."""

from __future__ import annotations

import pytest
import torch

from monai_ctmri.engines import PrepareBatchReconstruction


@pytest.mark.parametrize("extra", [{}, {"label": torch.tensor([0, 1])}])
def test_image_is_input_and_target(extra: dict) -> None:
    image = torch.rand(2, 2, 8, 8)
    given, target = PrepareBatchReconstruction()({"image": image, **extra}, "cpu")
    assert given is target
    assert torch.equal(given, image)


def test_other_key_and_dtype() -> None:
    given, _ = PrepareBatchReconstruction("ct")({"ct": torch.ones(1, 1, 4, 4)}, "cpu", dtype=torch.float64)
    assert given.dtype is torch.float64


def test_a_clean_image_is_the_target_of_a_spoilt_one() -> None:
    batch = {"image": torch.zeros(1, 2, 4, 4), "target": torch.ones(1, 2, 4, 4)}
    given, target = PrepareBatchReconstruction(target_key="target")(batch, "cpu", dtype=torch.float64)
    assert torch.equal(given, torch.zeros(1, 2, 4, 4, dtype=torch.float64))
    assert torch.equal(target, torch.ones(1, 2, 4, 4, dtype=torch.float64))
    with pytest.raises(KeyError, match="target"):
        PrepareBatchReconstruction(target_key="target")({"image": batch["image"]})


def test_missing_image_is_an_error() -> None:
    with pytest.raises(KeyError, match="image"):
        PrepareBatchReconstruction()({"label": torch.tensor([0])})
