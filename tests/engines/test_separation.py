"""The separation of planted pixels, against scikit-learn and networks whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from sklearn.metrics import roc_auc_score

from monai_ctmri.engines import BestModelKeeper, PixelSeparation, PlantedSeparation, PrepareBatchReconstruction
from monai_ctmri.networks import CrossModalDenoiser

SIZE = 16


def case(number: int) -> dict[str, Any]:
    """Flat tissue with a patch of .3 more planted into it; the outermost frame is no head."""
    generator = torch.Generator().manual_seed(number)
    image = 0.2 + 0.4 * torch.rand(2, SIZE, SIZE, generator=generator)
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, 4 + number : 8 + number, 4:8] = 1
    mask[:, 0] = -1
    return {
        "image": image,
        "planted": image + 0.3 * (mask > 0),
        "planted_mask": mask,
        "clean": image,
        "case": f"c{number}",
    }


class Copies(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


class Flat(torch.nn.Module):
    """Says 0.4 everywhere, with a scale of its own choice."""

    def __init__(self, log_scale: torch.Tensor | None = None) -> None:
        super().__init__()
        self.log_scale = log_scale

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = torch.full_like(image, 0.4)
        if self.log_scale is None:
            return mean
        return torch.cat([mean, self.log_scale.expand_as(mean)], dim=1)


class Knows(torch.nn.Module):
    """Takes away whatever is above the tissue's range: finds what was planted on bright tissue."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.clamp(max=0.6)


def evaluate(network: torch.nn.Module, cases: list[dict[str, Any]], batch_size: int = 2, **options: Any) -> Any:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=batch_size),
        network=network,
        prepare_batch=PrepareBatchReconstruction(),
        key_val_metric={"val_separation": PlantedSeparation(**options)},
    )
    evaluator.run()
    return evaluator.state


def truth(cases: list[dict[str, Any]], error: Any) -> float:
    """Mean over the cases of scikit-learn's area."""
    areas = []
    for each in cases:
        where = each["planted_mask"][0] >= 0
        areas.append(roc_auc_score(each["planted_mask"][0][where] == 1, error(each["planted"])[where]))
    return float(np.mean(areas))


CASES = [case(number) for number in range(3)]


def test_area_is_that_of_scikit_learn_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    error = torch.randint(0, 6, (4, 1, 20, 20), generator=generator).float()
    mask = torch.randint(-1, 2, (4, 1, 20, 20), generator=generator).float()
    found = PixelSeparation()(error, mask)
    for each, value, where in zip(error, found, mask, strict=True):
        assert float(value) == pytest.approx(roc_auc_score(where[where >= 0] == 1, each[where >= 0]), abs=1e-6)


def test_a_network_that_copies_is_at_chance() -> None:
    assert evaluate(Copies(), CASES).metrics["val_separation"] == 0.5


def test_a_plain_network() -> None:
    state = evaluate(Flat(), CASES)
    expected = truth(CASES, lambda planted: (planted - 0.4).abs().mean(dim=0))
    assert state.metrics["val_separation"] == pytest.approx(expected, abs=1e-6)
    assert state.metric_details["val_separation"].shape == (3, 1)
    assert state.best_metric == state.metrics["val_separation"]
    assert evaluate(Knows(), CASES).metrics["val_separation"] > 0.9


def test_the_scale_counts() -> None:
    log_scale = torch.zeros(1, 2, SIZE, SIZE)
    log_scale[:, 1] = torch.linspace(-2, 2, SIZE)[:, None]
    found = evaluate(Flat(log_scale), CASES).metrics["val_separation"]
    expected = truth(CASES, lambda planted: ((planted - 0.4).abs() / log_scale[0].exp()).mean(dim=0))
    assert found == pytest.approx(expected, abs=1e-6)
    assert found != pytest.approx(evaluate(Flat(), CASES).metrics["val_separation"], abs=1e-3)


def test_an_absent_modality_does_not_count() -> None:
    cases = [dict(each) for each in CASES]
    for each in cases:
        each["planted"] = each["planted"].clone()
        each["planted"][1] = 0
    found = evaluate(Flat(), cases).metrics["val_separation"]
    assert found == pytest.approx(truth(cases, lambda planted: (planted[0] - 0.4).abs()), abs=1e-6)


def test_only_the_first_channels_are_modalities() -> None:
    cases = [{**each, "planted": torch.cat([each["planted"], 5 * each["image"].flip(-1)])} for each in CASES]
    cases = [{**each, "image": each["planted"]} for each in cases]
    found = evaluate(Flat(), cases, modalities=2).metrics["val_separation"]
    expected = truth(CASES, lambda planted: (planted - 0.4).abs().mean(dim=0))
    # Flat gives four channels here, of which the last two are read as log-scales: 0.4 everywhere changes no order.
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batch_size_and_order_do_not_matter(batch_size: int) -> None:
    torch.manual_seed(0)
    network = CrossModalDenoiser(features=(16,) * 6)
    cases = [{**each, **{n: torch.nn.functional.pad(each[n], (8, 8, 8, 8)) for n in NAMES}} for each in CASES]
    expected = evaluate(network, cases, 1).metrics["val_separation"]
    assert evaluate(network, cases[::-1], batch_size).metrics["val_separation"] == pytest.approx(expected, abs=1e-4)


NAMES = ("image", "planted", "planted_mask")


def test_cases_without_a_planted_pixel_are_left_out() -> None:
    empty = {**CASES[0], "planted_mask": torch.zeros(1, SIZE, SIZE)}
    state = evaluate(Flat(), [empty, *CASES])
    assert state.metrics["val_separation"] == pytest.approx(evaluate(Flat(), CASES).metrics["val_separation"])
    assert math.isnan(state.metric_details["val_separation"][0])
    assert math.isnan(evaluate(Flat(), [empty]).metrics["val_separation"])


def test_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="differ"):
        PixelSeparation()(torch.rand(1, 1, 4, 4), torch.ones(1, 1, 5, 5))


def test_the_best_model_is_the_one_that_separates_best(tmp_path: Path) -> None:
    """Higher wins in the evaluator and in the keeper, though later networks copy better."""
    networks = {1: Knows(), 2: Flat(), 3: Copies()}
    holder = torch.nn.Linear(1, 1, bias=False)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(CASES), batch_size=3),
        network=networks[1],
        prepare_batch=PrepareBatchReconstruction(),
        key_val_metric={"val_separation": PlantedSeparation()},
    )
    keeper = BestModelKeeper(evaluator, holder, tmp_path / "model.pt", "val_separation", mode="max")

    class Trainer:
        state: Any

    for epoch, network in networks.items():
        evaluator.network = network
        evaluator.run(epoch)
        holder.weight.data.fill_(epoch)
        Trainer.state = type("State", (), {"epoch": epoch, "rank": 0})
        keeper(Trainer)  # type: ignore[arg-type]
    assert keeper.best_epoch == evaluator.state.best_metric_epoch == 2
    assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == 2
