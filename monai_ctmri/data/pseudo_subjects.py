"""Stand-ins for subjects where a data set does not say whom its images show."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
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


def assign_pseudo_subjects(
    manifest: Manifest, groups: Sequence[Sequence[int]], stand_ins: Collection[str] | None = None
) -> Manifest:
    """Give the cases of each group one subject, every other case one of its own; a warning says what that is worth.

    Args:
        manifest: cases, of which some have a subject that is not known.
        groups: positions of cases that look alike; groups that share a case count as one. Cases of one subject, known
            or not, stay together.
        stand_ins: the subjects that are not known; None takes all. The others keep their cases; an unknown case that
            looks like one of theirs is taken to be theirs, too.

    Returns:
        The cases, in order, with subjects ``pseudo-0001``, ``pseudo-0002``, ... by first appearance.
    """
    leader = list(range(len(manifest)))

    def root(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    def unknown(index: int) -> bool:
        return stand_ins is None or manifest[index].subject in stand_ins

    places: dict[str, list[int]] = {}
    if stand_ins is not None:
        for index, case in enumerate(manifest):
            places.setdefault(case.subject, []).append(index)
    for group in (*groups, *places.values()):
        for other in group[1:]:
            first, second = sorted((root(group[0]), root(other)))
            leader[second] = first
    names = {root(index): manifest[index].subject for index in reversed(range(len(manifest))) if not unknown(index)}
    numbers: dict[int, int] = {}
    for index in range(len(manifest)):
        if root(index) not in names:
            numbers.setdefault(root(index), len(numbers) + 1)
    width = max(4, len(str(len(numbers))))
    names |= {place: f"{PREFIX}{number:0{width}d}" for place, number in numbers.items()}
    logger.warning("%s", WARNING)
    return manifest.with_cases(
        replace(case, subject=names[root(index)]) if unknown(index) else case for index, case in enumerate(manifest)
    )
