"""Metrics against hand-computed values, brute force over pairs or thresholds, and scikit-learn."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, roc_auc_score

from monai_ctmri.evaluation.metrics import (
    auroc,
    average_precision,
    best_dice,
    confusion,
    paired_win_rate,
    pixel_average_precision,
    precision_recall_points,
    roc_points,
    sensitivity_at_specificity,
)


def random_case(seed: int, n: int = 80, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) < n // 3).astype(int)
    return labels, np.round(generator.normal(size=n) + labels, decimals)


def test_auroc_by_hand() -> None:
    # pairs (abnormal, normal): 3>1, 3>2, 2>1, 2=2 -> 3.5 of 4
    assert auroc([0, 0, 1, 1], [1, 2, 3, 2]) == 3.5 / 4
    assert auroc([0, 1], [0.0, 1.0]) == 1.0
    assert auroc([0, 1], [1.0, 0.0]) == 0.0
    assert auroc([0, 1, 0, 1], [5, 5, 5, 5]) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_won(seed: int) -> None:
    labels, scores = random_case(seed)
    abnormal, normal = scores[labels == 1], scores[labels == 0]
    won = np.mean([float(a > b) + 0.5 * float(a == b) for a, b in product(abnormal, normal)])
    assert auroc(labels, scores) == pytest.approx(won)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_auroc_is_unmoved_by_a_monotone_map_and_mirrored_by_a_sign() -> None:
    labels, scores = random_case(7)
    assert auroc(labels, np.exp(scores)) == auroc(labels, scores)
    assert auroc(labels, -scores) == pytest.approx(1 - auroc(labels, scores))
    assert auroc(labels.astype(bool), scores) == auroc(labels.astype(float), scores)


def test_auroc_of_large_integers_is_exact() -> None:
    # a sum of pairs beyond 32 bits
    n = 70_000
    labels = np.repeat([0, 1], n)
    assert auroc(labels, np.arange(2 * n)) == 1.0


@pytest.mark.parametrize(
    "function",
    [
        auroc,
        average_precision,
        sensitivity_at_specificity,
        roc_points,
        precision_recall_points,
        lambda labels, scores: pixel_average_precision([labels], [scores]),
        lambda labels, scores: best_dice([labels], [scores]),
    ],
)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 0], [1.0, 2.0], "both normal and abnormal"),
        ([1, 1], [1.0, 2.0], "both normal and abnormal"),
        ([0, 1], [1.0, np.nan], "not finite"),
        ([0, 1], [np.inf, 1.0], "not finite"),
        ([0, 2], [1.0, 2.0], "other than 0 and 1"),
        ([0, 1, 1], [1.0, 2.0], "one of each|differ in shape"),
        ([], [], "empty"),
    ],
)
def test_what_is_undefined_raises_in_one_line(function, labels, scores, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        function(labels, scores)
    assert "\n" not in str(caught.value)


def test_average_precision_by_hand() -> None:
    # falling scores: 1, 0, 1, 0 -> precision 1 at recall 1/2, 2/3 at recall 1
    assert average_precision([1, 0, 1, 0], [4, 3, 2, 1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # one tie of all: precision is the prevalence
    assert average_precision([1, 0, 0, 0], [1, 1, 1, 1]) == 0.25


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_by_its_definition(seed: int) -> None:
    labels, scores = random_case(seed)
    total, recall_before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        flagged = scores >= threshold
        recall = labels[flagged].sum() / labels.sum()
        total += (recall - recall_before) * labels[flagged].mean()
        recall_before = recall
    assert average_precision(labels, scores) == pytest.approx(total)
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))


def test_sensitivity_at_specificity_by_hand() -> None:
    # 20 normals 0..19: at 95 % one may be flagged, hence the threshold lies at 19 or above 18
    labels = [0] * 20 + [1] * 4
    scores = [*range(20), 18.5, 18, 30, 5]
    assert sensitivity_at_specificity(labels, scores, 0.95) == 0.5
    assert sensitivity_at_specificity(labels, scores, 1.0) == 0.25
    assert sensitivity_at_specificity(labels, scores, 0.9) == 0.75
    assert sensitivity_at_specificity(labels, scores, 0.0) == 1.0


def test_ties_at_the_threshold_are_flagged_together() -> None:
    # the only threshold that catches the abnormal cases flags all normals too
    assert sensitivity_at_specificity([0, 0, 1, 1], [1, 1, 1, 1], 0.95) == 0.0


def test_few_normals_cannot_be_specific_by_interpolation() -> None:
    # 10 normals: 95 % allows no false alarm
    labels = [0] * 10 + [1] * 2
    scores = [*range(10), 8.5, 9.5]
    assert sensitivity_at_specificity(labels, scores, 0.95) == 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("specificity", [0.5, 0.8, 0.95])
def test_sensitivity_by_brute_force(seed: int, specificity: float) -> None:
    labels, scores = random_case(seed, n=60)
    best = 0.0
    for threshold in np.unique(scores):
        flagged = scores >= threshold
        if np.mean(~flagged[labels == 0]) >= specificity - 1e-12:
            best = max(best, float(np.mean(flagged[labels == 1])))
    assert sensitivity_at_specificity(labels, scores, specificity) == pytest.approx(best)


@pytest.mark.parametrize("specificity", [-0.1, 1.1, 95])
def test_specificity_outside_its_range_is_refused(specificity: float) -> None:
    with pytest.raises(ValueError, match="specificity"):
        sensitivity_at_specificity([0, 1], [0, 1], specificity)


def test_roc_points_enclose_the_area() -> None:
    labels, scores = random_case(3)
    fpr, tpr, thresholds = roc_points(labels, scores)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.isinf(thresholds[0])
    assert (np.diff(thresholds) < 0).all()
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(zip(fpr, tpr, strict=True)))
    assert area == pytest.approx(auroc(labels, scores))
    for x, y, threshold in zip(fpr, tpr, thresholds, strict=True):
        assert x == pytest.approx(np.mean(scores[labels == 0] >= threshold))
        assert y == pytest.approx(np.mean(scores[labels == 1] >= threshold))


def test_precision_recall_points_sum_to_the_average_precision() -> None:
    labels, scores = random_case(4)
    precision, recall, thresholds = precision_recall_points(labels, scores)
    assert len(precision) == len(recall) == len(thresholds) + 1
    assert (precision[-1], recall[-1]) == (1, 0)
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(average_precision(labels, scores))
    for p, r, threshold in zip(precision, recall, thresholds, strict=False):
        flagged = scores >= threshold
        assert p == pytest.approx(labels[flagged].mean())
        assert r == pytest.approx(labels[flagged].sum() / labels.sum())


def test_confusion_counts() -> None:
    assert confusion([1, 1, 0, 0, 0], [1, 0, 1, 0, 0]) == {"tp": 1, "fp": 1, "tn": 2, "fn": 1}
    assert confusion([0, 0], [False, True]) == {"tp": 0, "fp": 1, "tn": 1, "fn": 0}
    labels, scores = random_case(5)
    counts = confusion(labels, scores > 0.5)
    tn, fp, fn, tp = confusion_matrix(labels, scores > 0.5).ravel()
    assert counts == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    assert all(type(count) is int for count in counts.values())


def test_confusion_refuses_what_is_no_decision() -> None:
    with pytest.raises(ValueError, match="flagged"):
        confusion([0, 1], [0.2, 0.9])
    with pytest.raises(ValueError, match="2 labels and 3 decisions"):
        confusion([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="empty"):
        confusion([], [])


def test_paired_win_rate() -> None:
    assert paired_win_rate([2, 1, 1, 0], [1, 1, 2, -1]) == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    # pairs matter, not pools: anatomy spreads the scores, the anomaly adds a little to each
    clean = np.linspace(0, 100, 50)
    assert paired_win_rate(clean + 0.1, clean) == 1.0
    assert auroc([0] * 50 + [1] * 50, [*clean, *(clean + 0.1)]) < 0.53


@pytest.mark.parametrize(
    ("abnormal", "clean", "message"),
    [([], [], "empty"), ([1, 2], [1], "in pairs"), ([np.nan], [1], "abnormal scores"), ([1], [np.inf], "clean scores")],
)
def test_paired_win_rate_refuses_what_is_no_pair(abnormal, clean, message) -> None:
    with pytest.raises(ValueError, match=message):
        paired_win_rate(abnormal, clean)


def pixel_cases() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three cases of different sizes, one of them clean, with ties."""
    generator = np.random.default_rng(0)
    masks, maps = [], []
    for number, shape in enumerate([(9, 7), (12, 5), (6, 6)]):
        mask = np.zeros(shape, dtype=np.uint8)
        if number != 1:
            mask[2:5, 1:4] = 1
        masks.append(mask)
        maps.append(np.round(generator.random(shape) + 0.6 * mask, 1).astype(np.float32))
    return masks, maps


