"""A history of generated images, from which a discriminator is shown half."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["ImagePool"]


class ImagePool:
    """Show a discriminator old generated images along with new ones, so that it does not forget what fooled it before.

    Shrivastava et al., "Learning from simulated and unsupervised images through adversarial training", CVPR 2017,
    section 2.3, as in CycleGAN: while there is room an image is kept and shown; once the pool is full, with probability
    1/2 the new image is shown, else one of the pool's is shown and the new one takes its place.

    Its random numbers are its own. State, kept images among it, goes into a checkpoint: of a distributed run that of
    the first process, which all take over.

    Args:
        size: images to keep; 0 keeps none and shows the new ones.
        seed: of its random numbers.

    Raises:
        ValueError: for a negative size.
    """

    def __init__(self, size: int = 50, seed: int = 0) -> None:
        if size < 0:
            raise ValueError(f"size must not be negative, got {size}.")
        self.size = size
        self.images: list[torch.Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Exchange some of ``images`` [N, C, ...] for earlier ones of that shape; no gradient flows back."""
        return torch.stack([self._exchange(image) for image in images.detach()])

    def _exchange(self, image: torch.Tensor) -> torch.Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if self.size == 0 or torch.rand((), generator=self._random) < 0.5:
            return image
        place = int(torch.randint(self.size, (), generator=self._random))
        shown = self.images[place].to(image)
        self.images[place] = image.clone()
        return shown

    def state_dict(self) -> dict[str, Any]:
        """Return images and random state as tensors on the CPU."""
        return {"images": [image.cpu() for image in self.images], "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state; of a larger pool the first images.

        Raises:
            KeyError: when it is none of a pool.
        """
        self.images = [torch.as_tensor(image) for image in state["images"]][: self.size]
        self._random.set_state(state["random"])
