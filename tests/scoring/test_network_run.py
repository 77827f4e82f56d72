"""What scorers that run a network share: flags, devices, batches, checks and latent columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.network_run import (
    batches,
    case_name,
    demand_finite,
    evaluating,
    image_of,
    latent_columns,
    on_device,
    present_in,
)

BOTH = ("ct", "mri")


def case_of(image: object, name: str = "subject-9") -> dict:
    return {keys.CASE: name, keys.IMAGE: image}


@pytest.fixture
def network() -> nn.Sequential:
    """In training, with one layer frozen in evaluation."""
    made = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(0.5), nn.ReLU())).train()
    made[1].eval()
    return made


def flags(network: nn.Module) -> list[bool]:
    return [module.training for module in network.modules()]


def test_evaluating_puts_every_flag_back(network: nn.Sequential) -> None:
    before = flags(network)
    with evaluating(network):
        assert not any(flags(network))
        assert torch.is_inference_mode_enabled()
        assert network(torch.ones(1, 2, 4, 4)).is_inference()
    assert flags(network) == before
    assert not torch.is_inference_mode_enabled()


def test_evaluating_puts_flags_back_after_an_error(network: nn.Sequential) -> None:
    before = flags(network)

    def fail() -> None:
        with evaluating(network):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert flags(network) == before
    assert not torch.is_inference_mode_enabled()


def test_evaluating_with_gradients_allows_a_search(network: nn.Sequential) -> None:
    image = torch.ones(1, 2, 4, 4, requires_grad=True)
    with evaluating(network, inference=False):
        assert not any(flags(network))
        network(image).sum().backward()
    assert image.grad is not None


def test_on_device_follows_the_network_or_takes_it_along() -> None:
    images, convolution = torch.ones(1, 2, 4, 4), nn.Conv2d(2, 2, 1)
    assert on_device(convolution, images).device == images.device
    assert on_device(nn.ReLU(), images) is images  # no parameters: they stay
    assert on_device(convolution.to("meta"), images).device.type == "meta"
    taken = nn.Conv2d(2, 2, 1)
    assert on_device(taken, images, "meta").device.type == "meta"
    assert taken.weight.device.type == "meta"


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.as_tensor, MetaTensor, lambda image: image.double().requires_grad_()]
)
def test_any_image_becomes_a_plain_tensor(kind) -> None:
    image = torch.rand(2, 4, 6)
    found = image_of(case_of(kind(image)), BOTH)
    assert type(found) is torch.Tensor
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert torch.equal(found, image)


@pytest.mark.parametrize(
    ("image", "mirror", "problem"),
    [
        (torch.zeros(1, 8, 8), False, "not the channels ct, mri"),
        (torch.zeros(4, 8, 8), False, "not the channels ct, mri"),
        (torch.zeros(3, 8, 8), True, "not the channels ct, mri"),
        (torch.zeros(8, 8), False, "shape"),
        (torch.full((2, 8, 8), torch.inf), False, "the image holds NaN or infinity"),
    ],
)
def test_bad_images_are_refused_by_the_name_of_the_case(image: torch.Tensor, mirror: bool, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        image_of(case_of(image), BOTH, mirror)
    assert str(caught.value).startswith("subject-9: ")
    assert "\n" not in str(caught.value)


def test_a_mirror_image_behind_the_image_is_taken_where_asked_for() -> None:
    assert image_of(case_of(torch.zeros(4, 8, 8)), BOTH, mirror=True).shape == (4, 8, 8)
    assert image_of(case_of(torch.zeros(2, 8, 8)), BOTH, mirror=True).shape == (2, 8, 8)


def test_batches_keep_order_and_mix_no_shapes() -> None:
    sizes = [8, 8, 8, 6, 8, 8]
    cases = [case_of(torch.full((2, size, size), float(n)), f"{n}") for n, size in enumerate(sizes)]
    found = list(batches(iter(cases), BOTH, size=2))
    assert [[case_name(case) for case in some] for _, some in found] == [["0", "1"], ["2"], ["3"], ["4", "5"]]
    for images, some in found:
        assert images.shape[0] == len(some)
        assert [str(int(image[0, 0, 0])) for image in images] == [case_name(case) for case in some]
    assert list(batches([], BOTH)) == []


def test_batches_are_read_as_they_are_needed() -> None:
    read = []

    def stream():
        for number in range(6):
            read.append(number)
            yield case_of(torch.zeros(2, 4, 4))

    next(batches(stream(), BOTH, size=2))
    assert len(read) <= 3


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="batch size must be at least 1"):
        list(batches([case_of(torch.zeros(2, 4, 4))], BOTH, size=0))


def test_present_is_what_is_not_zero_everywhere() -> None:
    image = torch.zeros(3, 4, 4)
    image[1, 2, 2] = -0.5
    assert present_in(image, ("a", "b", "c")) == {"b": 1}
    assert present_in(torch.zeros(2, 4, 4), BOTH) == {}
    assert present_in(torch.ones(2, 4, 4), BOTH) == {"ct": 0, "mri": 1}


def test_the_first_case_that_is_not_finite_is_named() -> None:
    stack = torch.zeros(3, 2, 2)
    demand_finite(stack, ["a", "b", "c"], "the map")
    stack[1, 0, 0] = torch.nan
    with pytest.raises(InputError, match="b: the map holds NaN or infinity"):
        demand_finite(stack, ["a", "b", "c"], "the map")


def test_a_latent_map_is_averaged_block_by_block() -> None:
    latent = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    for row, one in zip(latent_columns(latent, ["a", "b"], pool=2), latent.numpy(), strict=True):
        blocks = one.reshape(3, 2, 2, 2, 3).mean(axis=(2, 4)).reshape(-1)
        assert list(row) == [f"latent_{index:03d}" for index in range(12)]
        assert list(row.values()) == pytest.approx(blocks.tolist())


def test_a_dense_latent_stays_and_columns_sort_by_name() -> None:
    latent = torch.rand(1, 1200).half()
    (row,) = latent_columns(latent, ["a"])
    assert list(row.values()) == latent[0].tolist()
    assert list(row) == sorted(row)
    assert next(iter(row)) == "latent_0000"


def test_other_latents_are_refused() -> None:
    for latent, got in [(torch.zeros(2, 3, 4), r"\(2, 3, 4\)"), ((1, 2), "tuple")]:
        with pytest.raises(ValueError, match=f"encode must return one tensor .* got {got}"):
            latent_columns(latent, ["a", "b"])
    with pytest.raises(InputError, match="b: the network's latent"):
        latent_columns(torch.tensor([[1.0], [torch.nan]]), ["a", "b"])


def test_a_case_without_a_name_is_called_so() -> None:
    assert case_name({keys.CASE: 7}) == "7"
    assert case_name({}) == "case without a name"
