"""Cases kept apart: they stay in the manifest, with the reason in their note, and take no part in anything."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace

from monai_ctmri.data.findings import KINDS, SEVERITIES, Finding
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError

__all__ = ["PREFIX", "check_rule", "is_quarantined", "quarantine", "without_quarantined"]

PREFIX = "quarantined:"
"""How the note of such a case begins; deleting the note's beginning by hand brings the case back."""

logger = logging.getLogger(__name__)


def is_quarantined(case: Case) -> bool:
    """Whether the case is kept apart."""
    return case.note.lower().startswith(PREFIX)


def check_rule(rule: Iterable[str]) -> frozenset[str]:
    """Return the kinds of finding that a rule quarantines.

    Args:
        rule: severities, each standing for itself and those above it, and kinds; ``none`` quarantines nothing.

    Raises:
        InputError: for a word that is neither.
    """
    words = [word.strip() for word in rule]
    for word in words:
        if word != "none" and word not in SEVERITIES and word not in KINDS:
            known = ", ".join(("none", *SEVERITIES, *KINDS))
            raise InputError.about(f"quarantine {word!r}", "neither a severity nor a kind of finding", f"use {known}")
    return frozenset(words)


def quarantine(manifest: Manifest, findings: Iterable[Finding], rule: Iterable[str] = ("error",)) -> Manifest:
    """Mark the cases that have a finding the rule names; nothing is deleted.

    Args:
        manifest: the cases; earlier marks are replaced.
        findings: about files of the cases, by absolute path.
        rule: see :func:`check_rule`.

    Returns:
        The same cases in the same order; the note of a marked one reads ``quarantined: kind, kind; earlier note``.
    """
    words = check_rule(rule)
    severities = {name for word in words & set(SEVERITIES) for name in SEVERITIES[SEVERITIES.index(word) :]}
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity in severities or finding.kind in words:
            reasons.setdefault(os.path.abspath(finding.file), []).append(finding.kind)

    def marked(case: Case) -> Case:
        note = _note_of(case)
        files = [path for path in (case.ct, case.mri, case.mask) if path is not None]
        kinds = dict.fromkeys(kind for path in files for kind in reasons.get(os.path.abspath(path), ()))
        if kinds:
            note = f"{PREFIX} {', '.join(kinds)}" + (f"; {note}" if note else "")
        return replace(case, note=note)

    return manifest.with_cases(marked(case) for case in manifest)


def without_quarantined(manifest: Manifest, source: str | os.PathLike[str]) -> Manifest:
    """Return the cases that are not kept apart; a warning counts those that are.

    Raises:
        InputError: when nothing is left.
    """
    kept = [case for case in manifest if not is_quarantined(case)]
    left_out = len(manifest) - len(kept)
    if left_out:
        logger.warning("%s: %d of %d cases are quarantined and take no part", source, left_out, len(manifest))
    if not kept:
        raise InputError.about(source, "every case is quarantined", "read the notes, or prepare with a milder rule")
    return manifest.with_cases(kept) if left_out else manifest


def _note_of(case: Case) -> str:
    """The note without an earlier mark."""
    if not is_quarantined(case):
        return case.note
    return case.note.partition(";")[2].strip()
