"""The autoencoder: its size by hand count, its shapes, its errors, and that it can learn."""

from __future__ import annotations

import io
import itertools

import pytest
import torch

from monai_ctmri.networks import ConvolutionalAutoencoder


def convolution(inputs: int, outputs: int) -> int:
    return 3 * 3 * inputs * outputs + outputs


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("channels", "expected"), [(1, 185_217), (2, 185_794)])
def test_parameter_count_is_the_hand_count(channels: int, expected: int) -> None:
    path = [channels, 32, 64, 128, 64, 32, channels]
    by_hand = sum(convolution(a, b) for a, b in itertools.pairwise(path))
    assert by_hand == expected
    assert count(ConvolutionalAutoencoder(in_channels=channels)) == expected


def test_dense_latent_adds_two_linear_layers() -> None:
    height, width, latent = 16, 24, 10
    numbers = 128 * (height // 4) * (width // 4)
    network = ConvolutionalAutoencoder(latent_dim=latent, spatial_size=(height, width))
    assert count(network) == 185_794 + (numbers * latent + latent) + (latent * numbers + numbers)
    image = torch.rand(3, 2, height, width)
    assert network.encode(image).shape == (3, latent)
    assert network(image).shape == image.shape


@pytest.mark.parametrize("size", [(4, 4), (32, 32), (20, 44), (64, 8)])
def test_any_size_divisible_by_four(size: tuple[int, int]) -> None:
    network = ConvolutionalAutoencoder().eval()
    image = torch.rand(2, 2, *size)
    assert network.encode(image).shape == (2, 128, size[0] // 4, size[1] // 4)
    prediction = network(image)
    assert prediction.shape == image.shape
    assert 0 < prediction.min() <= prediction.max() < 1


def test_widths_can_change() -> None:
    network = ConvolutionalAutoencoder(in_channels=3, channels=(4, 5, 6))
    assert network.encode(torch.rand(1, 3, 8, 8)).shape == (1, 6, 2, 2)


@pytest.mark.parametrize("size", [(30, 32), (32, 31), (2, 8)])
def test_other_sizes_are_refused_by_name(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} is not divisible by 4"):
        ConvolutionalAutoencoder()(torch.rand(1, 2, *size))


def test_dense_latent_refuses_another_size() -> None:
    network = ConvolutionalAutoencoder(latent_dim=4, spatial_size=(16, 16))
    with pytest.raises(ValueError, match="20 x 16 does not fit the dense latent built for 16 x 16"):
        network(torch.rand(1, 2, 20, 16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels"),
        ({"channels": (32, 64)}, "channels"),
        ({"channels": (32, 0, 64)}, "channels"),
        ({"latent_dim": 8}, "spatial_size"),
        ({"latent_dim": 0, "spatial_size": (8, 8)}, "latent_dim"),
        ({"latent_dim": 8, "spatial_size": (10, 8)}, "10 x 8"),
        ({"latent_dim": 8, "spatial_size": (0, 8)}, "0 x 8"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvolutionalAutoencoder(**arguments)


def test_deterministic_and_independent_of_the_batch_in_eval() -> None:
    network = ConvolutionalAutoencoder().eval()
    image = torch.rand(4, 2, 16, 16)
    with torch.no_grad():
        together = network(image)
        assert torch.equal(together, network(image))
        assert torch.equal(together, network.reconstruct(image))
        torch.testing.assert_close(network(image[2:3]), together[2:3])
        torch.testing.assert_close(network.decode(network.encode(image)), together)


@pytest.mark.parametrize("dense", [False, True])
def test_torchscript_gives_the_same(dense: bool) -> None:
    network = ConvolutionalAutoencoder(**({"latent_dim": 6, "spatial_size": (16, 16)} if dense else {})).eval()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    buffer.seek(0)
    scripted = torch.jit.load(buffer)
    image = torch.rand(2, 2, 16, 16)
    torch.testing.assert_close(scripted(image), network(image))
    torch.testing.assert_close(scripted.reconstruct(image), network(image))


def test_state_dict_round_trip_is_weights_only(tmp_path) -> None:
    network = ConvolutionalAutoencoder().eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    other = ConvolutionalAutoencoder().eval()
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    image = torch.rand(1, 2, 16, 16)
    assert torch.equal(network(image), other(image))


@pytest.mark.parametrize(("dense", "seed"), [(False, 0), (False, 1), (True, 0)])
def test_it_learns_one_image(dense: bool, seed: int) -> None:
    torch.manual_seed(seed)  # with PyTorch's default start every seed ended in an all-black output, loss 0.11
    network = ConvolutionalAutoencoder(**({"latent_dim": 16, "spatial_size": (32, 32)} if dense else {}))
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    disc = ((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.1).float()
    image = torch.stack([0.7 * disc, rows * disc])[None]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    first = None
    for _ in range(150):
        loss = torch.nn.functional.mse_loss(network(image), image)
        first = first or float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02 * first
