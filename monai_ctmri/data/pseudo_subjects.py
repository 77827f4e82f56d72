"""Stand-ins for subjects where a data set does not say whom its images show."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from monai_ctmri.data.manifest import Manifest

__all__ = ["PREFIX", "WARNING", "assign_pseudo_subjects"]

PREFIX = "pseudo-"
"""How such a subject is called; no report may call it a patient."""

WARNING = (
    "The data do not say whom an image shows: a patient-wise split is impossible. Near duplicates share a "
    "pseudo-subject, so that no picture is on both sides of a split; other slices of one patient may be."
)

logger = logging.getLogger(__name__)


def assign_pseudo_subjects(manifest: Manifest, groups: Sequence[Sequence[int]]) -> Manifest:
    """Give the cases of each group one subject, every other case one of its own; a warning says what that is worth.

    Args:
        manifest: cases whose subjects are not known.
        groups: positions of cases that look alike; groups that share a case count as one.

    Returns:
        The cases, in order, with subjects ``pseudo-0001``, ``pseudo-0002``, ... by first appearance.
    """
    leader = list(range(len(manifest)))

    def root(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for group in groups:
        for other in group[1:]:
            first, second = sorted((root(group[0]), root(other)))
            leader[second] = first
    numbers: dict[int, int] = {}
    subjects = [numbers.setdefault(root(index), len(numbers) + 1) for index in range(len(manifest))]
    logger.warning("%s", WARNING)
    width = max(4, len(str(len(numbers))))
    return manifest.with_cases(
        replace(case, subject=f"{PREFIX}{number:0{width}d}") for case, number in zip(manifest, subjects, strict=True)
    )
