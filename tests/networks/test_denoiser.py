"""The cross-modal denoiser: shapes, what absence means, its size, and what must survive moving it about."""

from __future__ import annotations

import copy
import io
import itertools
import pickle

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_ctmri.losses import LaplaceLoss
from monai_ctmri.networks import CrossModalDenoiser
from monai_ctmri.networks.denoiser import CPU_FEATURES, GPU_FEATURES, _to_channels, _to_voxels

SMALL = (8, 8, 8, 8, 16, 8)


def made(**options) -> CrossModalDenoiser:
    """A small network with weights of its own seed, in evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return CrossModalDenoiser(**{"features": SMALL, **options}).eval()


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("dims", "size", "modalities"),
    [
        (2, (32, 32), 2),
        (2, (64, 96), 2),
        (2, (34, 50), 1),
        (2, (32, 32), 3),
        (3, (32, 32, 34), 2),
        (3, (32, 34, 32), 1),
    ],
)
@torch.no_grad()
def test_shapes_in_two_and_three_dimensions(dims: int, size: tuple[int, ...], modalities: int) -> None:
    network = made(spatial_dims=dims, modalities=modalities)
    image = pictures(2, modalities, *size)
    assert network(image).shape == (2, 2 * modalities, *size)
    assert network.reconstruct(image).shape == image.shape
    assert network.translate(image, 0).shape == (2, 2 * modalities, *size)
    assert network.encode(image).shape == (2, SMALL[4], *(side // 32 for side in size))


@torch.no_grad()
def test_encode_is_the_bottleneck_of_forward() -> None:
    network, seen = made(), []
    network.unet.down_4.register_forward_hook(lambda *three: seen.append(three[2]))
    image = pictures(2, 2, 64, 64)
    network(image)
    latent = network.encode(image)
    assert torch.equal(latent, seen[0])


@torch.no_grad()
def test_means_come_first_then_clamped_log_scales() -> None:
    image = pictures(1, 2, 32, 32)
    wide, narrow = made(), made(log_scale_range=(-0.01, 0.02))
    assert torch.equal(narrow(image)[:, :2], wide(image)[:, :2])
    assert torch.equal(narrow(image)[:, 2:], wide(image)[:, 2:].clamp(-0.01, 0.02))
    assert not torch.equal(narrow(image)[:, 2:], wide(image)[:, 2:])
    assert torch.equal(wide.reconstruct(image), wide(image)[:, :2])


@torch.no_grad()
def test_what_an_absent_modality_showed_has_no_influence() -> None:
    network = made()
    ct_only = pictures(2, 2, 32, 32)
    ct_only[:, 1] = 0.0
    noisy = ct_only.clone()
    noisy[:, 1] = pictures(2, 32, 32, seed=9)
    assert not torch.allclose(network(noisy), network(ct_only), atol=1e-3)
    assert torch.equal(network.translate(noisy, 0), network(ct_only))
    assert torch.equal(network.translate(ct_only, 0), network(ct_only))
    mri_only = noisy.clone()
    mri_only[:, 0] = 0.0
    assert torch.equal(network.translate(noisy, 1), network(mri_only))


@torch.no_grad()
def test_presence_is_an_input_of_its_own() -> None:
    """A channel with one voxel of next to nothing is there, and the network is told so."""
    network = made()
    absent = pictures(1, 2, 32, 32)
    absent[:, 1] = 0.0
    present = absent.clone()
    present[0, 1, 0, 0] = 1e-20
    assert not torch.allclose(network(present), network(absent), atol=1e-4)
    # Each case of a batch is judged on its own.
    both = network(torch.cat([absent, present]))
    torch.testing.assert_close(both[:1], network(absent))
    torch.testing.assert_close(both[1:], network(present))


@torch.no_grad()
def test_mirror_channels_are_optional_and_used() -> None:
    network = made(mirror=True)
    image = pictures(2, 2, 32, 32)
    alone = torch.cat([image, torch.zeros_like(image)], dim=1)
    assert torch.equal(network(image), network(alone))
    assert torch.equal(network.encode(image), network.encode(alone))
    with_mirror = torch.cat([image, image.flip(-1)], dim=1)
    assert network(with_mirror).shape == (2, 4, 32, 32)
    assert not torch.allclose(network(with_mirror), network(alone), atol=1e-3)


@torch.no_grad()
def test_evaluation_is_deterministic_and_draws_nothing() -> None:
    network, image = made(), pictures(3, 2, 32, 32)
    before = torch.get_rng_state()
    first = network(image)
    assert torch.equal(network(image), first)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(network(image[1:2]), first[1:2])


@pytest.mark.parametrize("size", [(33, 32), (32, 35)])
def test_odd_sizes_are_refused_by_name(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"image size {next(s for s in size if s % 2)} is not even"):
        made()(torch.zeros(1, 2, *size))


def test_other_channels_are_refused() -> None:
    for mirror, channels in [(False, 1), (False, 3), (False, 4), (True, 3), (True, 1)]:
        with pytest.raises(ValueError, match=f"image has {channels} channels, the network takes"):
            made(mirror=mirror)(torch.zeros(1, channels, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3"),
        ({"modalities": 0}, "modalities must be at least 1"),
        ({"features": (8, 8, 8)}, "six numbers divisible by 8"),
        ({"features": (8, 8, 8, 8, 12, 8)}, "six numbers divisible by 8"),
        ({"features": (0, 8, 8, 8, 8, 8)}, "six numbers divisible by 8"),
        ({"log_scale_range": (1.0, 1.0)}, "log_scale_range must rise"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossModalDenoiser(**options)


@pytest.mark.parametrize("mirror", [False, True])
def test_size_for_processors_is_half_a_million_to_a_million(mirror: bool) -> None:
    network = CrossModalDenoiser(features=CPU_FEATURES, mirror=mirror)
    assert 500_000 < sum(each.numel() for each in network.parameters()) < 1_000_000


def test_size_for_a_gpu_is_that_of_monai_s_u_net() -> None:
    with torch.device("meta"):
        network = CrossModalDenoiser(features=GPU_FEATURES)
        # 2 modalities of 4 voxels and their presence in; mean and log-scale of 4 voxels of each out
        unet = BasicUNet(2, 10, 16, GPU_FEATURES, norm=("group", {"num_groups": 8}))
    count = sum(each.numel() for each in network.parameters())
    assert count == sum(each.numel() for each in unet.parameters())
    assert 7_000_000 < count < 9_000_000


@pytest.mark.parametrize("dims", [2, 3])
def test_blocks_become_channels_and_voxels_again(dims: int) -> None:
    image = pictures(2, 3, *(4, 6, 8)[:dims])
    blocks = _to_channels(image, dims)
    corners = list(itertools.product((0, 1), repeat=dims))
    assert blocks.shape == (2, 3 * len(corners), *(side // 2 for side in image.shape[2:]))
    for channel, (index, corner) in itertools.product(range(3), enumerate(corners)):
        every_other = (slice(None), channel, *(slice(start, None, 2) for start in corner))
        assert torch.equal(blocks[:, channel * len(corners) + index], image[every_other])
    assert torch.equal(_to_voxels(blocks, dims), image)
    if dims == 2:
        assert torch.equal(blocks, torch.nn.functional.pixel_unshuffle(image, 2))


@pytest.mark.parametrize(("dims", "mirror"), [(2, True), (3, False)])
def test_torchscript_gives_the_same(dims: int, mirror: bool) -> None:
    network = made(spatial_dims=dims, mirror=mirror)
    image = pictures(1, 2, *(32, 32, 32)[:dims])
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    buffer.seek(0)
    scripted = torch.jit.load(buffer)
    # Without the profiling of the first calls, which costs seconds and changes nothing.
    with torch.no_grad(), torch.jit.optimized_execution(False):
        torch.testing.assert_close(scripted(image), network(image))
        torch.testing.assert_close(scripted.encode(image), network.encode(image))
        torch.testing.assert_close(scripted.reconstruct(image), network.reconstruct(image))
        torch.testing.assert_close(scripted.translate(image, 1), network.translate(image, 1))


@pytest.mark.parametrize("mirror", [False, True])
def test_gradients_reach_every_weight(mirror: bool) -> None:
    network = made(mirror=mirror, features=CPU_FEATURES).train()
    image = pictures(2, network.in_channels, 64, 64)
    LaplaceLoss()(network(image), image[:, :2]).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_copies_give_the_same(tmp_path) -> None:
    network, image = made(mirror=True), pictures(1, 2, 32, 32)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    loaded = CrossModalDenoiser(features=SMALL, mirror=True).eval()
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        for other in (loaded, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(other(image), network(image))
