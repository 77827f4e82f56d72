"""Both directions of a CycleGAN as one network, and its discriminators as one: what is saved, exported, distributed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn

from monai_ctmri.networks.generator import CPU_WIDTH, ResidualGenerator

__all__ = ["CycleNetworks", "ModalityDiscriminators"]


class CycleNetworks(nn.Module):
    """CT -> MRI and MRI -> CT, learnt without pairs (Zhu et al., ICCV 2017).

    One module, so that one state dictionary holds both and :class:`torch.nn.parallel.DistributedDataParallel` wraps
    both. ``forward`` crosses the channels over; applied twice it gives the cycle, applied to the flipped channels the
    identity term, so that a training needs nothing but calls of it.

    A channel that is 0 everywhere is absent, and what would be translated from it is 0 everywhere too.

    Args:
        spatial_dims: 2 or 3.
        width, downsamplings, blocks: of each :class:`ResidualGenerator`.

    Example:
        >>> networks = CycleNetworks(width=8, blocks=2)
        >>> networks(torch.rand(1, 2, 64, 64)).shape  # CT made from the MRI, MRI made from the CT
        torch.Size([1, 2, 64, 64])
    """

    def __init__(self, spatial_dims: int = 2, width: int = CPU_WIDTH, downsamplings: int = 2, blocks: int = 6) -> None:
        super().__init__()
        self.ct_to_mri, self.mri_to_ct = (
            ResidualGenerator(spatial_dims, 1, 1, width, downsamplings, blocks) for _ in range(2)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate each channel into the other modality.

        Args:
            image: [N, 2, ...] in [0, 1], channels CT and MRI; a channel of zeros is absent.

        Returns:
            [N, 2, ...] in [0, 1]: channel 0 is the CT made from the MRI, channel 1 the MRI made from the CT.

        Raises:
            ValueError: for another number of channels or a size the generators do not take.
        """
        if image.shape[1] != 2:
            raise ValueError(f"image must have two channels, CT and MRI, got {image.shape[1]}.")
        ct, mri = image[:, :1], image[:, 1:]
        return torch.cat([self.mri_to_ct(mri) * _present(mri), self.ct_to_mri(ct) * _present(ct)], dim=1)

    @torch.jit.export
    def translate(self, image: torch.Tensor, source: int) -> torch.Tensor:
        """Translate channel ``source`` of ``image`` [N, 2, ...] (0 is CT, 1 is MRI) alone: [N, 1, ...]."""
        if source == 0:
            return self.ct_to_mri(image[:, :1]) * _present(image[:, :1])
        if source == 1:
            return self.mri_to_ct(image[:, 1:]) * _present(image[:, 1:])
        raise ValueError(f"source must be 0 (CT) or 1 (MRI), got {source}.")

    def bottleneck(self, image: torch.Tensor, source: int) -> torch.Tensor:
        """The bottleneck [N, K, ...] of the generator that translates channel ``source`` of ``image`` [N, 2, ...]."""
        if source not in (0, 1):
            raise ValueError(f"source must be 0 (CT) or 1 (MRI), got {source}.")
        generator = self.ct_to_mri if source == 0 else self.mri_to_ct
        return generator.encode(image[:, source : source + 1])

    @torch.jit.export
    def cycle(self, image: torch.Tensor) -> torch.Tensor:
        """Translate each channel and back: [N, 2, ...], to be compared with ``image`` itself."""
        return self.forward(self.forward(image))


class ModalityDiscriminators(nn.Module):
    """One :class:`monai.networks.nets.PatchDiscriminator` a channel, for none may see what the other modality shows.

    Instance norm instead of MONAI's default, as in the publication: a patch is judged in its own image, and nothing
    depends on the rest of the batch.

    Args:
        modalities: number of channels.
        spatial_dims: 2 or 3.
        channels: filters of the first convolution.
        layers: convolutions after it; 3 see patches of 70 pixels, 2 of 34, 1 of 16.
    """

    def __init__(self, modalities: int = 2, spatial_dims: int = 2, channels: int = CPU_WIDTH, layers: int = 3) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            PatchDiscriminator(spatial_dims, channels, in_channels=1, num_layers_d=layers, norm="INSTANCE", bias=True)
            for _ in range(modalities)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Judge each channel of ``image`` [N, M, ...]: [N, M, ...] logits, one a patch, without an activation."""
        judged: Sequence[torch.Tensor] = [
            discriminator(image[:, channel : channel + 1])[-1]
            for channel, discriminator in enumerate(self.discriminators)
        ]
        return torch.cat(list(judged), dim=1)


def _present(channel: torch.Tensor) -> torch.Tensor:
    """1 for each image of [N, 1, ...] that holds anything, else 0; shaped to multiply with it."""
    present = (channel != 0).flatten(1).any(dim=1).to(channel.dtype)
    for _ in range(channel.dim() - 1):
        present = present.unsqueeze(-1)
    return present
