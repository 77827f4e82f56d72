"""What one modality's features say the other's should be, and where they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.patch_sampling import PatchSample
from monai_ctmri.scoring.patch_views import JOINT, Backbone, demand_grid, enlarged, head_of, scores_of, views_of
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore

__all__ = ["FeatureMappingScorer"]

_DISTANCES = ("cosine", "euclidean")
_SMALLEST = 1e-6
_HIDDEN_LAYERS = 2


class FeatureMappingScorer:
    """Cross-modal feature mapping: small networks predict one modality's features from the other's, place by place.

    Costanzino A, Zama Ramirez P, Lisanti G, Di Stefano L. Multimodal industrial anomaly detection by crossmodal feature
    mapping. CVPR 2024. Two networks of three layers (CT to MRI, MRI to CT) learn on patches of normals; where both
    predictions fail, the modalities do not belong together. Each direction's distance is divided by its mean on the
    normals it learnt on, is 0 outside the head, and the map is the product of both after ``box_repeats`` box filters.
    Unlike in the paper, channels are standardised on normals first: those of a trained encoder have no common scale.

    - ``feature_mapping_<m>``: distance of ``<m>``'s features from what the other modality predicts;
    - ``feature_mapping``: the product.

    Scores are ``<map>_mean`` and ``<map>_top`` of :class:`MapScore`, and the paper's ``feature_mapping``: the highest
    value of the map over the square root of the mean of its nonzero values. A case without both modalities (a channel
    of zeros) has no evidence.

    Args:
        backbone: images (N, 2, H, W), one channel of which is 0, to feature maps (N, C, h, w), e.g.
            :class:`~monai_ctmri.networks.feature_maps.FeatureMaps`.
        modalities: the two channels of ``image`` in order.
        distance: ``cosine``, the paper's: between features scaled to length 1; ``euclidean``: root mean square over the
            channels, for features of few channels, whose direction says little.
        steps: of Adam.
        batch: patches a step.
        learning_rate: of Adam.
        patches: most patches to learn from, drawn at random.
        box: side of the box filter in pixels, odd.
        box_repeats: how often it runs; 0 leaves it out.
        seed: of the networks' first weights, the patches and their order.
        mask: where to look, a transform of the image (2, H, W) to (1, H, W); None takes the defaults of
            :class:`HeadMask`.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        device: where the backbone runs; None leaves a network where its parameters are.
        name: of maps and scores.

    Attributes:
        mappings_: modality to the network that predicts its features.
        statistics_: modality to ``shape`` (C, h, w), ``mean`` and ``spread`` (C,) of its features, and ``typical``, the
            mean distance on the normals.

    Raises:
        ValueError: other than two modalities, an unknown distance, a number out of range.
    """

    def __init__(
        self,
        backbone: Backbone,
        modalities: Sequence[str] = keys.MODALITIES,
        distance: str = "cosine",
        steps: int = 300,
        batch: int = 1024,
        learning_rate: float = 1e-3,
        patches: int = 20_000,
        box: int = 5,
        box_repeats: int = 3,
        seed: int = 0,
        mask: Callable[[Any], Any] | None = None,
        map_score: MapScore | None = None,
        device: torch.device | str | None = None,
        name: str = "feature_mapping",
    ) -> None:
        if len(modalities) != 2:
            raise ValueError(f"feature mapping is between two modalities, got {len(modalities)}.")
        if distance not in _DISTANCES:
            raise ValueError(f"distance must be one of {', '.join(_DISTANCES)}, got {distance}.")
        for label, value in {"steps": steps, "batch": batch, "patches": patches, "box": box}.items():
            if value < 1:
                raise ValueError(f"{label} must be at least 1, got {value}.")
        if box % 2 == 0 or box_repeats < 0:
            raise ValueError(f"box must be odd and box_repeats not negative, got {box} and {box_repeats}.")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
        self.backbone = backbone
        self.modalities = tuple(modalities)
        self.distance = distance
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.patches = patches
        self.box = box
        self.box_repeats = box_repeats
        self.seed = seed
        self.mask = HeadMask() if mask is None else mask
        self.map_score = MapScore() if map_score is None else map_score
        self.device = device
        self.name = name

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> FeatureMappingScorer:
        """Learn both mappings from normal cases; those without both modalities are passed over.

        Raises:
            InputError: no patch inside the heads of cases with both modalities, or features of several shapes.
        """
        sample, shape = PatchSample(self.patches, self.seed), None
        for case, views in views_of(self.backbone, normal_cases, self.modalities, self.device):
            if JOINT in views:
                shape = tuple(views[JOINT].shape) if shape is None else shape
                demand_grid(case, views[JOINT], shape)
                head = torch.from_numpy(head_of(case, self.modalities, self.mask))[None].float()
                inside = functional.adaptive_avg_pool2d(head, (shape[1], shape[2])).flatten() > 0.5
                sample.add(views[JOINT].flatten(1).T[inside])
        rows = None if shape is None else sample.rows()
        if shape is None or rows is None or not len(rows):
            problem = "no normal case that shows a head in both modalities"
            raise InputError.about(f"score {self.name}", problem, "give some to fit on")
        halves = dict(zip(self.modalities, rows.split(rows.shape[1] // 2, dim=1), strict=True))
        generator = torch.Generator().manual_seed(self.seed)
        statistics: dict[str, dict[str, torch.Tensor]] = {}
        for name, half in halves.items():
            spread = half.std(dim=0, correction=0).clamp(min=_SMALLEST)
            one = torch.tensor([half.shape[1], *shape[1:]])
            statistics[name] = {"shape": one, "mean": half.mean(dim=0), "spread": spread}
        self.statistics_ = statistics
        halves = {name: self._standardised(half, name) for name, half in halves.items()}
        self.mappings_ = {
            target: self._learnt(halves[source], halves[target], generator)
            for source, target in permutations(self.modalities)
        }
        for source, target in permutations(self.modalities):
            mean = self._apart(self.mappings_[target](halves[source]), halves[target]).mean()
            statistics[target]["typical"] = mean.clamp(min=_SMALLEST)
        return self

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What :meth:`fit` learnt, ``<modality>.<entry>`` to tensor, for ``torch.load(weights_only=True)``.

        Raises:
            RuntimeError: before ``fit``.
        """
        self._demand_fit()
        state = {f"{name}.{entry}": one for name, known in self.statistics_.items() for entry, one in known.items()}
        for name, mapping in self.mappings_.items():
            state |= {f"{name}.mapping.{entry}": one for entry, one in mapping.state_dict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave.

        Raises:
            InputError: an entry is missing or of another shape.
        """
        statistics: dict[str, dict[str, torch.Tensor]] = {}
        mappings: dict[str, nn.Sequential] = {}
        try:
            for name in self.modalities:
                entries = ("shape", "mean", "spread", "typical")
                statistics[name] = {entry: torch.as_tensor(state[f"{name}.{entry}"]) for entry in entries}
            for source, target in permutations(self.modalities):
                sizes = (len(statistics[source]["mean"]), len(statistics[target]["mean"]))
                mappings[target] = _mapping(*sizes, torch.Generator().manual_seed(self.seed))
                begin = f"{target}.mapping."
                weights = {label.removeprefix(begin): state[label] for label in state if label.startswith(begin)}
                mappings[target].load_state_dict(weights)
        except (KeyError, RuntimeError) as error:
            problem = "lacks an entry, or one has another shape"
            raise InputError.about(f"state of {self.name}", problem, "fit it again") from error
        self.statistics_, self.mappings_ = statistics, mappings

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            RuntimeError: before ``fit``.
            InputError: the image has not one channel a modality, shows nothing, or its features are not finite or of
                another shape than in ``fit``.
        """
        return self.score_batch([case])[0]

    def score_batch(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[Evidence]:
        """Judge cases in their order, ``batch_size`` images through the backbone at a time.

        The evidence equals that of :meth:`score` up to rounding.
        """
        self._demand_fit()
        found = views_of(self.backbone, cases, self.modalities, self.device, batch_size)
        return [self._evidence(case, views) if JOINT in views else Evidence() for case, views in found]

    def _evidence(self, case: Mapping[str, Any], views: Mapping[str, torch.Tensor]) -> Evidence:
        rows = {}
        for name in self.modalities:
            demand_grid(case, views[name], self.statistics_[name]["shape"].tolist())
            rows[name] = self._standardised(views[name].flatten(1).T, name)
        head = head_of(case, self.modalities, self.mask)
        maps: dict[str, np.ndarray] = {}
        for source, target in permutations(self.modalities):
            with torch.inference_mode():
                apart = self._apart(self.mappings_[target](rows[source]), rows[target])
            coarse = (apart / self.statistics_[target]["typical"]).reshape(views[target].shape[1:])
            maps[target] = enlarged(coarse, head.shape) * (head > 0).astype(np.float32)
        product = self._boxed(maps[self.modalities[0]] * maps[self.modalities[1]]) * (head > 0)
        named = {self.name: product.astype(np.float32)}
        named |= {f"{self.name}_{name}": maps[name] for name in self.modalities}
        evidence = scores_of(named, head, self.map_score)
        return Evidence(maps=evidence.maps, scores={self.name: _peak(named[self.name]), **evidence.scores})

    def _standardised(self, rows: torch.Tensor, name: str) -> torch.Tensor:
        return (rows - self.statistics_[name]["mean"]) / self.statistics_[name]["spread"]

    def _apart(self, pred: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Distance of each row (P, C) from its prediction, (P,)."""
        if self.distance == "euclidean":
            return (pred - rows).square().mean(dim=1).sqrt()
        return (functional.normalize(pred, dim=1) - functional.normalize(rows, dim=1)).norm(dim=1)

    def _learnt(self, given: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator) -> nn.Sequential:
        """A network that predicts ``wanted`` (P, C2) from ``given`` (P, C1)."""
        # Whoever calls may have gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            given, wanted = given.clone(), wanted.clone()
            mapping = _mapping(given.shape[1], wanted.shape[1], generator).requires_grad_(True)
            optimizer = torch.optim.Adam(mapping.parameters(), lr=self.learning_rate)
            for _ in range(self.steps):
                some = torch.randint(len(given), (min(self.batch, len(given)),), generator=generator)
                # The square of the Euclidean distance of unit vectors is twice the paper's 1 - cosine.
                pred, goal = mapping(given[some]), wanted[some]
                if self.distance == "cosine":
                    loss = (1 - functional.cosine_similarity(pred, goal, dim=1)).mean()
                else:
                    loss = functional.mse_loss(pred, goal)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            optimizer.zero_grad()
        return mapping.requires_grad_(False)

    def _boxed(self, one: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(one)[None]
        for _ in range(self.box_repeats):
            image = functional.avg_pool2d(image, self.box, stride=1, padding=self.box // 2)
        return image[0].numpy()

    def _demand_fit(self) -> None:
        if not hasattr(self, "mappings_"):
            raise RuntimeError(f"{type(self).__name__}: fit it on normal cases first")


def _mapping(given: int, wanted: int, generator: torch.Generator) -> nn.Sequential:
    """Three layers with GELU, without gradients; first weights as torch's own, but from ``generator``."""
    hidden = max(1, (given + wanted) // 2)
    sizes = [given, *[hidden] * _HIDDEN_LAYERS, wanted]
    layers: list[nn.Module] = []
    for one, other in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, one, other).requires_grad_(False)
        for parameter in linear.parameters():
            parameter.uniform_(-(one**-0.5), one**-0.5, generator=generator)
        layers += [linear, nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _peak(one: np.ndarray) -> float:
    """Highest value over the square root of the mean of those that are not 0; 0 where all are."""
    there = one[one > 0].astype(np.float64)
    return float(there.max() / np.sqrt(there.mean())) if there.size else 0.0
