"""A volume against what a network expects of it, window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_ctmri.errors import InputError
from monai_ctmri.scoring.scorer import Scorer
from monai_ctmri.scoring.volume_denoising import VolumeDenoiserScorer


class Expects(nn.Module):
    """Says that each modality is half of what the other one shows, with a scale of .1; any window size."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.1).log())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 * image.flip(1), self.log_scale.expand_as(image)], dim=1)


def volume(ct: float = 0.8, mri: float = 0.6) -> MetaTensor:
    """A block of tissue in air, 24 x 24 x 12."""
    image = torch.zeros(2, 24, 24, 12)
    image[0, 4:20, 4:20] = ct
    image[1, 4:20, 4:20] = mri
    return MetaTensor(image, affine=torch.diag(torch.tensor([2.0, 2.0, 4.0, 1.0])))


def test_values_follow_from_the_prediction() -> None:
    scorer = VolumeDenoiserScorer(Expects())
    assert isinstance(scorer, Scorer)
    evidence = scorer.score({"case": "one", "image": volume()})
    assert set(evidence.maps) == {f"{w}{s}" for w in ("error", "mismatch") for s in ("", "_ct", "_mri")}
    inside = np.zeros((24, 24, 12), dtype=bool)
    inside[4:20, 4:20] = True
    for name, expected in {"error_ct": 5.0, "error_mri": 2.0, "error": 3.5, "mismatch_ct": 5.0}.items():
        assert evidence.maps[name].shape == (24, 24, 12)
        np.testing.assert_allclose(evidence.maps[name][inside], expected, rtol=1e-5)
        np.testing.assert_allclose(evidence.maps[name][~inside], 0.0, atol=1e-6)
        assert evidence.scores[f"{name}_mean"] == pytest.approx(expected, rel=1e-5)
        assert evidence.scores[f"{name}_top"] == pytest.approx(expected, rel=1e-5)


def test_windows_change_nothing_for_a_network_that_looks_at_one_voxel() -> None:
    image = volume() * torch.rand(2, 24, 24, 12, generator=torch.manual_seed(0))
    inferer = SlidingWindowInferer((8, 8, 8), 4, overlap=0.25, mode="gaussian")
    whole = VolumeDenoiserScorer(Expects()).score({"image": image})
    windows = VolumeDenoiserScorer(Expects(), inferer).score({"image": image})
    for name, values in whole.maps.items():
        np.testing.assert_allclose(windows.maps[name], values, atol=1e-4)
    assert windows.scores == pytest.approx(whole.scores, rel=1e-3)


@pytest.mark.parametrize(("absent", "there"), [(1, "ct"), (0, "mri")])
def test_an_absent_modality_has_no_names(absent: int, there: str) -> None:
    image = volume()
    image[absent] = 0
    evidence = VolumeDenoiserScorer(Expects()).score({"image": image})
    assert set(evidence.maps) == {"error", f"error_{there}"}
    np.testing.assert_array_equal(evidence.maps["error"], evidence.maps[f"error_{there}"])


def test_top_is_above_mean_where_a_lesion_is() -> None:
    image = volume()
    image[0, 10:14, 10:14, 4:8] = 1.0
    scores = VolumeDenoiserScorer(Expects()).score({"image": image}).scores
    assert scores["error_ct_top"] == pytest.approx(7.0, rel=1e-4)
    assert scores["error_ct_mean"] < 5.2
    rough = VolumeDenoiserScorer(Expects(), smallest_scale=1.0).score({"image": image}).scores
    assert rough["error_ct_top"] == pytest.approx(0.7, rel=1e-4)


def test_training_flags_come_back_and_nothing_is_learnt() -> None:
    network = Expects().train()
    scorer = VolumeDenoiserScorer(network)
    assert scorer.fit([]) is scorer
    scorer.score({"image": volume()})
    assert network.training


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(2, 8, 8), "is no volume"),
        (torch.rand(1, 8, 8, 8), "is no volume"),
        (torch.zeros(2, 8, 8, 8), "0 everywhere"),
        (torch.full((2, 8, 8, 8), float("nan")), "NaN"),
    ],
)
def test_bad_images_are_named(image: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=rf"case-7.*{message}"):
        VolumeDenoiserScorer(Expects()).score({"case": "case-7", "image": image})


@pytest.mark.parametrize("option", [{"smallest_scale": -1.0}, {"top_fraction": 0.0}, {"top_fraction": 1.5}])
def test_bad_options(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        VolumeDenoiserScorer(Expects(), **option)  # type: ignore[arg-type]
