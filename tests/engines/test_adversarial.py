"""The trainer of a CycleGAN against the losses and updates written out by hand, and against MONAI's engine contract."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import IterationEvents
from monai.handlers import StatsHandler, from_engine
from monai.inferers import SimpleInferer
from torch import nn

from monai_ctmri.engines import AutocastInferer
from monai_ctmri.engines.adversarial import LOSSES, CycleInferer, CycleTrainer
from monai_ctmri.engines.image_pool import ImagePool
from monai_ctmri.networks.cycle_networks import CycleNetworks, ModalityDiscriminators

EVENTS = ["FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED"]


def batches(count=4, size=2):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 2, 16, 16, generator=generator)
    return DataLoader(Dataset([{"image": image, "case": f"c{i}"} for i, image in enumerate(images)]), batch_size=size)


def make(loader=None, max_epochs=1, kind=torch.optim.Adam, **given):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, judges = CycleNetworks(width=4, blocks=1), ModalityDiscriminators(channels=4, layers=1)
    return CycleTrainer(
        "cpu",
        max_epochs,
        batches() if loader is None else loader,
        network,
        kind(network.parameters(), 1e-2),
        judges,
        kind(judges.parameters(), 1e-2),
        **given,
    )


def test_one_iteration_by_hand():
    """Losses and both updates, from the formulas of the publication, for the first batch of four images."""
    loader = batches(size=4)
    sgd = torch.optim.SGD  # Adam would make a step of the rounding of gradients that are 0
    trainer = make(loader, kind=sgd, cycle_weight=7.0, identity_weight=3.0, image_pool=ImagePool(0), decollate=False)
    g, d = copy.deepcopy(trainer.network), copy.deepcopy(trainer.discriminators)
    g_optimizer = sgd(g.parameters(), 1e-2)
    d_optimizer = sgd(d.parameters(), 1e-2)
    ct, mri = next(iter(loader))["image"].as_subclass(torch.Tensor).split(1, dim=1)
    to_mri, to_ct = g.ct_to_mri(ct), g.mri_to_ct(mri)
    cycle = ((g.mri_to_ct(to_mri) - ct).abs().mean() + (g.ct_to_mri(to_ct) - mri).abs().mean()) / 2
    identity = ((g.mri_to_ct(ct) - ct).abs().mean() + (g.ct_to_mri(mri) - mri).abs().mean()) / 2
    judge_ct, judge_mri = (lambda x, j=j: j(x)[-1] for j in d.discriminators)
    adversarial = (((judge_ct(to_ct) - 1) ** 2).mean() + ((judge_mri(to_mri) - 1) ** 2).mean()) / 2
    (adversarial + 7.0 * cycle + 3.0 * identity).backward()
    g_optimizer.step()
    d_optimizer.zero_grad()
    real = (((judge_ct(ct) - 1) ** 2).mean() + ((judge_mri(mri) - 1) ** 2).mean()) / 2
    fake = ((judge_ct(to_ct.detach()) ** 2).mean() + (judge_mri(to_mri.detach()) ** 2).mean()) / 2
    (0.5 * (real + fake)).backward()
    d_optimizer.step()

    trainer.run()
    output = trainer.state.output
    expected = {"adversarial": adversarial, "cycle": cycle, "identity": identity, "discriminator": 0.5 * (real + fake)}
    for name, value in expected.items():
        torch.testing.assert_close(output[name].detach(), value.detach(), msg=name)
    total = adversarial + 7.0 * cycle + 3.0 * identity
    torch.testing.assert_close(output["loss"].detach(), total.detach())
    torch.testing.assert_close(output["pred"].detach(), torch.cat([to_ct, to_mri], dim=1).detach())
    for ours, theirs in ((trainer.network, g), (trainer.discriminators, d)):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_generators_update_leaves_the_discriminators_alone_and_the_other_way():
    trainer = make(max_epochs=1)
    seen = {}

    def keep(name, module):
        seen[name] = [parameter.detach().clone() for parameter in module.parameters()]

    @trainer.on(IterationEvents.BACKWARD_COMPLETED)
    def after_backward(engine):
        if engine.state.iteration > 1:
            return
        assert all(parameter.grad is None for parameter in engine.discriminators.parameters())
        keep("discriminators", engine.discriminators)
        keep("generators", engine.network)

    trainer.run()
    for name, module in (("discriminators", trainer.discriminators), ("generators", trainer.network)):
        assert all(parameter.requires_grad for parameter in module.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(seen[name], module.parameters(), strict=True))


def test_events_decollation_postprocessing_and_statistics():
    fired = []
    trainer = make(
        postprocessing=lambda item: item | {"mean": item["pred"].mean()},
        train_handlers=[StatsHandler(name="train", output_transform=from_engine(["loss"], first=True))],
    )
    for name in EVENTS:
        trainer.add_event_handler(IterationEvents[name], lambda _engine, name=name: fired.append(name))
    trainer.run()
    assert fired == EVENTS * 2
    items = trainer.state.output
    assert isinstance(items, list)
    assert len(items) == 2
    for item, case in zip(items, trainer.state.batch, strict=True):
        assert item["image"].shape == item["pred"].shape == item["cycled"].shape == (2, 16, 16)
        assert set(LOSSES) <= set(item)
        assert isinstance(item["loss"], float)
        torch.testing.assert_close(item["mean"], item["pred"].mean())
        assert case["case"] in {"c2", "c3"}


def test_discriminators_see_the_past():
    """A pool that gives back zeros instead of what is new shows what the discriminators are judged on."""

    class Zeros(ImagePool):
        def __call__(self, images):
            return torch.zeros_like(images)

    loader = batches(size=4)
    trainer = make(loader, image_pool=Zeros(), decollate=False)
    judges = copy.deepcopy(trainer.discriminators)
    trainer.run()
    real = next(iter(loader))["image"].as_subclass(torch.Tensor)
    expected = ((judges(real) - 1).square().mean() + judges(torch.zeros_like(real)).square().mean()) / 2
    torch.testing.assert_close(trainer.state.output["discriminator"].detach(), expected.detach())


def test_without_identity_its_pass_is_left_out():
    calls = []

    class Counting(SimpleInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            calls.append((type(network).__name__, len(inputs)))
            return super().__call__(inputs, network, *args, **kwargs)

    trainer = make(identity_weight=0.0, inferer=Counting(), decollate=False)
    trainer.run()
    assert calls[:2] == [("CycleNetworks", 2)] * 2
    assert float(trainer.state.output["identity"]) == 0.0


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="negative"):
        make(cycle_weight=-1.0)


def test_bfloat16_by_the_inferer():
    trainer = make(inferer=AutocastInferer(True), decollate=False)
    trainer.run()
    assert all(torch.isfinite(trainer.state.output[name]) for name in LOSSES)
    assert trainer.state.output["pred"].dtype == torch.float32
    assert {parameter.dtype for parameter in trainer.network.parameters()} == {torch.float32}


def test_learns_the_cycle_and_the_identity():
    """With the adversarial loss answered by constants nothing but the two reconstruction terms is left to lower."""
    trainer = make(batches(2, 2), max_epochs=12, adversarial_loss=lambda logits, **_: 0.0 * logits.mean())
    curve = []
    trainer.add_event_handler(
        IterationEvents.LOSS_COMPLETED,
        lambda engine: curve.append([engine.state.output[name].item() for name in ("cycle", "identity")]),
    )
    trainer.run()
    first, last = curve[0], curve[-1]
    assert all(end < 0.9 * start for start, end in zip(first, last, strict=True))


def test_cycle_inferer_runs_there_and_back():
    class Double(nn.Module):
        def forward(self, image):
            return 2.0 * image.flip(1)

    image = torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(CycleInferer()(image, Double()), 4.0 * image)
