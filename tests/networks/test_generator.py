"""The generator of a CycleGAN: sizes, ranges, gradients, and that it can learn a change of contrast."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import Generator

from monai_ctmri.networks.generator import CPU_WIDTH, GPU_WIDTH, ResidualGenerator


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("dims", "shape", "downsamplings"),
    [(2, (16, 24), 2), (2, (32, 16), 3), (2, (4, 6), 1), (3, (8, 12, 8), 2), (3, (16, 16, 16), 3)],
)
def test_size_and_range(dims, shape, downsamplings):
    generator = ResidualGenerator(dims, 1, 2, width=4, downsamplings=downsamplings, blocks=1)
    made = generator(torch.rand(2, 1, *shape))
    assert made.shape == (2, 2, *shape)
    assert 0 <= made.min() < made.max() <= 1


@pytest.mark.parametrize("downsamplings", [2, 3])
def test_blocks_run_at_a_fraction_of_the_resolution(downsamplings):
    generator = ResidualGenerator(width=4, downsamplings=downsamplings, blocks=3)
    seen = []
    for layer in generator.layers:
        if type(layer).__name__ == "_ResidualBlock":
            layer.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape[1:])))
    generator(torch.rand(1, 1, 64, 32))
    factor = 2**downsamplings
    assert seen == [(4 * factor, 64 // factor, 32 // factor)] * 3


@pytest.mark.parametrize(("dims", "shape"), [(2, (16, 16)), (3, (8, 8, 8))])
def test_gradients_reach_every_weight_and_the_image(dims, shape):
    generator = ResidualGenerator(dims, width=4, blocks=1)
    image = torch.rand(2, 1, *shape, requires_grad=True)
    generator(image).square().mean().backward()
    assert image.grad is not None
    assert (image.grad != 0).any()
    convolutions = [m for m in generator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)]
    for convolution in convolutions:
        assert convolution.weight.grad is not None
        assert convolution.weight.grad.abs().max() > 0


def test_sizes_that_do_not_fit_are_refused():
    generator = ResidualGenerator(width=4, blocks=1)
    for shape in ((30, 32), (32, 34), (4, 32)):
        with pytest.raises(ValueError, match="multiple of 4"):
            generator(torch.rand(1, 1, *shape))


@pytest.mark.parametrize(
    "given",
    [{"spatial_dims": 1}, {"in_channels": 0}, {"out_channels": 0}, {"width": 0}, {"blocks": 0}, {"downsamplings": 0}],
)
def test_bad_arguments_are_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        ResidualGenerator(**given)


def test_an_image_is_translated_alike_alone_and_in_a_batch():
    generator = ResidualGenerator(width=4, blocks=2).eval()
    images = torch.rand(3, 1, 16, 16)
    with torch.inference_mode():
        together, alone = generator(images), torch.cat([generator(image[None]) for image in images])
        assert torch.equal(together, generator(images))
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_numbers_of_weights():
    """By hand: every convolution k^d * in * out + out, in the layout of the publication."""
    w = 8
    down = 49 * w + w + 9 * w * 2 * w + 2 * w + 9 * 2 * w * 4 * w + 4 * w
    block = 2 * (9 * 4 * w * 4 * w + 4 * w)
    up = 9 * 4 * w * 2 * w + 2 * w + 9 * 2 * w * w + w + 49 * w + 1
    counted = sum(parameter.numel() for parameter in ResidualGenerator(width=w, blocks=6).parameters())
    assert counted == down + 6 * block + up
    sizes = [sum(p.numel() for p in ResidualGenerator(width=one).parameters()) for one in (CPU_WIDTH, GPU_WIDTH)]
    assert [round(size / 1e6, 1) for size in sizes] == [0.5, 7.8]


def test_scripted_it_is_the_same():
    generator = ResidualGenerator(width=4, blocks=1).eval()
    image = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(torch.jit.script(generator)(image), generator(image))


def test_starts_dark():
    made = ResidualGenerator(blocks=1)(torch.rand(2, 1, 16, 16)).detach()
    assert abs(float(made.mean()) - torch.sigmoid(torch.tensor(-2.0)).item()) < 0.05


def test_learns_to_turn_a_contrast_round():
    generator = ResidualGenerator(width=8, downsamplings=1, blocks=1)
    optimizer = torch.optim.Adam(generator.parameters(), lr=5e-3)
    rows = torch.linspace(0, 1, 16)
    images = torch.stack([(rows[:, None] * (i + 1) / 4 + rows[None] * (4 - i) / 4)[None] / 2 for i in range(4)])
    target, losses = 0.9 - 0.8 * images, []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (generator(images) - target).abs().mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.25 * losses[0]
    made = generator(images).detach()
    assert torch.corrcoef(torch.stack([made.ravel(), images.ravel()]))[0, 1] < -0.9


def test_monai_has_none_that_takes_an_image():
    network = Generator(latent_shape=(4,), start_shape=(4, 8, 8), channels=[4], strides=[2])
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 1, 16, 16))
