"""Training of two generators against two discriminators, on MONAI's engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.engines import IterationEvents, Trainer
from monai.engines.utils import default_metric_cmp_fn
from monai.inferers import Inferer, SimpleInferer
from monai.losses import PatchAdversarialLoss
from monai.utils import convert_to_tensor
from torch import nn

from monai_ctmri import keys
from monai_ctmri.engines.checkpoints import unwrapped
from monai_ctmri.engines.image_pool import ImagePool
from monai_ctmri.engines.prepare_batch import PrepareBatchReconstruction

__all__ = ["LOSSES", "CycleInferer", "CycleTrainer"]

LOSSES = ("loss", "adversarial", "cycle", "identity", "discriminator")
"""Names of the losses in a trainer's output; ``loss`` is the generators' weighted sum."""


class CycleInferer(SimpleInferer):
    """Run a network that crosses its channels over twice: there and back, whatever wraps it."""

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return ``network(network(inputs))``, shaped like ``inputs``."""
        return super().__call__(super().__call__(inputs, network, *args, **kwargs), network, *args, **kwargs)


class CycleTrainer(Trainer):
    """Train :class:`~monai_ctmri.networks.CycleNetworks` on unpaired images (Zhu et al., ICCV 2017).

    An iteration updates the generators by ``adversarial + cycle_weight * cycle + identity_weight * identity``, then the
    discriminators by the mean of their losses on real images and on generated ones out of the pool. Each loss is a mean
    over both modalities.

    MONAI's ``AdversarialTrainer`` (1.6.1) knows one generator and one discriminator, gives no loss without mixed
    precision and never fires ``MODEL_COMPLETED``, on which decollation and postprocessing depend.

    ``state.output`` has ``image``, ``label`` (both the real images [N, 2, ...]), ``pred`` (their translations),
    ``cycled`` and the :data:`LOSSES`. All of MONAI's ``IterationEvents`` of a training are fired: forward, loss and
    backward for the generators, ``MODEL_COMPLETED`` after both updates.

    Args:
        device: where to train.
        max_epochs: epochs in all.
        train_data_loader: batches with ``image`` [N, 2, ...].
        network: the generators; may be wrapped for distributed training.
        optimizer: of the generators.
        discriminators: a :class:`~monai_ctmri.networks.ModalityDiscriminators`; may be wrapped.
        discriminator_optimizer: of the discriminators.
        adversarial_loss: None takes MONAI's least squares without an activation, as published.
        cycle_loss, identity_loss: None takes the mean absolute difference.
        cycle_weight, identity_weight: weights of these losses; 0 leaves out the pass that identity needs.
        image_pool: None takes one of 50 images.
        inferer: runs generators and discriminators alike; an
            :class:`~monai_ctmri.engines.precision.AutocastInferer` trains in bfloat16 on any device, which needs no
            scaling of gradients.
        prepare_batch: gives (image, image) of a batch.
        postprocessing, key_train_metric, additional_metrics, metric_cmp_fn, train_handlers, decollate: as for MONAI's
            ``SupervisedTrainer``.

    Raises:
        ValueError: for a negative weight.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        discriminators: nn.Module,
        discriminator_optimizer: torch.optim.Optimizer,
        adversarial_loss: Callable[..., torch.Tensor] | None = None,
        cycle_loss: Callable[..., torch.Tensor] | None = None,
        identity_loss: Callable[..., torch.Tensor] | None = None,
        cycle_weight: float = 10.0,
        identity_weight: float = 5.0,
        image_pool: ImagePool | None = None,
        inferer: Inferer | None = None,
        prepare_batch: Callable[..., Any] | None = None,
        postprocessing: Callable[..., Any] | None = None,
        key_train_metric: Mapping[str, Any] | None = None,
        additional_metrics: Mapping[str, Any] | None = None,
        metric_cmp_fn: Callable[[Any, Any], bool] = default_metric_cmp_fn,
        train_handlers: Sequence[Any] | None = None,
        decollate: bool = True,
    ) -> None:
        if min(cycle_weight, identity_weight) < 0:
            raise ValueError(f"weights must not be negative, got cycle {cycle_weight}, identity {identity_weight}.")
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            prepare_batch=PrepareBatchReconstruction() if prepare_batch is None else prepare_batch,
            postprocessing=postprocessing,
            key_metric=None if key_train_metric is None else dict(key_train_metric),
            additional_metrics=None if additional_metrics is None else dict(additional_metrics),
            metric_cmp_fn=metric_cmp_fn,
            handlers=train_handlers,
            decollate=decollate,
        )
        self.network = network
        self.optimizer = optimizer
        self.discriminators = discriminators
        self.discriminator_optimizer = discriminator_optimizer
        self.adversarial_loss = adversarial_loss or PatchAdversarialLoss(
            criterion="least_squares", no_activation_leastsq=True
        )
        self.cycle_loss = cycle_loss or nn.L1Loss()
        self.identity_loss = identity_loss or nn.L1Loss()
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.image_pool = ImagePool() if image_pool is None else image_pool
        self.inferer = SimpleInferer() if inferer is None else inferer

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        image, _ = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        real: torch.Tensor = convert_to_tensor(image, track_meta=False)
        engine.state.output = {keys.IMAGE: real, keys.LABEL: real}
        self.network.train()
        self.discriminators.train()
        self._update_generators(engine, real)
        self._update_discriminators(engine, real)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _update_generators(self, engine: Any, real: torch.Tensor) -> None:
        output = engine.state.output
        self.optimizer.zero_grad(set_to_none=True)
        self.discriminators.requires_grad_(False)  # they judge here and do not learn: half the backward pass
        if self.identity_weight:
            # Flipped, each channel meets the generator of its own modality; side by side in one pass.
            translated, same = self.inferer(torch.cat([real, real.flip(1)]), self.network).chunk(2)
        else:
            translated, same = self.inferer(real, self.network), real
        cycled = self.inferer(translated, self.network)
        logits = self.inferer(translated, unwrapped(self.discriminators))
        output |= {keys.PRED: translated, "cycled": cycled}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        output["adversarial"] = self.adversarial_loss(logits, target_is_real=True, for_discriminator=False)
        output["cycle"] = self.cycle_loss(cycled, real)
        output["identity"] = self.identity_loss(same, real)
        output["loss"] = (
            output["adversarial"] + self.cycle_weight * output["cycle"] + self.identity_weight * output["identity"]
        )
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        output["loss"].backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.optimizer.step()

    def _update_discriminators(self, engine: Any, real: torch.Tensor) -> None:
        self.discriminators.requires_grad_(True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        shown = self.image_pool(engine.state.output[keys.PRED])
        judged, judged_generated = self.inferer(torch.cat([real, shown]), self.discriminators).chunk(2)
        losses = [
            self.adversarial_loss(judged, target_is_real=True, for_discriminator=True),
            self.adversarial_loss(judged_generated, target_is_real=False, for_discriminator=True),
        ]
        loss = torch.stack(losses).mean()
        loss.backward()
        self.discriminator_optimizer.step()
        engine.state.output["discriminator"] = loss