def test_pixel_average_precision_pools_all_cases() -> None:
    masks, maps = pixel_cases()
    pooled = [np.concatenate([part.ravel() for part in parts]) for parts in (masks, maps)]
    assert pixel_average_precision(masks, maps) == pytest.approx(average_precision_score(*pooled))
    each = [average_precision_score(masks[i].ravel(), maps[i].ravel()) for i in (0, 2)]
    assert pixel_average_precision(masks, maps) != pytest.approx(np.mean(each))


def test_best_dice_by_brute_force_over_thresholds() -> None:
    masks, maps = pixel_cases()
    truth, values = (np.concatenate([part.ravel() for part in parts]) for parts in (masks, maps))
    dice = [f1_score(truth, values >= threshold) for threshold in np.unique(values)]
    assert best_dice(masks, maps) == pytest.approx(max(dice))


def test_best_dice_by_hand() -> None:
    mask = np.array([[1, 1], [0, 0]])
    assert best_dice([mask], [mask * 0.7]) == 1.0
    # a flat map can only flag all: 2 * 2 / (4 + 2)
    assert best_dice([mask], [np.ones((2, 2))]) == pytest.approx(4 / 6)
    # one threshold serves both cases: the clean case glows as much as the lesion
    assert best_dice([mask, 0 * mask], [mask * 0.7, np.full((2, 2), 0.7)]) == pytest.approx(2 * 2 / (6 + 2))


def test_pixel_metrics_name_the_case_at_fault() -> None:
    mask, flat = np.eye(3), np.zeros((3, 3))
    with pytest.raises(ValueError, match="case 1: mask"):
        pixel_average_precision([mask, mask], [flat, np.zeros((3, 4))])
    with pytest.raises(ValueError, match="map 1 are not finite"):
        best_dice([mask, mask], [flat, flat + np.nan])
    with pytest.raises(ValueError, match="mask 0 hold values"):
        best_dice([mask * 255], [flat])
    with pytest.raises(ValueError, match="1 masks and 2 maps"):
        best_dice([mask], [flat, flat])
    with pytest.raises(ValueError, match="0 masks"):
        pixel_average_precision([], [])


def test_numbers_are_plain_floats() -> None:
    labels, scores = random_case(0)
    for number in (
        auroc(labels, scores),
        average_precision(labels, scores),
        sensitivity_at_specificity(labels, scores),
        paired_win_rate(scores, scores),
        best_dice(*pixel_cases()),
        pixel_average_precision(*pixel_cases()),
    ):
        assert type(number) is float
