"""Feature maps against the same layers called by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ctmri.networks import ConvolutionalAutoencoder, CrossModalDenoiser
from monai_ctmri.networks.feature_maps import FeatureMaps

WIDTHS = (8, 8, 16, 8, 16, 8)


def denoiser(**options) -> CrossModalDenoiser:
    torch.manual_seed(0)
    return CrossModalDenoiser(features=WIDTHS, **options).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(1))


def test_levels_of_the_denoiser_on_the_grid_of_the_first(image: torch.Tensor) -> None:
    network = denoiser()
    with torch.inference_mode():
        maps = FeatureMaps(network, ["conv_0", "down_1", "down_2"])(image)
        fine = network.unet.conv_0(network._prepared(image))
        middle = network.unet.down_1(fine)
        coarse = network.unet.down_2(middle)
    assert maps.shape == (2, 8 + 8 + 16, 16, 16)
    assert torch.equal(maps[:, :8], fine)
    for part, level in ((maps[:, 8:16], middle), (maps[:, 16:], coarse)):
        enlarged = nn.functional.interpolate(level, (16, 16), mode="bilinear", align_corners=False)
        torch.testing.assert_close(part, enlarged)


def test_a_finer_level_is_averaged_over_the_cells(image: torch.Tensor) -> None:
    network = denoiser()
    with torch.inference_mode():
        maps = FeatureMaps(network, ["down_2", "conv_0"])(image)
        fine = network.unet.conv_0(network._prepared(image))
    assert maps.shape == (2, 16 + 8, 4, 4)
    blocks = fine.reshape(2, 8, 4, 4, 4, 4).mean(dim=(3, 5))
    torch.testing.assert_close(maps[:, 16:], blocks)


def test_the_grid_can_be_chosen(image: torch.Tensor) -> None:
    maps = FeatureMaps(denoiser(), ["down_1"], size=(12, 10))
    assert maps(image).shape == (2, 8, 12, 10)


def test_levels_of_the_autoencoder(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = ConvolutionalAutoencoder(channels=(4, 6, 8)).eval()
    with torch.inference_mode():
        maps = FeatureMaps(network)(image)
        first = network.encoder[:5](image)
        second = network.encoder(image)
    assert maps.shape == (2, 6 + 8, 16, 16)
    assert torch.equal(maps[:, :6], first)
    torch.testing.assert_close(
        maps[:, 6:], nn.functional.interpolate(second, (16, 16), mode="bilinear", align_corners=False)
    )


def test_defaults_of_the_denoiser_and_its_mirror_image(image: torch.Tensor) -> None:
    plain, mirrored = FeatureMaps(denoiser()), FeatureMaps(denoiser(mirror=True))
    assert plain.levels == ("unet.down_1", "unet.down_2", "unet.down_3")
    assert plain(image).shape == (2, 8 + 16 + 8, 8, 8)
    assert (plain.mirror, mirrored.mirror) == (False, True)
    assert torch.equal(mirrored(image), mirrored(torch.cat([image, torch.zeros_like(image)], dim=1)))


def test_the_decoder_does_not_run_and_nothing_stays_behind(image: torch.Tensor) -> None:
    network = denoiser()
    ran: list[str] = []
    network.unet.upcat_4.register_forward_hook(lambda *_: ran.append("decoder"))
    maps = FeatureMaps(network)
    first = maps(image)
    assert not ran
    assert not network.unet.down_1._forward_hooks
    assert torch.equal(maps(image), first)
    network(image)
    assert ran


def test_no_hook_stays_when_the_network_fails() -> None:
    network = denoiser()
    with pytest.raises(ValueError, match="not even"):
        FeatureMaps(network)(torch.rand(1, 2, 31, 32))
    assert not network.unet.down_1._forward_hooks


def test_it_shares_the_network(image: torch.Tensor) -> None:
    network = denoiser()
    maps = FeatureMaps(network)
    before = maps(image)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.5)
    assert not torch.allclose(maps(image), before)
    assert all(ours is theirs for ours, theirs in zip(maps.parameters(), network.parameters(), strict=True))


def test_a_network_without_encode_runs_as_it_is(image: torch.Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3))
    maps = FeatureMaps(network, ["1"])
    torch.testing.assert_close(maps(image), network[:2](image))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (["down_9"], "names 0 sub-modules of CrossModalDenoiser; it has unet"),
        (["convs"], r"names \d+ sub-modules"),
        ([], "at least one level"),
    ],
)
def test_unknown_and_ambiguous_levels_are_refused(levels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureMaps(denoiser(), levels)


def test_other_networks_need_names_and_levels_must_be_maps(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="name the levels of Linear"):
        FeatureMaps(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="size must be two positive numbers"):
        FeatureMaps(denoiser(), size=(8,))
    dense = ConvolutionalAutoencoder(channels=(4, 4, 4), latent_dim=5, spatial_size=(32, 32))
    with pytest.raises(ValueError, match=r"level to_latent must return a map .* got \(2, 5\)"):
        FeatureMaps(dense, ["to_latent"])(image)
    with pytest.raises(ValueError, match=r"level decoder must return a map .* got NoneType"):
        FeatureMaps(dense, ["decoder"])(image)  # encode does not come by it
