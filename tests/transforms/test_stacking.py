"""Modalities to channels: always in the same place, absent ones 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Resized, SpatialPadd

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.stacking import StackModalitiesD, StackModalitiesd, StackModalitiesDict


def picture(value: float | None = None, shape: tuple[int, ...] = (16, 16), seed: int = 0) -> torch.Tensor:
    if value is not None:
        return torch.full((1, *shape), value)
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


def test_channels_are_in_the_order_of_the_keys() -> None:
    ct, mri = picture(seed=1), picture(seed=2)
    found = StackModalitiesd()({"mri": mri, "ct": ct, "subject": "a"})
    assert torch.equal(found["image"], torch.cat([ct, mri]))
    assert set(found) == {"image", "subject"}
    assert torch.equal(StackModalitiesd(keys=("mri", "ct"))({"ct": ct, "mri": mri})["image"], torch.cat([mri, ct]))


@pytest.mark.parametrize("absent", ["ct", "mri"])
@pytest.mark.parametrize("how", ["left out", "none"])
def test_a_missing_modality_is_a_channel_of_zeros_in_its_place(absent: str, how: str) -> None:
    case = {"ct": picture(0.3), "mri": picture(0.7)}
    if how == "none":
        case[absent] = None  # type: ignore[assignment]
    else:
        del case[absent]
    image = StackModalitiesd()(case)["image"]
    assert image.shape == (2, 16, 16)
    values = image.flatten(1).mean(dim=1).tolist()
    expected = {"ct": [0.0, 0.7], "mri": [0.3, 0.0]}[absent]
    assert values == pytest.approx(expected)


def test_entries_can_stay_and_the_image_can_have_another_name() -> None:
    case = {"ct": picture(0.3), "mri": picture(0.7)}
    found = StackModalitiesd(name="target", drop=False)(case)
    assert set(found) == {"ct", "mri", "target"}
    assert set(case) == {"ct", "mri"}
    alone = StackModalitiesd(keys="ct", name="ct")({"ct": picture(0.3)})
    assert alone["ct"].shape == (1, 16, 16)


def test_arrays_and_other_number_types_are_taken() -> None:
    found = StackModalitiesd()({"ct": np.full((1, 4, 4), 0.5), "mri": torch.ones(1, 4, 4, dtype=torch.uint8)})
    assert found["image"].dtype == torch.float32
    assert found["image"].flatten(1).mean(dim=1).tolist() == [0.5, 1.0]


def test_volumes_are_stacked_alike() -> None:
    found = StackModalitiesd()({"mri": picture(shape=(4, 6, 8))})
    assert found["image"].shape == (2, 4, 6, 8)
    assert not found["image"][0].any()


@pytest.mark.parametrize("absent", [None, "ct"])
def test_metadata_and_history_are_those_of_the_first_present(absent: str | None) -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64))
    case = {
        "ct": MetaTensor(picture(0.3), affine=affine, meta={"filename_or_obj": "ct.png"}),
        "mri": MetaTensor(picture(0.7), affine=3 * affine, meta={"filename_or_obj": "mri.png"}),
    }
    if absent:
        del case[absent]
    case = Resized(keys=("ct", "mri"), spatial_size=(8, 8), allow_missing_keys=True)(case)
    first = case["mri" if absent else "ct"]
    image = StackModalitiesd()(case)["image"]
    assert image.meta["filename_or_obj"] == ("mri.png" if absent else "ct.png")
    assert torch.equal(image.affine, first.affine)
    assert [each["class"] for each in image.applied_operations] == ["Resize"]


def test_what_came_before_and_after_can_be_inverted() -> None:
    """What was done to the stacked image is undone down to the grid of the first modality that is there."""
    before = Compose(
        [
            StackModalitiesd(),
            Resized(keys="image", spatial_size=(16, 32)),
            SpatialPadd(keys="image", spatial_size=(40, 40)),
        ]
    )
    case = before({"mri": MetaTensor(picture(shape=(8, 16)))})
    assert case["image"].shape == (2, 40, 40)
    back = Invertd(keys="image", transform=before, orig_keys="image", nearest_interp=False)(case)
    assert back["image"].shape == (2, 8, 16)


def test_a_second_grid_of_the_same_proportions_is_resampled_linearly() -> None:
    """A ramp stays a ramp between the centres of the outer pixels."""
    ramp = ((torch.arange(16) + 0.5) / 16).expand(1, 8, 16)
    image = StackModalitiesd()({"ct": picture(shape=(16, 32)), "mri": ramp})["image"]
    expected = ((torch.arange(32) + 0.5) / 32).expand(16, 32)
    torch.testing.assert_close(image[1, :, 1:-1], expected[:, 1:-1])
    smaller = StackModalitiesd()({"ct": picture(shape=(8, 16)), "mri": expected[None]})["image"]
    # Smoothing before shrinking reaches two pixels in from the border.
    torch.testing.assert_close(smaller[1, 2:-2, 4:-4], ramp[0, 2:-2, 4:-4], atol=1e-3, rtol=0)


def test_a_pixel_of_rounding_is_no_other_proportion() -> None:
    image = StackModalitiesd()({"ct": picture(0.2, (30, 30)), "mri": picture(0.6, (61, 60))})["image"]
    assert image.shape == (2, 30, 30)
    assert torch.allclose(image[1], torch.tensor(0.6), atol=1e-4)  # the rim too


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ({}, "has neither ct nor mri"),
        ({"ct": None}, "has neither ct nor mri"),
        ({"ct": torch.zeros(2, 8, 8)}, "ct has shape"),
        ({"mri": torch.zeros(8, 8)}, "mri has shape"),
        ({"ct": torch.zeros(1, 8, 8), "mri": torch.zeros(1, 8, 16)}, "the modalities have shapes"),
    ],
)
def test_what_cannot_be_stacked_is_refused_by_name(case: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        StackModalitiesd()({"case": "subject-9", **case})
    assert str(caught.value).startswith("subject-9: ")


def test_aliases() -> None:
    assert StackModalitiesD is StackModalitiesDict is StackModalitiesd


def test_a_missing_entry_can_be_refused() -> None:
    with pytest.raises(KeyError):
        StackModalitiesd(allow_missing_keys=False)({"ct": picture()})
