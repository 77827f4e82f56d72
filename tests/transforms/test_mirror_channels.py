"""The other hemisphere as further channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flip

from monai_ctmri.transforms.mirror_channels import AppendMirrord


@pytest.mark.parametrize("kind", [np.array, torch.tensor, MetaTensor])
def test_channels_double_and_show_the_other_side(kind) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    out = AppendMirrord("image")({"image": kind(values), "case": "a"})
    assert out["case"] == "a"
    assert out["image"].shape == (4, 3, 4)
    assert out["image"].dtype == torch.float32
    np.testing.assert_array_equal(np.asarray(out["image"][:2]), values)
    np.testing.assert_array_equal(np.asarray(out["image"][2:]), values[:, :, ::-1])


@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 4, 4, 7)])
def test_as_monai_flips(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    expected = torch.cat([image, Flip(spatial_axis=len(shape) - 2)(image)])
    assert torch.equal(AppendMirrord("image")({"image": image})["image"], expected)


def test_meta_and_history_stay() -> None:
    image = MetaTensor(torch.rand(1, 4, 4), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])), meta={"note": "x"})
    image.applied_operations.append({"class": "Something"})
    out = Compose([AppendMirrord("image")])({"image": image})["image"]
    assert torch.equal(out.affine, image.affine)
    assert out.meta["note"] == "x"
    assert out.applied_operations == image.applied_operations


def test_input_is_untouched_and_an_absent_channel_stays_absent() -> None:
    image = torch.stack([torch.rand(4, 4) + 0.1, torch.zeros(4, 4)])
    before = image.clone()
    out = AppendMirrord("image")({"image": image})["image"]
    assert torch.equal(image, before)
    assert (out != 0).flatten(1).any(dim=1).tolist() == [True, False, True, False]


def test_missing_keys() -> None:
    assert AppendMirrord("image", allow_missing_keys=True)({"case": "a"}) == {"case": "a"}
    with pytest.raises(KeyError, match="image"):
        AppendMirrord("image")({"case": "a"})
