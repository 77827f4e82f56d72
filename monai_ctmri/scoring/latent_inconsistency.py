"""How far what a network makes of the CT alone lies from what it makes of the MRI alone, in its bottleneck."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.network_run import batches, case_name, evaluating, latent_columns, on_device, present_in
from monai_ctmri.scoring.scorer import Evidence

__all__ = ["LatentInconsistencyScorer"]

_SMALLEST_VARIANCE = 1e-12
_STATE = ("mean_", "directions_", "variances_", "rest_variance_")


class LatentInconsistencyScorer:
    """Distance between the bottlenecks of the CT-only and the MRI-only pass, whitened on normals.

    With d the difference of the two pooled bottlenecks (K numbers), m its mean and S its covariance among normals, the
    score is the Mahalanobis distance ``sqrt((d - m)^T C^-1 (d - m))``. C is S with all but its ``components`` largest
    principal variances replaced by their average (probabilistic PCA, Tipping and Bishop, J R Stat Soc B 61, 1999), then
    shrunk towards a multiple of the identity: ``(1 - s) S + s trace(S) / K I`` (Ledoit and Wolf, J Multivar Anal 88,
    2004). So directions that no normal case shows count, too: with s = 0 without bounds.

    The score is left out where a modality is missing (a channel of zeros). No maps, no features.

    Args:
        network: has ``encode(image)``, e.g. :class:`~monai_ctmri.networks.CrossModalDenoiser`; it must serve images
            with one channel of zeros.
        modalities: the two channels of ``image`` in order.
        components: principal directions with a variance of their own; None keeps all that the normals show.
        shrinkage: s in [0, 1]; None takes the value of Ledoit and Wolf for the normals at hand.
        latent_pool: side of the pooled bottleneck.
        device: where to run (the network is moved there at the first score); None runs where its parameters are.
        name: of the score.

    Attributes:
        mean_: m, (K,).
        directions_: principal directions, (k, K), and ``variances_``, (k,), their variance in C.
        rest_variance_: variance in C of every direction orthogonal to them, a number.

    Raises:
        ValueError: other than two modalities, ``components`` or ``latent_pool`` below 1, ``shrinkage`` outside [0, 1].
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str] = keys.MODALITIES,
        components: int | None = None,
        shrinkage: float | None = None,
        latent_pool: int = 1,
        device: torch.device | str | None = None,
        name: str = "latent_inconsistency",
    ) -> None:
        if len(modalities) != 2:
            raise ValueError(f"latent inconsistency is between two modalities, got {len(modalities)}.")
        if components is not None and components < 1:
            raise ValueError(f"components must be at least 1, got {components}.")
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage must be in [0, 1], got {shrinkage}.")
        if latent_pool < 1:
            raise ValueError(f"latent_pool must be at least 1, got {latent_pool}.")
        self.network = network
        self.modalities = tuple(modalities)
        self.components = components
        self.shrinkage = shrinkage
        self.latent_pool = latent_pool
        self.device = device
        self.name = name

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> LatentInconsistencyScorer:
        """Learn mean and covariance of the difference from normal cases; those without both modalities are passed over.

        Raises:
            InputError: fewer than two cases with both modalities, or fewer than ``components`` + 1.
        """
        found = [row for row in self._differences(normal_cases) if row is not None]
        least = max(2, (self.components or 0) + 1)
        if len(found) < least:
            raise InputError.about(
                f"score {self.name}",
                f"{len(found)} normal cases with both modalities to fit on",
                f"give at least {least}, or ask for fewer components",
            )
        rows = np.stack(found)
        mean = rows.mean(axis=0)
        _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
        variances = singular**2 / len(rows)
        size, kept = rows.shape[1], min(self.components or len(variances), len(variances), len(rows) - 1)
        rest = variances[kept:].sum() / max(1, size - kept)
        shrinkage = _ledoit_wolf(rows) if self.shrinkage is None else self.shrinkage
        target = shrinkage * variances.sum() / size
        own = np.maximum((1 - shrinkage) * variances[:kept] + target, _SMALLEST_VARIANCE)
        self.mean_ = torch.from_numpy(mean)
        self.directions_ = torch.from_numpy(directions[:kept].copy())
        self.variances_ = torch.from_numpy(own)
        # Where nothing is orthogonal to them, only rounding is: it must not weigh more than the least direction.
        self.rest_variance_ = max(
            float((1 - shrinkage) * rest + target if kept < size else own.min()), _SMALLEST_VARIANCE
        )
        return self

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`fit` learnt: tensors and a number, for ``torch.save`` and ``torch.load(weights_only=True)``.

        Raises:
            RuntimeError: before ``fit``.
        """
        self._demand_fit()
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave.

        Raises:
            InputError: an entry is missing.
        """
        missing = [name for name in _STATE if name not in state]
        if missing:
            raise InputError.about(f"state of {self.name}", f"has no {', '.join(missing)}", "fit it again")
        for name in _STATE[:-1]:
            setattr(self, name, torch.as_tensor(state[name], dtype=torch.float64))
        self.rest_variance_ = float(state["rest_variance_"])

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            RuntimeError: before ``fit``.
            InputError: the image has not one channel a modality, image or latent is not finite, or the latent has
                another length than in ``fit``.
        """
        return self.score_batch([case])[0]

    def score_batch(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[Evidence]:
        """Judge cases ``batch_size`` at a time, in their order; the evidence equals :meth:`score` up to rounding."""
        self._demand_fit()
        return [
            Evidence() if row is None else Evidence(scores={self.name: self._distance(row)})
            for row in self._differences(cases, batch_size)
        ]

    def _distance(self, row: np.ndarray) -> float:
        if len(row) != len(self.mean_):
            raise InputError.about(
                f"score {self.name}",
                f"{len(row)} latent columns, fitted on {len(self.mean_)}",
                "fit it on this network",
            )
        centred = row - self.mean_.numpy()
        along = self.directions_.numpy() @ centred
        across = max(0.0, float(centred @ centred - along @ along))
        return float(np.sqrt((along**2 / self.variances_.numpy()).sum() + across / self.rest_variance_))

    def _differences(self, cases: Iterable[Mapping[str, Any]], size: int = 16) -> list[np.ndarray | None]:
        """CT-only minus MRI-only bottleneck a case, float64 (K,); None where a modality is missing."""
        found: list[np.ndarray | None] = []
        for images, batch in batches(cases, self.modalities, size, mirror=bool(getattr(self.network, "mirror", False))):
            images = images[:, :2]  # without the mirror image, where it is given
            both = [len(present_in(image, self.modalities)) == 2 for image in images]
            pairs, names = images[both], [case_name(case) for case, there in zip(batch, both, strict=True) if there]
            rows = iter(self._latents(pairs, names, 0) - self._latents(pairs, names, 1) if names else ())
            found += [next(rows) if there else None for there in both]
        return found

    def _latents(self, pairs: torch.Tensor, names: list[str], source: int) -> np.ndarray:
        alone = torch.zeros_like(pairs)
        alone[:, source] = pairs[:, source]
        placed = on_device(self.network, alone, self.device)
        with evaluating(self.network):
            latent = self.network.encode(placed)  # type: ignore[operator]
        columns = latent_columns(latent, names, self.latent_pool)
        return np.array([list(row.values()) for row in columns], dtype=np.float64)

    def _demand_fit(self) -> None:
        if not hasattr(self, "mean_"):
            raise RuntimeError(f"{type(self).__name__}: fit it on normal cases first")


def _ledoit_wolf(rows: np.ndarray) -> float:
    from sklearn.covariance import ledoit_wolf_shrinkage

    return float(ledoit_wolf_shrinkage(rows)) if rows.std(axis=0).any() else 1.0
