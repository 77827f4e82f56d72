"""What scorers of a trained network share: names, means over what is present, stacks in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from monai_ctmri.errors import InputError
from monai_ctmri.scoring.scorer import Evidence, Scorer
from monai_ctmri.scoring.trained_network import TrainedNetworkScorer
from monai_ctmri.transforms import MapScore


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, *image.shape[1:])


class Brightness(TrainedNetworkScorer):
    """Says how bright each channel is."""

    def _score_stack(self, images: torch.Tensor, names: list[str]) -> list[Evidence]:
        self.stacks = [*getattr(self, "stacks", []), names]
        return [self._evidence("bright", one, one, {"fixed": 2.0}, {"column": 1.0}) for one in images]


def scorer() -> Brightness:
    return Brightness(nn.Identity(), ("ct", "mri"), map_score=MapScore(1.0, 0, 1), head_mask=everywhere)


def case(ct: float, mri: float, name: str = "one") -> dict:
    return {"case": name, "image": torch.stack([torch.full((8, 8), ct), torch.full((8, 8), mri)])}


def test_is_a_scorer_without_a_state() -> None:
    made = scorer()
    assert isinstance(made, Scorer)
    assert made.fit([case(0.1, 0.2)]) is made
    assert made.state_dict() == {}
    made.load_state_dict({})
    with pytest.raises(TypeError):
        TrainedNetworkScorer(nn.Identity(), ("ct",))  # type: ignore[abstract]


def test_maps_and_scores_of_each_modality_and_their_mean() -> None:
    found = scorer().score(case(0.2, 0.6))
    assert set(found.maps) == {"bright", "bright_ct", "bright_mri"}
    assert np.allclose(found.maps["bright"], 0.4)
    assert found.scores["fixed"] == 2.0
    assert found.scores["bright_mean_mri"] == pytest.approx(0.6)
    assert found.scores["bright_top"] == pytest.approx(0.4)
    assert found.features == {"column": 1.0}


def test_an_absent_modality_has_no_name_and_no_part_in_the_mean() -> None:
    found = scorer().score(case(0.0, 0.6))
    assert set(found.maps) == {"bright", "bright_mri"}
    assert np.allclose(found.maps["bright"], 0.6)
    assert not [name for name in found.scores if name.endswith("_ct")]


def test_stacks_keep_the_order() -> None:
    made = scorer()
    cases = [case(0.1 * number, 0.5, f"case {number}") for number in range(1, 6)]
    found = made.score_batch(cases, batch_size=2)
    assert [len(names) for names in made.stacks] == [2, 2, 1]
    assert [one.scores["bright_mean_ct"] for one in found] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(InputError, match="one"):
        scorer().score({"case": "one", "image": torch.ones(3, 8, 8)})
