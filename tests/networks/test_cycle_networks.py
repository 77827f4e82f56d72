"""Both directions as one network: which channel goes where, and what happens when one is absent."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ctmri.networks.cycle_networks import CycleNetworks, ModalityDiscriminators


@pytest.fixture
def networks():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CycleNetworks(width=4, blocks=1).eval()


class Affine(nn.Module):
    """A stand-in whose translations can be computed by hand."""

    def __init__(self, gain, shift):
        super().__init__()
        self.gain, self.shift = gain, shift

    def forward(self, image):
        return self.gain * image + self.shift


@pytest.fixture
def by_hand():
    networks = CycleNetworks(width=4, blocks=1)
    networks.add_module("ct_to_mri", Affine(2.0, 1.0))
    networks.add_module("mri_to_ct", Affine(3.0, 5.0))
    return networks


def test_channels_cross_over(by_hand):
    image = torch.rand(2, 2, 8, 8)
    made = by_hand(image)
    torch.testing.assert_close(made[:, 0], 3.0 * image[:, 1] + 5.0)
    torch.testing.assert_close(made[:, 1], 2.0 * image[:, 0] + 1.0)


def test_cycle_is_there_and_back(by_hand):
    image = torch.rand(2, 2, 8, 8)
    back = by_hand.cycle(image)
    torch.testing.assert_close(back[:, 0], 3.0 * (2.0 * image[:, 0] + 1.0) + 5.0)
    torch.testing.assert_close(back[:, 1], 2.0 * (3.0 * image[:, 1] + 5.0) + 1.0)
    torch.testing.assert_close(by_hand(by_hand(image)), back)


def test_flipped_channels_meet_the_generator_of_their_own_modality(by_hand):
    image = torch.rand(1, 2, 8, 8)
    same = by_hand(image.flip(1))
    torch.testing.assert_close(same[:, 0], 3.0 * image[:, 0] + 5.0)  # mri_to_ct applied to a CT
    torch.testing.assert_close(same[:, 1], 2.0 * image[:, 1] + 1.0)


def test_what_is_absent_translates_to_nothing(networks):
    image = torch.rand(3, 2, 16, 16)
    image[0, 0] = 0.0
    image[1, 1] = 0.0
    made, back = networks(image), networks.cycle(image)
    assert (made[0, 1] == 0).all()
    assert (made[1, 0] == 0).all()
    assert (back[0, 0] == 0).all()
    assert (back[1, 1] == 0).all()
    for there in (made[0, 0], made[1, 1], made[2, 0], made[2, 1], back[0, 1], back[1, 0]):
        assert (there > 0).all()


def test_absence_of_one_changes_nothing_for_the_other(networks):
    image = torch.rand(1, 2, 16, 16)
    alone = image.clone()
    alone[:, 1] = 0.0
    torch.testing.assert_close(networks(alone)[:, 1], networks(image)[:, 1])


def test_translate_is_one_direction(networks):
    image = torch.rand(2, 2, 16, 16)
    made = networks(image)
    torch.testing.assert_close(networks.translate(image, 0), made[:, 1:])
    torch.testing.assert_close(networks.translate(image, 1), made[:, :1])
    with pytest.raises(ValueError, match="source"):
        networks.translate(image, 2)


def test_other_numbers_of_channels_are_refused(networks):
    with pytest.raises(ValueError, match="two channels"):
        networks(torch.rand(1, 1, 16, 16))


def test_gradients_reach_both_generators(networks):
    networks.cycle(torch.rand(1, 2, 16, 16)).mean().backward()
    for generator in (networks.ct_to_mri, networks.mri_to_ct):
        first = next(generator.parameters())
        assert (first.grad != 0).any()


def test_volumes():
    assert CycleNetworks(3, width=4, blocks=1)(torch.rand(1, 2, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
    assert ModalityDiscriminators(2, 3, channels=4, layers=1)(torch.rand(1, 2, 16, 16, 16)).shape[:2] == (1, 2)


def test_scripted_with_its_methods(networks):
    scripted, image = torch.jit.script(networks), torch.rand(1, 2, 16, 16)
    torch.testing.assert_close(scripted(image), networks(image))
    torch.testing.assert_close(scripted.cycle(image), networks.cycle(image))
    torch.testing.assert_close(scripted.translate(image, 1), networks.translate(image, 1))


def test_each_discriminator_sees_one_channel():
    discriminators = ModalityDiscriminators(channels=4, layers=2).eval()
    image = torch.rand(2, 2, 32, 32, requires_grad=True)
    logits = discriminators(image)
    logits[:, 0].sum().backward()
    assert image.grad is not None
    assert (image.grad[:, 0] != 0).any()
    assert (image.grad[:, 1] == 0).all()
    torch.testing.assert_close(logits[:, 1:], discriminators.discriminators[1](image[:, 1:])[-1])


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_patches_have_the_size_that_is_promised(layers, field):
    """The reach of one logit, from the gradient with respect to the image; without norm, which sees all."""
    discriminator = ModalityDiscriminators(1, channels=2, layers=layers)
    for module in list(discriminator.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.Identity())
    image = torch.rand(1, 1, 160, 160, requires_grad=True)
    logits = discriminator(image)
    middle = logits.shape[2] // 2
    logits[0, 0, middle, middle].backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad[0, 0].abs().sum(1))
    assert int(rows.max() - rows.min()) + 1 == field


def test_a_bottleneck_is_of_the_generator_that_translates_the_channel(networks):
    """The rest of that generator makes the translation of it, and the other channel has no part in it."""
    image = torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for source, generator in enumerate((networks.ct_to_mri, networks.mri_to_ct)):
            found = networks.bottleneck(image, source)
            assert found.shape == (2, 16, 4, 4)
            translated = generator.layers[generator.depth :](found)
            torch.testing.assert_close(translated, networks.translate(image, source))
            other = image.clone()
            other[:, 1 - source] = 0.0
            assert torch.equal(networks.bottleneck(other, source), found)
    with pytest.raises(ValueError, match="source must be 0"):
        networks.bottleneck(image, 2)
