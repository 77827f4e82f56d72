"""What is wrong with the files of a data set, told from facts alone: no file is opened again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from monai_ctmri.data.checks.duplicates import duplicate_groups, hash_distance, near_duplicate_groups
from monai_ctmri.data.checks.inspection import Facts
from monai_ctmri.data.checks.pair_quality import find_pair_problems
from monai_ctmri.data.findings import Finding
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.errors import InputError

__all__ = ["CHANNEL_LIMIT", "find_pair_problems", "find_problems", "is_blank", "known_subjects", "look_alikes"]

CHANNEL_LIMIT = 0.005
"""Mean difference between two colours, as a share of full scale, above which a picture is no grey one. Rounding in a
JPEG file's chroma stays below 0.002 (half a grey level); pictures with real colour begin near 0.008."""

_BLANK_SHARE = 0.01
_BLANK_STEP = 0.05  # of full scale
_AIR_HU = -200.0


def find_problems(
    facts: Sequence[Facts],
    modalities: Mapping[Path, str] | Sequence[str | None] | None = None,
    subjects: Mapping[Path, str] | None = None,
) -> list[Finding]:
    """Judge each file, and find files that show the same.

    Of copies the first, in the order of ``facts``, is good; each later one names it. A file that could not be read, or
    shows nothing, is not judged further.

    Args:
        facts: of the files, each once.
        modalities: ``ct`` or ``mri`` as stated: by path, or in the order of ``facts``; left out, nothing is stated.
        subjects: whom a file shows, where that is known. Neighbouring slices of one subject look alike, which is no
            finding: a division by subject keeps them together.

    Returns:
        Findings by file in the order of ``facts``, then duplicates.

    Raises:
        InputError: when ``modalities`` is a sequence of another length.
    """
    findings: list[Finding] = []
    for one, stated in zip(facts, _stated(facts, modalities), strict=True):
        findings += _findings_of(one, stated)
    return findings + _exact_copies(facts) + _near_copies(facts, subjects or {})


def known_subjects(manifest: Manifest, stand_ins: Collection[str] = ()) -> dict[Path, str]:
    """Return whom each CT and MRI file of a manifest shows, leaving out ``stand_ins``, subjects that are not known."""
    return {
        path: case.subject
        for case in manifest
        if case.subject not in stand_ins
        for path in (case.ct, case.mri)
        if path is not None
    }


def look_alikes(facts: Sequence[Facts]) -> list[list[Path]]:
    """Return groups of two and more files that show the same, nearly or exactly; groups may share files."""
    near = near_duplicate_groups(_hashes(facts))
    home = {index: group[0] for group in near for index in group}
    exact = duplicate_groups(one.digest for one in facts)
    exact = [group for group in exact if len({home.get(index, -1 - index) for index in group}) > 1]
    return [[facts[index].path for index in group] for group in [*near, *exact]]


def is_blank(facts: Facts) -> bool:
    """Whether hardly anything stands out from the background.

    Of 8 bits: fewer than 1 % of the pixels differ from the commonest value by more than 5 % of full scale. Else: at
    least 98 % are one value, or, in HU, fewer than 1 % are above -200. Noise alone cannot be told from a picture where
    the scale is not known.
    """
    if facts.bits <= 8 and facts.histogram_range == (0.0, 255.0):
        counts = facts.histogram
        # A one-bit picture has the values 0 and 1.
        scale = 1 if facts.bits == 1 else len(counts) - 1
        commonest = counts.index(max(counts))
        apart = sum(count for value, count in enumerate(counts) if abs(value - commonest) > _BLANK_STEP * scale)
        return apart < _BLANK_SHARE * sum(counts)
    in_hu = not facts.windowed and facts.minimum < _AIR_HU
    return facts.p1 == facts.p99 or (in_hu and facts.p99 < _AIR_HU)


def _stated(
    facts: Sequence[Facts], modalities: Mapping[Path, str] | Sequence[str | None] | None
) -> Sequence[str | None]:
    if modalities is None:
        return [None] * len(facts)
    if isinstance(modalities, Mapping):
        return [modalities.get(one.path) for one in facts]
    if len(modalities) != len(facts):
        problem = f"{len(modalities)} for {len(facts)} files"
        raise InputError.about("modalities", problem, "give one for each file, or a mapping by path")
    return modalities


def _findings_of(one: Facts, stated: str | None) -> Iterator[Finding]:
    if one.problem is not None:
        yield one.problem
    yield from one.findings
    if one.problem is not None:
        return
    if one.minimum == one.maximum:
        yield Finding(one.path, "constant", f"{one.minimum:g} everywhere")
        return
    if one.channel_difference > CHANNEL_LIMIT:
        yield Finding(one.path, "unequal_channels", f"mean difference {one.channel_difference:.1%} of full scale")
    if is_blank(one):
        yield Finding(one.path, "blank", f"1st to 99th percentile {one.p1:g} to {one.p99:g}")
        return
    yield from _findings_by_sight(one, stated)


def _findings_by_sight(one: Facts, stated: str | None) -> Iterator[Finding]:
    from monai_ctmri.data.looking.appearance import CUT_OFF_LIMIT, TEXT_LIMIT

    look = one.appearance
    if look is None:
        return
    told = any(finding.kind == "wrong_modality" for finding in one.findings)  # by its header
    if look.modality is not None and stated is not None and look.modality != stated and not told:
        yield Finding(one.path, "wrong_modality", f"ct-likeness {look.ct_likeness:.2f}, stated {stated}")
    if look.text >= TEXT_LIMIT:
        yield Finding(one.path, "burnt_in_text", f"text {look.text:.2g}, limit {TEXT_LIMIT:g}")
    if look.brain_level is False:
        # There is no such number where it is not CT.
        inside = look.intracranial_fraction
        measure = f"{inside:.0%} of the head is intracranial" if not math.isnan(inside) else "outline"
        yield Finding(one.path, "not_brain_level", measure)
    if look.cut_off >= CUT_OFF_LIMIT:
        yield Finding(one.path, "cut_off", f"cut-off {look.cut_off:.2f}, limit {CUT_OFF_LIMIT:g}")


def _exact_copies(facts: Sequence[Facts]) -> list[Finding]:
    groups = duplicate_groups(one.digest for one in facts)
    return [
        Finding(facts[later].path, "exact_duplicate", f"same as {facts[group[0]].path.name}")
        for group in groups
        for later in group[1:]
    ]


def _near_copies(facts: Sequence[Facts], subjects: Mapping[Path, str]) -> list[Finding]:
    copies = {later for group in duplicate_groups(one.digest for one in facts) for later in group[1:]}
    hashes = _hashes(facts)
    findings = []
    for group in near_duplicate_groups(hashes):
        kept = [index for index in group if index not in copies]
        for place, later in enumerate(kept[1:], start=1):
            own = subjects.get(facts[later].path)
            earlier = [i for i in kept[:place] if own is None or subjects.get(facts[i].path) != own]
            if not earlier:
                continue
            distance, partner = min((_distance(hashes, later, index), index) for index in earlier)
            measure = f"distance {distance} of 256 to {facts[partner].path.name}"
            findings.append(Finding(facts[later].path, "near_duplicate", measure))
    return findings


def _hashes(facts: Sequence[Facts]) -> list[int | None]:
    """Hashes of the files that show something: all blank pictures are alike."""
    return [None if one.problem or one.phash is None or is_blank(one) else one.phash for one in facts]


def _distance(hashes: Sequence[int | None], a: int, b: int) -> int:
    first, second = hashes[a], hashes[b]
    assert first is not None
    assert second is not None
    return hash_distance(first, second)
