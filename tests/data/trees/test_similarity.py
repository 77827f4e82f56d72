"""Mutual information against its formula, and the test on pairs whose truth is known."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from monai_ctmri.data.trees.similarity import GRID, mutual_information, pairing_evidence

Pairs = list[tuple[np.ndarray, np.ndarray]]


def blobs(rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """A head-like disc of constant size with random inner structure."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    plane = np.where(x**2 + y**2 < 0.2, 0.4, 0.0)
    for _ in range(6):
        a, b, r = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3), rng.uniform(0.05, 0.12)
        plane[(x - a) ** 2 + (y - b) ** 2 < r**2] = rng.uniform(0.2, 1)
    return plane


@pytest.fixture
def true_pairs() -> Pairs:
    """The second of each pair is another function of the first: what a second modality is."""
    rng = np.random.default_rng(5)
    heads = [blobs(rng) for _ in range(24)]
    return [(head, np.abs(np.sin(4 * head)) + rng.normal(0, 0.02, head.shape)) for head in heads]


def entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def test_formula_on_a_small_alphabet() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (2, GRID, GRID)).astype(np.float32)
    b = np.where(rng.random((GRID, GRID)) < 0.5, a, b)
    joint = np.zeros((4, 4))
    np.add.at(joint, (a.astype(int), b.astype(int)), 1)
    expected = (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)
    assert mutual_information(a, b) == pytest.approx(expected, rel=1e-6)


def test_range() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((2, GRID, GRID))
    assert mutual_information(a, a) == pytest.approx(2)
    assert mutual_information(a, -3 * a + 7) == pytest.approx(2, abs=0.02)  # any relation, not only likeness
    assert 1 <= mutual_information(a, b) < 1.1
    assert mutual_information(a, np.full((GRID, GRID), 5.0)) == 1
    assert mutual_information(np.zeros((9, 9)), np.zeros((9, 9))) == 1


def test_sizes_may_differ() -> None:
    head = blobs(np.random.default_rng(2), 128)
    other = np.kron(head, np.ones((3, 2)))
    stranger = blobs(np.random.default_rng(3), 100)
    assert mutual_information(head, other) > mutual_information(head, stranger) + 0.2


def test_true_pairs_are_told_from_strangers(true_pairs: Pairs) -> None:
    result = pairing_evidence(true_pairs)
    assert result.n == 24
    assert result.p_value < 0.001
    assert result.wins > 0.95
    assert result.own > result.strangers


def test_strangers_are_not_taken_for_pairs(true_pairs: Pairs) -> None:
    """Under the null hypothesis p is uniform: of twenty shuffles hardly any falls below .01."""
    rng, small, wins = np.random.default_rng(0), 0, []
    for seed in range(20):
        order = rng.permutation(len(true_pairs))
        shuffled = [(true_pairs[i][0], true_pairs[j][1]) for i, j in enumerate(np.roll(order, 1)[np.argsort(order)])]
        result = pairing_evidence(shuffled, seed=seed, sample=12)
        small += result.p_value < 0.01
        wins.append(result.wins)
    assert small <= 2
    assert 0.4 < np.mean(wins) < 0.6


def test_sample_and_seed(true_pairs: Pairs) -> None:
    assert pairing_evidence(true_pairs, seed=3, sample=10).n == 10
    assert pairing_evidence(true_pairs, seed=3) == pairing_evidence(true_pairs, seed=3)


def test_nothing_global_is_seeded(true_pairs: Pairs) -> None:
    random.seed(1)
    before, legacy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    pairing_evidence(true_pairs[:4])
    assert random.getstate() == before
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


@pytest.mark.parametrize("count", [0, 1])
def test_without_strangers_nothing_is_proved(true_pairs: Pairs, count: int) -> None:
    result = pairing_evidence(true_pairs[:count])
    assert (result.p_value, result.n) == (1.0, count)


def test_another_patients_slice_of_the_same_level_is_no_partner(real_data: Path) -> None:
    """Where numbers mean levels, strangers of any level would be beaten; those of a similar level are not."""
    from PIL import Image

    names = sorted(path.name for path in (real_data / "pairs" / "ct").iterdir())
    planes = {
        (m, n): np.asarray(Image.open(real_data / "pairs" / m / n).convert("L")) for m in ("ct", "mri") for n in names
    }
    patients = sorted({name[:2] for name in names})
    swapped = []
    for patient, other in zip(patients, patients[1:] + patients[:1], strict=True):
        mine, theirs = ([n for n in names if n[:2] == p] for p in (patient, other))
        at = np.linspace(0, len(theirs) - 1, len(mine)).round().astype(int)
        swapped += [(planes["ct", n], planes["mri", theirs[i]]) for n, i in zip(mine, at, strict=True)]
    wrong, right = pairing_evidence(swapped), pairing_evidence([(planes["ct", n], planes["mri", n]) for n in names])
    assert wrong.wins < 0.6
    assert right.p_value < 0.001
    assert right.wins > 0.8
