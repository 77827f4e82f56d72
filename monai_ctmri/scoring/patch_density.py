"""How unlike the patches of normals a patch is: a Gaussian at each location, or a memory of patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.patch_sampling import PatchSample, greedy_coreset, grid_positions, nearest_distances
from monai_ctmri.scoring.patch_scorer import Learnt, PatchScorer
from monai_ctmri.scoring.patch_views import Backbone, demand_grid, views_of
from monai_ctmri.transforms.residual import MapScore

__all__ = ["GaussianPatchScorer", "PatchMemoryScorer"]

_SMALLEST_VARIANCE = 1e-12


class GaussianPatchScorer(PatchScorer):
    """PaDiM: a Gaussian of the features of normals at each location; the map is the Mahalanobis distance to it.

    Defard T, Setkov A, Loesch A, Audigier R. PaDiM: a patch distribution modeling framework for anomaly detection and
    localization. ICPR workshops 2021. The C channels are first projected to K = ``channels`` by a random matrix with
    orthonormal columns (Kim et al., ICCV 2021, in place of a random choice of channels). With S the covariance at a
    location (divided by n - 1) and t the mean variance over all locations and channels, the Gaussian's covariance is
    ``(1 - s) S + s t I``: t of all places, since that of a place where normals never vary would make the smallest
    change there the largest finding.

    Heads should lie alike: a location is a place in the picture. Maps ``padim_<m>`` are given modality ``<m>`` alone,
    ``padim`` is given the features of all modalities side by side; a modality whose channel is 0 everywhere has no
    names, and neither has ``padim`` then. Scores are ``<map>_mean`` and ``<map>_top`` of :class:`MapScore`.

    Args:
        backbone: images (N, M, H, W) to feature maps (N, C, h, w), e.g.
            :class:`~monai_ctmri.networks.feature_maps.FeatureMaps`; it must serve images with channels of zeros.
        modalities: the M channels of ``image`` in order.
        channels: K; C where that is less.
        shrinkage: s in (0, 1]; None takes K / (K + n) for n normals, as if K further cases had been seen that vary
            alike in every direction.
        seed: of the projection.
        mask: where to look, a transform of the image (M, H, W) to (1, H, W); None takes the defaults of
            :class:`HeadMask`.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        device: where the backbone runs; None leaves a network where its parameters are.
        name: of maps and scores.

    Attributes:
        models_: a dictionary for each view (a modality, or ``joint``): ``shape`` (C, h, w), ``projection`` (C, K),
            ``mean`` (h w, K), and ``whitening`` (h w, K, K) whose product with a deviation from the mean has the
            Mahalanobis distance as its norm.

    Raises:
        ValueError: ``channels`` below 1 or ``shrinkage`` outside (0, 1].
    """

    entries = ("shape", "projection", "mean", "whitening")

    def __init__(
        self,
        backbone: Backbone,
        modalities: Sequence[str] = keys.MODALITIES,
        channels: int = 24,
        shrinkage: float | None = None,
        seed: int = 0,
        mask: Callable[[Any], Any] | None = None,
        map_score: MapScore | None = None,
        device: torch.device | str | None = None,
        name: str = "padim",
    ) -> None:
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}.")
        if shrinkage is not None and not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage must be in (0, 1], got {shrinkage}.")
        super().__init__(backbone, modalities, seed, mask, map_score, device, name)
        self.channels = channels
        self.shrinkage = shrinkage

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> GaussianPatchScorer:
        """Learn mean and covariance at each location, view by view; memory does not grow with the number of cases.

        Raises:
            InputError: no view with two cases, or features of several shapes.
        """
        moments: dict[str, _Moments] = {}
        for case, views in views_of(self.backbone, normal_cases, self.modalities, self.device):
            for view, features in views.items():
                if view not in moments:
                    moments[view] = _Moments(features, self.channels, self.seed)
                demand_grid(case, features, moments[view].shape)
                moments[view].add(features)
        models = {view: one.model(self.shrinkage) for view, one in moments.items() if one.count > 1}
        if not models:
            raise InputError.about(f"score {self.name}", "less than two normal cases to fit on", "give more")
        self.models_ = models
        return self

    def distances(self, features: torch.Tensor, learnt: Learnt) -> torch.Tensor:
        deviation = _projected(features, learnt["projection"]) - learnt["mean"].double()
        return torch.einsum("lij,lj->li", learnt["whitening"].double(), deviation).norm(dim=1)


class _Moments:
    """First and second moments of projected features at each location, of a stream of maps of one view."""

    def __init__(self, first: torch.Tensor, channels: int, seed: int) -> None:
        self.shape = tuple(first.shape)
        kept = min(channels, len(first))
        drawn = torch.randn(len(first), kept, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        # Where nothing is saved by it, nothing is mixed.
        orthonormal = torch.linalg.qr(drawn).Q if kept < len(first) else torch.eye(kept)
        self.projection = orthonormal.float()
        self.origin = _projected(first, self.projection)  # sums of differences keep their digits
        self.count = 0
        self.sums = torch.zeros_like(self.origin)
        self.products = torch.zeros(*self.origin.shape, kept, dtype=torch.float64)

    def add(self, features: torch.Tensor) -> None:
        rows = _projected(features, self.projection) - self.origin
        self.count += 1
        self.sums += rows
        self.products += rows[:, :, None] * rows[:, None, :]

    def model(self, shrinkage: float | None) -> Learnt:
        mean = self.sums / self.count
        covariance = (self.products - self.count * mean[:, :, None] * mean[:, None, :]) / (self.count - 1)
        kept = mean.shape[1]
        share = kept / (kept + self.count) if shrinkage is None else shrinkage
        typical = max(float(covariance.diagonal(dim1=1, dim2=2).mean()), _SMALLEST_VARIANCE)
        unit = torch.eye(kept, dtype=torch.float64)
        lower = torch.linalg.cholesky((1 - share) * covariance + share * typical * unit)
        whitening = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
        return {
            "shape": torch.tensor(self.shape),
            "projection": self.projection,
            "mean": (mean + self.origin).float(),
            "whitening": whitening.float(),
        }


def _projected(features: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """(C, h, w) -> (h * w, K), float64."""
    return features.flatten(1).T.double() @ projection.double()


class PatchMemoryScorer(PatchScorer):
    """PatchCore: a memory of patch features of normals; the map is the distance to the nearest of them.

    Roth K, Pemula L, Zepeda J, Schoelkopf B, Brox T, Gehler P. Towards total recall in industrial anomaly detection.
    CVPR 2022. Features are averaged over ``neighbourhood`` x ``neighbourhood`` locations; a greedy k-centre coreset of
    a random sample of all patches is kept. The paper's reweighting of the image score, which its authors' code leaves
    out, is left out here, too.

    Heads are not alike everywhere: bone in the place of brain has near relatives in the skull. Two ways to mind the
    place, which go together: ``position_radius`` asks only memory patches within that distance, and
    ``position_weight`` appends the place to the features.

    Maps and scores are named as those of :class:`GaussianPatchScorer`: ``patchcore_<m>`` given ``<m>`` alone,
    ``patchcore`` given all modalities.

    Args:
        backbone: see :class:`GaussianPatchScorer`.
        modalities: the M channels of ``image`` in order.
        rows: most patches in the memory of a view.
        candidates: most patches that the coreset is chosen from.
        neighbours: k; the mean distance to the k nearest counts.
        neighbourhood: side of the local average, odd; 1 averages nothing.
        position_radius: in shares of the picture's side, e.g. 0.1; None asks the whole memory.
        position_weight: weight of the place (row and column in [0, 1]), in units of the root mean squared distance of
            the candidates from their mean.
        seed: of the sample and of the coreset's first patch.
        mask: see :class:`GaussianPatchScorer`.
        map_score: see :class:`GaussianPatchScorer`.
        device: see :class:`GaussianPatchScorer`.
        name: of maps and scores.

    Attributes:
        models_: a dictionary for each view: ``shape`` (C, h, w), ``memory`` (R, C, or C + 2 with a weight),
            ``positions`` (R, 2), and ``place_scale``, what row and column are multiplied by.

    Raises:
        ValueError: a count below 1, an even ``neighbourhood``, a radius that is not positive, a negative weight.
    """

    entries = ("shape", "memory", "positions", "place_scale")

    def __init__(
        self,
        backbone: Backbone,
        modalities: Sequence[str] = keys.MODALITIES,
        rows: int = 1000,
        candidates: int = 20_000,
        neighbours: int = 1,
        neighbourhood: int = 3,
        position_radius: float | None = None,
        position_weight: float = 0.0,
        seed: int = 0,
        mask: Callable[[Any], Any] | None = None,
        map_score: MapScore | None = None,
        device: torch.device | str | None = None,
        name: str = "patchcore",
    ) -> None:
        counts = {"rows": rows, "candidates": candidates, "neighbours": neighbours, "neighbourhood": neighbourhood}
        for label, value in counts.items():
            if value < 1:
                raise ValueError(f"{label} must be at least 1, got {value}.")
        if neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood must be odd, got {neighbourhood}.")
        if position_radius is not None and not position_radius > 0:
            raise ValueError(f"position_radius must be positive, got {position_radius}.")
        if not position_weight >= 0:
            raise ValueError(f"position_weight must not be negative, got {position_weight}.")
        super().__init__(backbone, modalities, seed, mask, map_score, device, name)
        self.rows = rows
        self.candidates = candidates
        self.neighbours = neighbours
        self.neighbourhood = neighbourhood
        self.position_radius = position_radius
        self.position_weight = float(position_weight)

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> PatchMemoryScorer:
        """Fill the memory of each view; memory does not grow with the number of cases.

        Raises:
            InputError: no case, or features of several shapes.
        """
        samples: dict[str, PatchSample] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for case, views in views_of(self.backbone, normal_cases, self.modalities, self.device):
            for view, features in views.items():
                demand_grid(case, features, shapes.setdefault(view, tuple(features.shape)))
                sample = samples.setdefault(view, PatchSample(self.candidates, self.seed))
                sample.add(torch.cat([self._patches(features), grid_positions(*features.shape[1:])], dim=1))
        if not samples:
            raise InputError.about(f"score {self.name}", "no normal case to fit on", "give some")
        self.models_ = {view: self._memory(sample.rows(), shapes[view]) for view, sample in samples.items()}
        return self

    def _memory(self, sample: torch.Tensor, shape: tuple[int, ...]) -> Learnt:
        patches, positions = sample[:, :-2], sample[:, -2:]
        variance = (patches - patches.mean(dim=0)).square().sum(dim=1).mean()
        scale = torch.tensor(self.position_weight * math.sqrt(float(variance)))
        patches = _placed(patches, positions, scale)
        kept = greedy_coreset(patches, self.rows, self.seed, positions, self.position_radius)
        return {
            "shape": torch.tensor(shape),
            "memory": patches[kept],
            "positions": positions[kept],
            "place_scale": scale,
        }

    def _patches(self, features: torch.Tensor) -> torch.Tensor:
        """(C, h, w) -> locally averaged (h * w, C)."""
        side = self.neighbourhood
        local = functional.avg_pool2d(features[None], side, stride=1, padding=side // 2, count_include_pad=False)
        return local[0].flatten(1).T

    def distances(self, features: torch.Tensor, learnt: Learnt) -> torch.Tensor:
        positions = grid_positions(*features.shape[1:])
        return nearest_distances(
            _placed(self._patches(features), positions, learnt["place_scale"]),
            learnt["memory"],
            self.neighbours,
            positions,
            learnt["positions"],
            self.position_radius,
        )


def _placed(patches: torch.Tensor, positions: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Append row and column, unless they weigh nothing."""
    return torch.cat([patches, scale * positions], dim=1) if float(scale) > 0 else patches
