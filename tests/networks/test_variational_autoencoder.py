"""The variational autoencoder: MONAI's layers, one tensor out, exports, and the likelihood it states."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import decollate_batch
from monai.networks.nets import VarAutoEncoder
from torch import nn
from torch.distributions import Normal, kl_divergence

from monai_ctmri.losses import EvidenceLowerBoundLoss
from monai_ctmri.networks.variational_autoencoder import VariationalAutoencoder

CHANNELS = (8, 16)


def small(**options: object) -> VariationalAutoencoder:
    torch.manual_seed(0)
    given = {"in_channels": 2, "spatial_size": (16, 24), "latent_dim": 5, "channels": CHANNELS, **options}
    return VariationalAutoencoder(**given)  # type: ignore[arg-type]


def images(cases: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(cases, 2, 16, 24, generator=torch.Generator().manual_seed(seed))


def test_evaluation_gives_one_image_and_the_same_every_time() -> None:
    network = small().eval()
    first, second = network(images()), network(images())
    assert isinstance(first, torch.Tensor)
    assert first.shape == (3, 2, 16, 24)
    assert torch.equal(first, second)
    assert 0 < first.min() < first.max() < 1
    assert torch.equal(first, network.decode(network.encode(images())))
    torch.testing.assert_close(network(images())[1:2], network(images()[1:2]), rtol=0, atol=1e-6)


def test_it_is_monais_network() -> None:
    """Same layers, same names, same numbers: a state of MONAI's network with a mean latent gives MONAI's image."""
    torch.manual_seed(1)
    layers = {"act": "swish", "norm": ("group", {"num_groups": 8})}
    twin = VarAutoEncoder(2, (2, 16, 24), 2, 5, CHANNELS, (2, 2), **layers, use_mean_at_inference=True).eval()
    network = small(scale=0.1).eval()
    network.autoencoder.load_state_dict(twin.state_dict())
    pred, mean, log_variance, _ = twin(images())
    torch.testing.assert_close(network(images()), pred)
    torch.testing.assert_close(network.encode(images()), mean)
    torch.testing.assert_close(network.posterior(images())[1], log_variance)


def test_training_gives_all_that_the_loss_needs_in_one_tensor() -> None:
    network = small().train()
    found = network(images())
    assert found.shape == (3, 5, 16, 24)
    mean, log_variance = network.posterior(images())
    expected = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(found[:, 4], expected[:, None, None].expand(3, 16, 24))
    assert not torch.equal(found[:, :2], network(images())[:, :2]), "no latent was drawn"
    torch.testing.assert_close(network.reconstruct(images()), network.eval()(images()))


def test_the_latents_drawn_have_the_stated_mean_and_spread() -> None:
    """With the decoder replaced by a linear one, the draws themselves are seen."""

    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[torch.Tensor] = []

    network, seen = small(), Seen()
    network.likelihood = lambda latent: (seen.seen.append(latent), torch.zeros(len(latent), 4, 16, 24))[1]  # type: ignore
    with torch.no_grad():
        network.autoencoder.logvar.bias.add_(1.0)
        torch.manual_seed(2)
        network.training_outputs(images(1).expand(4000, -1, -1, -1))
        mean, log_variance = network.posterior(images(1))
    (draws,) = seen.seen
    spread = torch.exp(log_variance[0] / 2)
    assert ((draws.mean(dim=0) - mean[0]).abs() < 5 * spread / math.sqrt(4000)).all()
    assert ((draws.std(dim=0) / spread - 1).abs() < 0.06).all()
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.08


def test_every_weight_gets_a_gradient() -> None:
    """Distributed training stops at a weight that has none."""
    for scale in (None, 0.2):
        network = small(scale=scale)
        EvidenceLowerBoundLoss()(network(images()), images()).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_given_scale_holds_for_every_voxel() -> None:
    found = small(scale=0.2).likelihood(torch.randn(2, 5))
    assert found.shape == (2, 4, 16, 24)
    torch.testing.assert_close(found[:, 2:].exp(), torch.full((2, 2, 16, 24), 0.2))


def test_a_learned_scale_is_clamped() -> None:
    network = small(log_scale_range=(-3.0, 0.5))
    with torch.no_grad():
        found = network.likelihood(200 * torch.randn(4, 5))
    assert found[:, 2:].min() >= -3.0
    assert found[:, 2:].max() <= 0.5


def test_the_scale_is_learnt() -> None:
    """One picture, seen with noise of spread 0.05 above and 0.2 below: the scale has to find both (as mean |error|)."""
    torch.manual_seed(0)
    network = VariationalAutoencoder(1, (16, 16), 2, channels=(8, 16))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    spread = torch.full((16, 16), 0.05)
    spread[8:] = 0.2
    for _ in range(250):
        target = 0.5 + spread * torch.randn(8, 1, 16, 16)
        optimizer.zero_grad()
        EvidenceLowerBoundLoss()(network(target), target).backward()
        optimizer.step()
    with torch.no_grad():
        scale = network.likelihood(torch.zeros(1, 2))[0, 1].exp()
    expected = spread * math.sqrt(2 / math.pi)
    assert float(scale[:7].mean()) == pytest.approx(float(expected[0, 0]), rel=0.25)
    assert float(scale[9:].mean()) == pytest.approx(float(expected[-1, 0]), rel=0.25)


def test_channels_last_changes_nothing() -> None:
    network = small().eval()
    expected = network(images())
    found = network.to(memory_format=torch.channels_last)(images().to(memory_format=torch.channels_last))  # type: ignore
    torch.testing.assert_close(found, expected)


def test_autocast_keeps_likelihood_and_divergence_in_float32() -> None:
    network = small()
    with torch.autocast("cpu", torch.bfloat16):
        found = network(images())
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_monai_takes_the_training_outputs_apart_by_case() -> None:
    parts = decollate_batch({"pred": small()(images()).detach(), "image": images()})
    assert [part["pred"].shape for part in parts] == [(5, 16, 24)] * 3


def test_volumes() -> None:
    network = VariationalAutoencoder(1, (8, 8, 12), 3, channels=(8, 8)).eval()
    assert network(torch.rand(2, 1, 8, 8, 12)).shape == (2, 1, 8, 8, 12)
    assert network.train()(torch.rand(2, 1, 8, 8, 12)).shape == (2, 3, 8, 8, 12)


def test_an_extreme_image_stays_finite() -> None:
    network = small()
    assert torch.isfinite(network(1e4 * images())).all()


def test_torchscript_is_the_network() -> None:
    network = small().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(network), file)
        file.seek(0)
        scripted = torch.jit.load(file)
    torch.testing.assert_close(scripted(images()), network(images()))
    torch.testing.assert_close(scripted.encode(images()), network.encode(images()))
    latent = torch.randn(2, 5)
    torch.testing.assert_close(scripted.likelihood(latent), network.likelihood(latent))
    assert scripted.train()(images()).shape == (3, 5, 16, 24)


def test_torch_export_has_a_free_batch() -> None:
    network = small().eval()
    exported = torch.export.export(network, (images(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(exported.module()(images(5)), network(images(5)), rtol=0, atol=1e-5)


def test_onnx_gives_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    network = small().eval()
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(network, (images(2),), path, dynamic_shapes=(batch,), verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images(5).numpy()})
    np.testing.assert_allclose(found, network(images(5)).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "at least 1"),
        ({"latent_dim": 0}, "at least 1"),
        ({"channels": (8, 12)}, "divisible by 8"),
        ({"channels": ()}, "divisible by 8"),
        ({"spatial_size": (16, 22)}, "divisible by 4"),
        ({"spatial_size": (16,)}, "two or three numbers"),
        ({"scale": 0.0}, "scale"),
        ({"scale": 1.5}, "scale"),
        ({"log_scale_range": (1.0, 1.0)}, "log_scale_range must rise"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize("shape", [(1, 1, 16, 24), (1, 2, 24, 16), (1, 2, 32, 48)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        small().eval()(torch.rand(shape))
