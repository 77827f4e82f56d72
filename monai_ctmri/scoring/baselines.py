"""The trivial baselines: what a case scores with no network at all. Every table of results carries them.

Each gives one score a modality, ``<baseline>_ct`` and ``<baseline>_mri``, and the combined ``<baseline>``: the mean of
the per-modality values after each is standardised on the fitted normals; with one modality it equals that one's value.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.scorer import Evidence, Scorer

__all__ = [
    "AtlasScorer",
    "IntensityStatisticScorer",
    "IntensityThresholdScorer",
    "RandomScorer",
    "trivial_baselines",
]

HEAD_LEVEL = 0.05  # a pixel brighter than this belongs to the head; preprocessing puts the background at 0
SMALLEST_SPREAD = 1e-3  # of intensities in [0, 1]: a quarter of an 8-bit step; less is rounding, not anatomy


class _ModalityBaseline(ABC):
    """One value a modality and their combination; what is learnt from normals stays small."""

    def __init__(self, baseline: str, modalities: Sequence[str]) -> None:
        self.baseline = baseline
        self.modalities = tuple(modalities)

    @abstractmethod
    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> Scorer:
        """Learn healthy statistics in one pass."""

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case: ``scores`` only, unless a baseline draws a map."""
        self._demand_fit()
        return Evidence(scores=self._named(self._values(self._image(case), case)))

    @abstractmethod
    def _values(self, image: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
        """One value a modality, shape (C,)."""

    def _learn_scale(self, values: np.ndarray) -> None:
        """Keep mean and standard deviation of the normals' values, shape (N, C), for the combined score."""
        self.value_mean_ = values.mean(axis=0)
        spread = values.std(axis=0, ddof=1)
        # A value that never varies among normals has no scale of its own: it is centred only.
        self.value_sd_ = np.where(spread > 1e-12, spread, 1.0)

    def _named(self, values: np.ndarray) -> dict[str, float]:
        combined = values[0] if len(values) == 1 else ((values - self.value_mean_) / self.value_sd_).mean()
        scores = {f"{self.baseline}_{name}": float(value) for name, value in zip(self.modalities, values, strict=True)}
        return {**scores, self.baseline: float(combined)}

    def _image(self, case: Mapping[str, Any]) -> np.ndarray:
        """The case's image as float32 array of shape (C, H, W), checked."""
        image = case[keys.IMAGE]
        if hasattr(image, "detach"):
            image = image.detach().cpu().numpy()
        array = np.asarray(image, dtype=np.float32)
        if array.ndim != 3 or array.shape[0] != len(self.modalities):
            raise InputError.about(
                _case_name(case),
                f"image of shape {array.shape} has not the channels {', '.join(self.modalities)}",
                "give (C, H, W) with one channel a modality",
            )
        if not np.isfinite(array).all():
            raise InputError.about(_case_name(case), "the image holds NaN or infinity", "check its preprocessing")
        return array

    def _heads(self, image: np.ndarray, case: Mapping[str, Any]) -> list[np.ndarray]:
        """Intensities of the head's pixels, one 1-D array a modality."""
        heads = [channel[channel > HEAD_LEVEL] for channel in image]
        for name, head in zip(self.modalities, heads, strict=True):
            if head.size == 0:
                raise InputError.about(
                    _case_name(case), f"{name} has no pixel above {HEAD_LEVEL}", "leave the blank slice out"
                )
        return heads

    def _demand_enough(self, count: int) -> None:
        if count < 2:
            raise InputError.about(
                f"baseline {self.baseline}", f"{count} normal cases to fit on", "give at least 2 normal cases"
            )

    def _demand_fit(self) -> None:
        if not hasattr(self, "value_mean_"):
            raise RuntimeError(f"{type(self).__name__}: fit it on normal cases first")


class IntensityStatisticScorer(_ModalityBaseline):
    """A statistic of the head's intensities (pixels above 0.05), far from what normals show.

    Args:
        statistic: ``mean``, ``spread`` (standard deviation) or ``percentile`` (the 95th).
        two_sided: score |x - mean| / sd with the normals' mean and sample standard deviation; otherwise x itself, so
            that brighter is more abnormal. Scores bear the statistic's name, ``raw_<statistic>`` when not two-sided.
        modalities: the channels of ``image`` in order.
    """

    _STATISTICS = ("mean", "spread", "percentile")

    def __init__(
        self, statistic: str = "mean", two_sided: bool = True, modalities: Sequence[str] = keys.MODALITIES
    ) -> None:
        if statistic not in self._STATISTICS:
            raise InputError.about(
                f"statistic {statistic!r}", "is not known", f"choose one of {', '.join(self._STATISTICS)}"
            )
        super().__init__(statistic if two_sided else f"raw_{statistic}", modalities)
        self.statistic = statistic
        self.two_sided = two_sided

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> IntensityStatisticScorer:
        """Learn mean and spread of the statistic over at least two normal cases (one pass, one number a case kept)."""
        rows = [self._statistics(self._image(case), case) for case in normal_cases]
        self._demand_enough(len(rows))
        statistics = np.stack(rows)
        self.mean_ = statistics.mean(axis=0)
        self.sd_ = np.maximum(statistics.std(axis=0, ddof=1), SMALLEST_SPREAD)
        self._learn_scale(self._sided(statistics))
        return self

    def _values(self, image: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
        return self._sided(self._statistics(image, case))

    def _sided(self, statistics: np.ndarray) -> np.ndarray:
        return np.abs(statistics - self.mean_) / self.sd_ if self.two_sided else statistics

    def _statistics(self, image: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
        heads = [head.astype(np.float64) for head in self._heads(image, case)]
        if self.statistic == "mean":
            return np.array([head.mean() for head in heads])
        if self.statistic == "spread":
            return np.array([head.std() for head in heads])
        return np.array([np.percentile(head, 95) for head in heads])


class IntensityThresholdScorer(_ModalityBaseline):
    """Share of the head's pixels brighter than a quantile of all normal cases' head pixels together.

    Where that quantile lies at the ceiling of the scale (bone in a brain window), ceiling pixels are anatomy and would
    make the share 0 for every case: quantile and share are then taken over the pixels below the ceiling.

    Args:
        quantile: healthy quantile, in (0, 1).
        modalities: the channels of ``image`` in order.

    Attributes:
        threshold_: shape (C,); the quantile, up to the bin width of 1 / 1000 of the intensity scale.
        ceiling_: shape (C,), True where ceiling pixels are left out.
    """

    BINS = 1000

    def __init__(self, quantile: float = 0.995, modalities: Sequence[str] = keys.MODALITIES) -> None:
        if not 0.0 < quantile < 1.0:
            raise InputError.about("quantile", f"{quantile} is outside (0, 1)", "give e.g. 0.995")
        super().__init__("bright", modalities)
        self.quantile = quantile

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> IntensityThresholdScorer:
        """Learn the healthy quantile from at least two normal cases (one pass, one histogram a modality kept)."""
        rows = [self._histograms(self._image(case), case) for case in normal_cases]
        self._demand_enough(len(rows))
        histograms = np.stack(rows)
        pooled = histograms.sum(axis=0)
        first_bright = np.array([self._bin_above(counts) for counts in pooled])
        self.ceiling_ = first_bright >= self.BINS
        for channel in np.flatnonzero(self.ceiling_):
            first_bright[channel] = self._bin_above(pooled[channel, :-1])
        self.first_bright_bin_ = first_bright
        self.threshold_ = first_bright / self.BINS
        self._learn_scale(np.stack([self._shares(row) for row in histograms]))
        return self

    def _values(self, image: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
        return self._shares(self._histograms(image, case))

    def _bin_above(self, counts: np.ndarray) -> int:
        """Index of the first bin wholly above the quantile; ``len(counts)`` where the quantile lies in the last bin."""
        cumulative = counts.cumsum()
        return int(np.searchsorted(cumulative, self.quantile * cumulative[-1])) + 1

    def _shares(self, histograms: np.ndarray) -> np.ndarray:
        shares = []
        for counts, first, ceiling in zip(histograms, self.first_bright_bin_, self.ceiling_, strict=True):
            kept = counts[:-1] if ceiling else counts
            shares.append(kept[first:].sum() / max(int(kept.sum()), 1))
        return np.array(shares)

    def _histograms(self, image: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
        bins = [np.clip((head * self.BINS).astype(np.int64), 0, self.BINS - 1) for head in self._heads(image, case)]
        return np.stack([np.bincount(index, minlength=self.BINS) for index in bins]).astype(np.int32)


class AtlasScorer(_ModalityBaseline):
    """Distance from a per-pixel atlas of the normals: z = (x - mean) / max(sd, floor), pixel by pixel.

    Maps: ``atlas_z``, the mean of |z| over the modalities, and ``atlas_z_<modality>``. Scores: the mean of the largest
    1 % of |z| in the head, which is every pixel above 0.05 in some channel of the case or of the atlas mean, so that a
    dark lesion stays inside.

    Args:
        modalities: the channels of ``image`` in order.
        smallest_sd: floor of the per-pixel standard deviation, in intensity units of [0, 1].
        top_fraction: share of the head's pixels the score averages.
        references: how many normal cases, at most, are kept (an even draw by a generator of its own) to learn the
            scale of the combined score, which needs the finished atlas.

    Attributes:
        mean_: per-pixel mean, shape (C, H, W).
        sd_: per-pixel sample standard deviation, floored, shape (C, H, W).
    """

    def __init__(
        self,
        modalities: Sequence[str] = keys.MODALITIES,
        smallest_sd: float = 0.02,
        top_fraction: float = 0.01,
        references: int = 128,
    ) -> None:
        if not smallest_sd > 0.0 or not 0.0 < top_fraction <= 1.0 or references < 2:
            raise InputError.about(
                "baseline atlas",
                f"smallest_sd {smallest_sd}, top_fraction {top_fraction}, references {references}",
                "give smallest_sd > 0, top_fraction in (0, 1] and at least 2 references",
            )
        super().__init__("atlas", modalities)
        self.smallest_sd = smallest_sd
        self.top_fraction = top_fraction
        self.references = references

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> AtlasScorer:
        """Learn mean and standard deviation of every pixel in one pass (Welford 1962) over cases of one shape."""
        generator = np.random.default_rng(0)
        kept: list[np.ndarray] = []
        mean = squares = np.zeros(0)
        count = 0
        for case in normal_cases:
            image = self._image(case)
            if count == 0:
                mean, squares = np.zeros(image.shape), np.zeros(image.shape)
            self._demand_grid(image, mean.shape, case)
            count += 1
            difference = image - mean
            mean += difference / count
            squares += difference * (image - mean)
            # Vitter's algorithm R: after n cases each of them is kept with the same chance.
            if len(kept) < self.references:
                kept.append(image.copy())
            elif (place := int(generator.integers(count))) < self.references:
                kept[place] = image.copy()
        self._demand_enough(count)
        self.mean_ = mean
        self.sd_ = np.maximum(np.sqrt(squares / (count - 1)), self.smallest_sd)
        self._learn_scale(np.stack([self._tops(image, self._maps(image)) for image in kept]))
        return self

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case by scores and by maps of shape (H, W), in standard deviations."""
        self._demand_fit()
        image = self._image(case)
        self._demand_grid(image, self.mean_.shape, case)
        maps = self._maps(image)
        named = {f"atlas_z_{name}": one.astype(np.float32) for name, one in zip(self.modalities, maps, strict=True)}
        named["atlas_z"] = maps.mean(axis=0).astype(np.float32)
        return Evidence(maps=named, scores=self._named(self._tops(image, maps)))

    def _values(self, image: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
        return self._tops(image, self._maps(image))

    def _maps(self, image: np.ndarray) -> np.ndarray:
        return np.abs(image - self.mean_) / self.sd_

    def _tops(self, image: np.ndarray, maps: np.ndarray) -> np.ndarray:
        head = (np.maximum(image, self.mean_) > HEAD_LEVEL).any(axis=0)
        if not head.any():
            return np.zeros(len(maps))
        inside = maps[:, head]
        size = max(1, round(self.top_fraction * inside.shape[1]))
        return np.partition(inside, -size, axis=1)[:, -size:].mean(axis=1)

    def _demand_grid(self, image: np.ndarray, shape: tuple[int, ...], case: Mapping[str, Any]) -> None:
        if image.shape != shape:
            raise InputError.about(
                _case_name(case), f"image of shape {image.shape}, the atlas has {shape}", "bring all cases to one grid"
            )


class RandomScorer(_ModalityBaseline):
    """Chance itself: uniform in [0, 1) from a hash of seed, modality and the case's name, so the order plays no part.

    Args:
        seed: another seed, another draw.
        modalities: the channels of ``image`` in order.
    """

    def __init__(self, seed: int = 0, modalities: Sequence[str] = keys.MODALITIES) -> None:
        super().__init__("random", modalities)
        self.seed = seed
        # The scale needs no normals: mean and standard deviation of the uniform distribution are known.
        self.value_mean_ = np.full(len(self.modalities), 0.5)
        self.value_sd_ = np.full(len(self.modalities), np.sqrt(1.0 / 12.0))

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> RandomScorer:
        """Learn nothing."""
        return self

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case by its name alone; the image is not looked at."""
        return Evidence(scores=self._named(self._values(np.empty(0), case)))

    def _values(self, image: np.ndarray, case: Mapping[str, Any]) -> np.ndarray:
        if keys.CASE not in case:
            raise InputError.about("baseline random", f"a case has no entry {keys.CASE!r}", "name every case")
        return np.array([self._uniform(f"{self.seed}:{name}:{case[keys.CASE]}") for name in self.modalities])

    @staticmethod
    def _uniform(text: str) -> float:
        # 53 bits fill a float64 below 1 exactly.
        return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 11) / 2.0**53


def trivial_baselines(modalities: Sequence[str] = keys.MODALITIES) -> list[Scorer]:
    """The baselines every table of results carries: mean, spread, percentile, bright, atlas, random."""
    return [
        IntensityStatisticScorer("mean", modalities=modalities),
        IntensityStatisticScorer("spread", modalities=modalities),
        IntensityStatisticScorer("percentile", modalities=modalities),
        IntensityThresholdScorer(modalities=modalities),
        AtlasScorer(modalities=modalities),
        RandomScorer(modalities=modalities),
    ]


def _case_name(case: Mapping[str, Any]) -> str:
    return str(case.get(keys.CASE, "case without a name"))
