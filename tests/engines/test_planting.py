"""Planted anomalies: where the mask says and nowhere else, the same for a case however it is met, of family A only."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose

from monai_ctmri.engines import PlantedAnomalyd
from monai_ctmri.errors import InputError
from monai_ctmri.transforms import InjectHemorrhaged, RandGainShiftd, RandNoiseBlobsd

SIZE = 64


def head(seed: int = 0) -> torch.Tensor:
    """A bright ring of bone around textured tissue, CT and MRI."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    radius = np.hypot(rows, columns)
    texture = 0.5 + 0.05 * generator.standard_normal((2, SIZE, SIZE))
    image = np.where(radius < 24, texture, 0.0)
    bone = (radius >= 24) & (radius < 28)
    image[0][bone], image[1][bone] = 1.0, 0.1
    return torch.from_numpy(image.astype(np.float32))


def plant(image: torch.Tensor | None = None, name: str = "c", **options: object) -> dict[Any, Any]:
    given = head() if image is None else image
    return PlantedAnomalyd(pixel_spacing_mm=3.6, **options)({"image": given, "case": name})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list("abcdefgh"))
def test_changes_lie_where_the_mask_says(name: str) -> None:
    image = head()
    made = plant(image, name)
    changed = (made["planted"] != image).any(dim=0, keepdim=True)
    mask = made["planted_mask"]
    assert torch.equal(made["image"], image)
    assert made["planted"].shape == image.shape
    assert mask.shape == (1, SIZE, SIZE)
    assert set(mask.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert not changed[mask == 0].any()
    assert changed[mask == 1].float().mean() > 0.8  # noise and warps leave a pixel alone by chance
    assert (image[0][mask[0] >= 0] > 0.05).all()  # inside the head
    assert 0.0 <= made["planted"].min() <= made["planted"].max() <= 1.0


def test_untouched_pixels_are_all_the_rest_of_the_head() -> None:
    made = plant(anomalies=[RandGainShiftd(prob=1.0, pixel_spacing_mm=3.6, gain=(1.3, 1.4))])
    inside = head()[0] > 0
    faint = (made["planted"] != head()).any(dim=0) & (made["planted_mask"][0] < 1)
    assert faint.any()  # the soft edge: neither planted nor untouched
    assert torch.equal(made["planted_mask"][0] == 0, inside & (made["planted"] == head()).all(dim=0))


def test_a_case_gets_the_same_anomaly_in_any_order() -> None:
    one = PlantedAnomalyd(pixel_spacing_mm=3.6)
    cases: list[dict[Any, Any]] = [{"image": head(seed), "case": f"case {seed}"} for seed in range(5)]
    forth = [one(case)["planted"] for case in cases]
    back = [one(case)["planted"] for case in cases[::-1]][::-1]
    cached: Any = CacheDataset(cases, Compose([PlantedAnomalyd(pixel_spacing_mm=3.6)]), num_workers=3, progress=False)
    for first, second, third in zip(forth, back, cached, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third["planted"])
    again = PlantedAnomalyd(pixel_spacing_mm=3.6, seed=1)
    assert not torch.equal(again(cases[0])["planted"], forth[0])
    assert not torch.equal(one({**cases[0], "case": "other"})["planted"], forth[0])


def test_the_process_keeps_its_random_state() -> None:
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = (np.random.get_state(legacy=False)["state"]["key"].copy(), torch.get_rng_state())  # noqa: NPY002
    plant()
    assert np.array_equal(before[0], np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("absent", [0, 1])
def test_an_absent_modality_stays_absent(absent: int) -> None:
    image = head()
    image[absent] = 0
    made = plant(image)
    assert not made["planted"][absent].any()
    assert (made["planted"] != image).any()


def test_mirrored_channels_follow() -> None:
    image = head()
    made = plant(torch.cat([image, image.flip(-1)]))
    assert torch.equal(made["planted"][:2], plant(image)["planted"])
    assert torch.equal(made["planted"][2:], made["planted"][:2].flip(-1))
    withheld = plant(torch.cat([image, torch.zeros_like(image)]))
    assert not withheld["planted"][2:].any()


def test_one_modality() -> None:
    made = plant(head()[1:], modalities=["mri"])
    assert made["planted"].shape == (1, SIZE, SIZE)
    assert (made["planted_mask"] == 1).any()


def test_all_kinds_are_used() -> None:
    one = PlantedAnomalyd(pixel_spacing_mm=3.6, anomalies=None)
    assert {type(each).__name__ for each in one.anomalies} == {"RandNoiseBlobsd", "RandGainShiftd", "RandLocalWarpd"}
    assert all(each.prob == 1.0 and each.family == "A" for each in one.anomalies)


def test_a_slice_without_brain_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.zeros(2, SIZE, SIZE)
    image[:, 0, 0] = 0.01  # present, but nothing that is a head
    with caplog.at_level(logging.WARNING):
        made = plant(image, "top")
    assert torch.equal(made["planted"], image)
    assert (made["planted_mask"] == -1).all()
    assert "top" in caplog.text


def test_refusals() -> None:
    with pytest.raises(InputError, match="family B"):
        PlantedAnomalyd(anomalies=[InjectHemorrhaged("ct")])  # type: ignore[list-item]
    with pytest.raises(InputError, match="empty"):
        PlantedAnomalyd(anomalies=[])
    with pytest.raises(InputError, match="case"):
        PlantedAnomalyd()({"image": head()})
    with pytest.raises(InputError, match=r"c: image has shape \(3"):
        plant(torch.rand(3, SIZE, SIZE))
    with pytest.raises(InputError, match="no modality"):
        plant(torch.zeros(2, SIZE, SIZE))
    with pytest.raises(InputError, match="outside"):
        plant(head() * 300, anomalies=[RandNoiseBlobsd(prob=1.0, pixel_spacing_mm=3.6)])
