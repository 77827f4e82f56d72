"""Autocast reaches the CPU, gradients flow, and float32 comes back."""

from __future__ import annotations

import pytest
import torch

from monai_ctmri.engines import AutocastInferer
from monai_ctmri.errors import InputError


class Recorder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        out = self.layer(x) * scale
        self.seen.append(out.dtype)
        return out


def test_bfloat16_inside_float32_outside() -> None:
    torch.manual_seed(0)
    network, x = Recorder(), torch.rand(4, 8)
    out = AutocastInferer()(x, network)
    assert network.seen == [torch.bfloat16]
    assert out.dtype is torch.float32
    torch.testing.assert_close(out, network.layer(x), rtol=0.02, atol=0.02)
    out.sum().backward()
    assert network.layer.weight.grad is not None
    assert network.layer.weight.grad.dtype is torch.float32


def test_disabled_is_exact_and_arguments_pass() -> None:
    network, x = Recorder(), torch.rand(4, 8)
    out = AutocastInferer(enabled=False)(x, network, scale=2.0)
    assert network.seen == [torch.float32]
    assert torch.equal(out, network.layer(x) * 2.0)


def test_text_is_no_truth_value() -> None:
    with pytest.raises(InputError, match="bf16: 'false' is no truth value"):
        AutocastInferer("false")  # type: ignore[arg-type]
