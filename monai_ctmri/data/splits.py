"""Dividing a cohort by subject, and refusing divisions in which a test case could have been seen in training."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from monai_ctmri.data.checks.duplicates import fingerprint
from monai_ctmri.data.formats import kind_of
from monai_ctmri.data.manifest import SPLITS, Manifest
from monai_ctmri.data.verification import read_pixels
from monai_ctmri.errors import InputError

__all__ = ["DEFAULT_FRACTIONS", "NOTES_FRACTIONS", "SPLITS", "LeakError", "assign_splits", "guard_splits"]

DEFAULT_FRACTIONS: Mapping[str, float] = MappingProxyType(
    {"train": 0.6, "validation": 0.1, "calibration": 0.1, "test": 0.2}
)
"""Shares of the normal subjects; the calibration part is what p-values and thresholds come from."""

NOTES_FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.7, "validation": 0.15, "test": 0.15})
"""The common 70/15/15 division, without a calibration part."""


class LeakError(InputError):
    """One subject, file or picture is in two parts of a division."""


def assign_splits(
    manifest: Manifest,
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    *,
    assume_normal: bool = False,
    allow_empty: bool = False,
) -> Manifest:
    """Give every subject, with all of its cases, to one part; earlier splits are replaced.

    A subject with an abnormal case, or with a case of unknown label, goes to the test part: nothing but normal anatomy
    may be learnt from. The normal subjects are shuffled and divided by the largest-remainder method; on a tie the
    earlier part wins, and a part with a share above 0 gets at least one. The result depends on the names of the
    subjects and the seed, not on the order of the rows.

    Args:
        manifest: cases with labels.
        fractions: share of the normal subjects of each part of ``SPLITS``, in [0, 1], in sum 1; left out, 0.
        seed: of a local generator.
        assume_normal: take the cases of a manifest without any label as normal; labels are not filled in. Where some
            cases have a label the others stay unknown.
        allow_empty: with fewer normal subjects than parts, give one each to the first parts, train before all, instead
            of raising.

    Returns:
        The manifest with every case's ``split`` set.

    Raises:
        InputError: for fractions that are none, a manifest without labels or without normal subjects, or too few
            normal subjects.
    """
    shares = _checked_shares(fractions)
    unlabelled = all(case.label is None for case in manifest)
    if unlabelled and not assume_normal:
        raise InputError.about(
            "manifest", "no case has a label", "fill the label column (0 normal, 1 abnormal) or assume all normal"
        )
    normal = {None, 0} if unlabelled else {0}
    held_out = {case.subject for case in manifest if case.label not in normal}
    subjects = sorted(set(manifest.subjects) - held_out)
    if not subjects:
        raise InputError.about(
            "manifest", "no subject is normal throughout", "add normal subjects, or fill their labels"
        )
    if len(subjects) < len(shares) and not allow_empty:
        raise InputError.about(
            "manifest",
            f"{len(subjects)} normal subjects cannot fill {', '.join(shares)}",
            f"give at least {len(shares)} normal subjects, fewer parts, or allow empty parts",
        )
    order = np.random.default_rng(seed).permutation(len(subjects))
    parts = [part for part, count in _counts(len(subjects), shares).items() for _ in range(count)]
    splits: dict[str, str | None] = dict.fromkeys(held_out, "test")
    splits |= {subjects[index]: part for index, part in zip(order, parts, strict=True)}
    return manifest.with_splits(splits)


def guard_splits(manifest: Manifest) -> None:
    """Refuse a division with something in two parts. Cases without a split belong to no part; masks are not compared.

    Compared are the subject, the file behind each path (symbolic links followed), and what the files show: SHA-256 of
    the decoded values and their shape, whatever the modality, file format or bit depth.

    Raises:
        LeakError: one subject, one file or two files with identical content are in two parts.
        InputError: a file cannot be read.
    """
    # Masks are truth, not input: two patients may well share one empty mask.
    images = [
        (case.split, case.subject, Path(getattr(case, key)))
        for case in manifest
        if case.split is not None
        for key in case.modalities
    ]
    subjects: dict[str, str] = {}
    for part, subject, path in images:
        if (other := subjects.setdefault(subject, part)) != part:
            first = next(path for _, name, path in images if name == subject)
            problem = f"in both {other} ({first}) and {part} ({path})"
            raise LeakError.about(f"subject {subject!r}", problem, "give all cases of a subject one split")
    if len(set(subjects.values())) < 2:
        return
    files: dict[str, tuple[str, Path]] = {}
    for part, _, path in images:
        other, first = files.setdefault(os.path.realpath(path), (part, path))
        if other != part:
            named = "" if first == path else f" (also named {first})"
            raise LeakError.about(path, f"in both {other} and {part}{named}", "keep it in one part")
    contents: dict[str, tuple[str, Path]] = {}
    for part, path in files.values():
        digest = _fingerprint(path)
        if digest is None:
            continue
        other, first = contents.setdefault(digest, (part, path))
        if other != part:
            raise LeakError.about(path, f"in {part}, is identical to {first} in {other}", "keep one of the two")


def _checked_shares(fractions: Mapping[str, float]) -> dict[str, float]:
    """Return the shares above 0, in the order of ``SPLITS``."""
    where = f"fractions {dict(fractions)}"
    unknown = [part for part in fractions if part not in SPLITS]
    if unknown:
        raise InputError.about(where, f"unknown part {unknown[0]!r}", f"use {', '.join(SPLITS)}")
    if not all(0 <= share <= 1 for share in fractions.values()) or not math.isclose(
        sum(fractions.values()), 1, abs_tol=1e-6
    ):
        raise InputError.about(where, "not shares of a whole", "give numbers from 0 to 1 that sum to 1")
    return {part: fractions[part] for part in SPLITS if fractions.get(part, 0) > 0}


def _counts(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Divide ``total`` by the largest-remainder (Hamilton) method, with at least one a part where there are enough."""
    if total < len(shares):
        return {part: int(rank < total) for rank, part in enumerate(shares)}
    # Rounded, since 0.1 * 30 is a little above 3 and 0.7 * 10 may fall below 7.
    quotas = {part: round(total * share, 9) for part, share in shares.items()}
    counts = {part: math.floor(quota) for part, quota in quotas.items()}
    by_remainder = sorted(shares, key=lambda part: counts[part] - quotas[part])
    for part in by_remainder[: total - sum(counts.values())]:
        counts[part] += 1
    for part in shares:
        if counts[part] == 0:
            counts[max(counts, key=lambda name: counts[name])] -= 1
            counts[part] = 1
    return counts


def _fingerprint(path: Path) -> str | None:
    """Return a digest of what a file shows, or None for a constant picture."""
    return fingerprint(read_pixels(path, slices_only=False), channels=kind_of(path) == "picture")
