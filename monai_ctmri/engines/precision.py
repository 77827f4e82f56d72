"""Half the bits on any device: MONAI's own switch reaches CUDA only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer

from monai_ctmri.errors import InputError

__all__ = ["AutocastInferer", "prefers_bfloat16"]


class AutocastInferer(SimpleInferer):
    """Run the network under bfloat16 autocast on the device of its input, and return float32.

    bfloat16 needs no gradient scaling. On a CPU with AVX512-BF16 or AMX it halves the time of a training step of the
    convolutional autoencoder; on one without, it is slower than float32.

    Args:
        enabled: False runs in the precision of the input.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        if not isinstance(enabled, bool):  # a command line's "false" is a text, and true
            raise InputError.about("bf16", f"{enabled!r} is no truth value", "write True or False")
        self.enabled = enabled

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return ``network(inputs, *args, **kwargs)`` as float32."""
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.enabled):
            prediction = network(inputs, *args, **kwargs)
        return prediction.float()


def prefers_bfloat16() -> bool:
    """Whether bfloat16 trains faster than float32 here: a GPU or CPU with instructions for it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public name for this yet; without the probe float32 is the safe answer.
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
