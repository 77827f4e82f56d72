"""How well scores and maps separate abnormal from normal: one number, or the points of one curve.

Higher scores are more abnormal. Labels are 0 (normal) or 1 (abnormal). A number that cannot be had (one class only, a
score that is not finite) raises ``ValueError``; nothing here returns NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "auroc",
    "average_precision",
    "best_dice",
    "confusion",
    "paired_win_rate",
    "pixel_average_precision",
    "precision_recall_points",
    "roc_points",
    "sensitivity_at_specificity",
]


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that an abnormal case scores above a normal one, a tie counting half.

    Source: the Mann-Whitney statistic; Hanley and McNeil, Radiology 143 (1982).

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.

    Returns:
        A number in [0, 1]; .5 is chance.

    Raises:
        ValueError: one class only, a length that differs, a label that is not 0 or 1, a score that is not finite.
    """
    truth, values = _checked(labels, scores)
    normal = np.sort(values[~truth])
    abnormal = values[truth]
    wins = np.searchsorted(normal, abnormal, side="left") + np.searchsorted(normal, abnormal, side="right")
    return float(wins.sum() / (2.0 * normal.size * abnormal.size))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: the sum of precision times gain in recall over all thresholds, without interpolation.

    A random score gives the prevalence, so a value is only readable beside the prevalence of its test set.

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.

    Returns:
        A number in (0, 1].

    Raises:
        ValueError: as :func:`auroc`.
    """
    from sklearn.metrics import average_precision_score

    truth, values = _checked(labels, scores)
    return float(average_precision_score(truth, values))


def sensitivity_at_specificity(labels: ArrayLike, scores: ArrayLike, specificity: float = 0.95) -> float:
    """Best sensitivity among the thresholds whose specificity on these cases is at least ``specificity``.

    Thresholds are observed scores and ``score >= threshold`` is flagged, so tied cases are flagged together and nothing
    is interpolated: with few normal cases the specificity reached is above the one asked for.

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.
        specificity: in [0, 1].

    Returns:
        A number in [0, 1]; 0 where only the threshold above every score is specific enough.

    Raises:
        ValueError: as :func:`auroc`, or a specificity outside [0, 1].
    """
    if not 0.0 <= specificity <= 1.0:
        raise ValueError(f"specificity is {specificity}; give a number from 0 to 1")
    false_positive_rate, sensitivity, _ = roc_points(labels, scores)
    # 1 - .95 is not .05 in floating point; a rate is a count over N, far coarser than this slack
    return float(sensitivity[false_positive_rate <= 1.0 - specificity + 1e-9].max())


def roc_points(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Points of the ROC curve, one a distinct score, from (0, 0) to (1, 1).

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.

    Returns:
        False-positive rate, true-positive rate and threshold, each ``[P]``; thresholds fall and the first is infinite
        (nothing flagged).

    Raises:
        ValueError: as :func:`auroc`.
    """
    from sklearn.metrics import roc_curve

    truth, values = _checked(labels, scores)
    return roc_curve(truth, values, drop_intermediate=False)


def precision_recall_points(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Points of the precision-recall curve, one a distinct score, closed by precision 1 at recall 0.

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.

    Returns:
        Precision ``[P + 1]``, recall ``[P + 1]`` (falling) and threshold ``[P]`` (rising). Draw as steps: linear
        segments overstate the area.

    Raises:
        ValueError: as :func:`auroc`.
    """
    from sklearn.metrics import precision_recall_curve

    truth, values = _checked(labels, scores)
    return precision_recall_curve(truth, values)


def confusion(labels: ArrayLike, flagged: ArrayLike) -> dict[str, int]:
    """Count decisions against truth.

    Args:
        labels: ``[N]``, 0 or 1; one class alone is allowed (false alarms on normals only).
        flagged: ``[N]``, 0 or 1, what the threshold decided.

    Returns:
        Counts ``tp``, ``fp``, ``tn``, ``fn``, which sum to N.

    Raises:
        ValueError: no case, a length that differs, a value that is not 0 or 1.
    """
    truth, decision = _binary(labels, "labels"), _binary(flagged, "flagged")
    if truth.shape != decision.shape:
        raise ValueError(f"{truth.size} labels and {decision.size} decisions; give one of each a case")
    return {
        "tp": int(np.sum(truth & decision)),
        "fp": int(np.sum(~truth & decision)),
        "tn": int(np.sum(~truth & ~decision)),
        "fn": int(np.sum(truth & ~decision)),
    }


def paired_win_rate(abnormal_scores: ArrayLike, clean_scores: ArrayLike) -> float:
    """Share of pairs in which the slice with the anomaly scores above the same slice without it, a tie counting half.

    Anatomy is equal within a pair, so this shows what the anomaly itself adds to the score.

    Args:
        abnormal_scores: ``[N]``, finite.
        clean_scores: ``[N]``, the clean twin of each, in the same order.

    Returns:
        A number in [0, 1]; .5 is chance.

    Raises:
        ValueError: no pair, a length that differs, a score that is not finite.
    """
    abnormal, clean = _finite(abnormal_scores, "abnormal scores"), _finite(clean_scores, "clean scores")
    if abnormal.shape != clean.shape:
        raise ValueError(f"{abnormal.size} abnormal and {clean.size} clean scores; give them in pairs")
    return float(np.mean((abnormal > clean) + 0.5 * (abnormal == clean)))


def pixel_average_precision(masks: Sequence[ArrayLike], maps: Sequence[ArrayLike]) -> float:
    """Average precision over the pixels of all cases pooled: one threshold serves every case.

    Args:
        masks: one ``[H, W]`` truth a case, 0 or 1; sizes may differ between cases; masks of clean cases are empty.
        maps: one ``[H, W]`` anomaly map a case, finite.

    Returns:
        A number in (0, 1]; a random map gives the share of abnormal pixels.

    Raises:
        ValueError: no case, shapes that differ, one class only over all pixels, a pixel that is not finite.
    """
    return average_precision(*_pooled(masks, maps))


def best_dice(masks: Sequence[ArrayLike], maps: Sequence[ArrayLike]) -> float:
    """ORACLE Dice: the highest pooled Dice any one threshold reaches, the threshold chosen on the test truth itself.

    An upper bound on what a map could give, never what a user gets: report it as "best Dice" beside the Dice at the
    calibrated threshold. Its threshold is deliberately not returned.

    Args:
        masks: one ``[H, W]`` truth a case, 0 or 1.
        maps: one ``[H, W]`` anomaly map a case, finite.

    Returns:
        A number in (0, 1].

    Raises:
        ValueError: as :func:`pixel_average_precision`.
    """
    truth, values = _pooled(masks, maps)
    n_abnormal = int(truth.sum())
    false_positive_rate, sensitivity, _ = roc_points(truth, values)
    true_positives = sensitivity * n_abnormal
    false_positives = false_positive_rate * (truth.size - n_abnormal)
    return float(np.max(2.0 * true_positives / (true_positives + false_positives + n_abnormal)))


def _binary(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = np.asarray(values).ravel()
    if array.size == 0:
        raise ValueError(f"{name} are empty; give at least one case")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} hold values other than 0 and 1; give 0 for normal and 1 for abnormal")
    return array.astype(bool)


def _finite(values: ArrayLike, name: str) -> NDArray[np.floating]:
    array = np.asarray(values).ravel()
    if not np.issubdtype(array.dtype, np.floating):  # float32 maps stay as they are: pooled pixels are many
        array = array.astype(np.float64)
    if array.size == 0:
        raise ValueError(f"{name} are empty; give at least one case")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{int((~np.isfinite(array)).sum())} of {array.size} {name} are not finite; leave failed cases out by name"
        )
    return array


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    truth, values = _binary(labels, "labels"), _finite(scores, "scores")
    if truth.shape != values.shape:
        raise ValueError(f"{truth.size} labels and {values.size} scores; give one of each a case")
    if truth.all() or not truth.any():
        raise ValueError(f"all {truth.size} labels are {int(truth[0])}; both normal and abnormal cases are needed")
    return truth, values


def _pooled(masks: Sequence[ArrayLike], maps: Sequence[ArrayLike]) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    if len(masks) != len(maps) or len(masks) == 0:
        raise ValueError(f"{len(masks)} masks and {len(maps)} maps; give one of each a case, and at least one case")
    truths, values = [], []
    for index, (mask, anomaly_map) in enumerate(zip(masks, maps, strict=True)):
        if np.shape(mask) != np.shape(anomaly_map):
            raise ValueError(f"case {index}: mask {np.shape(mask)} and map {np.shape(anomaly_map)} differ in shape")
        truths.append(_binary(mask, f"pixels of mask {index}"))
        values.append(_finite(anomaly_map, f"pixels of map {index}"))
    return np.concatenate(truths), np.concatenate(values)
