"""From a folder of images as it is to a manifest that everything else takes: found, cut, checked, kept apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ctmri import keys
from monai_ctmri.data.files import write_json
from monai_ctmri.data.findings import Finding, write_findings
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.phantom import is_phantom
from monai_ctmri.data.pseudo_subjects import WARNING, assign_pseudo_subjects
from monai_ctmri.data.quarantine import check_rule, is_quarantined, quarantine
from monai_ctmri.data.volume_cases import Align, SliceCutter, holds_volumes
from monai_ctmri.errors import InputError

__all__ = ["Preparation", "prepare"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Preparation:
    """What became of a folder.

    Attributes:
        path: the manifest's file.
        manifest: every case, quarantined ones included.
        findings: of every file.
        pairing: ``paired``, ``unpaired`` or ``single`` (one modality alone), of what the manifest holds.
        normal_only: whether the set holds normal anatomy only; None where nobody says.
        subjects_known: whether subjects are real ones.
        explanation: what was found and why, as text.
        warnings: what a user has to know before using it.
    """

    path: Path
    manifest: Manifest
    findings: tuple[Finding, ...]
    pairing: str
    normal_only: bool | None
    subjects_known: bool
    explanation: str
    warnings: tuple[str, ...]

    @property
    def quarantined(self) -> list[Case]:
        """The cases kept apart."""
        return [case for case in self.manifest if is_quarantined(case)]

    def as_dict(self) -> dict[str, Any]:
        """Counts and statements as plain values."""
        counts = Counter((one.severity, one.kind) for one in self.findings)
        return {
            "pairing": self.pairing,
            "cases": len(self.manifest),
            "ct": sum(case.ct is not None for case in self.manifest),
            "mri": sum(case.mri is not None for case in self.manifest),
            "subjects": len(self.manifest.subjects),
            "subjects_known": self.subjects_known,
            "normal_only": self.normal_only,
            "quarantined": len(self.quarantined),
            "findings": [{"severity": s, "kind": k, "count": n} for (s, k), n in sorted(counts.items())],
            "warnings": list(self.warnings),
        }


def prepare(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    a_is: str | None = None,
    use_manifest: bool = True,
    allow_resample: bool = False,
    align: Align | None = None,
    levels_mm: tuple[float, float] = (20.0, 100.0),
    every_mm: float = 0.0,
    rule: Sequence[str] = ("error",),
    workers: int = 1,
    progress: Progress | None = None,
) -> Preparation:
    """Write a manifest of axial slices for a folder of images, ``findings.csv`` and ``preparation.json`` beside it.

    Pictures are taken where they lie. Volumes and DICOM series are cut into axial slices at brain level, written as
    NIfTI into ``<out>_slices/``, one folder a volume, with ``slices.csv`` that says where each came from. The volumes
    of a pair on different grids are cut as a pair only when ``align`` brings them together. Nothing of the source is
    changed or deleted.

    Args:
        root: folder of images, or a manifest.
        out: the manifest's file, ``.csv``.
        a_is: modality of ``trainA`` and ``testA`` where nothing else tells.
        use_manifest: take a ``manifest.csv`` in the folder as its author's statement.
        allow_resample: bring tilted and unevenly spaced series to an even grid instead of refusing them.
        align: moves the MRI of a pair onto the grid of its CT, see :data:`~monai_ctmri.data.volume_cases.Align`.
        levels_mm: distance from the vertex of the first and last slice taken from a volume.
        every_mm: least distance between two slices taken; 0 takes every slice.
        rule: what is quarantined, see :func:`~monai_ctmri.data.quarantine.check_rule`.
        workers: processes that open files.
        progress: called with (what is being done, steps done, steps in all).

    Raises:
        InputError: no image, an unknown layout, an output that would overwrite the source, or a rule that is none.
    """
    from monai_ctmri.data.discovery import discover

    check_rule(rule)
    say = progress or (lambda stage, done, total: None)
    target = _checked_target(root, out, use_manifest)
    slices = target.with_name(f"{target.stem}_slices")
    found = discover(
        root,
        a_is=a_is,
        use_manifest=use_manifest,
        exclude=(slices,),
        progress=lambda done, total: say("Looking through the folder", done, total),
    )
    manifest = found.cases
    findings: list[Finding] = []
    if any(holds_volumes(case) for case in manifest):
        cutter = SliceCutter(slices, allow_resample, align, levels_mm, every_mm, rule)
        manifest, findings = cutter.cut(manifest, lambda done, total: say("Cutting volumes", done, total))
    checked, groups = _check_pictures(manifest, found.stand_ins, workers, say)
    findings += checked
    warnings: list[str] = []
    if not found.subjects_known:
        manifest = assign_pseudo_subjects(manifest, groups, found.stand_ins)
        warnings.append(WARNING)
    manifest = quarantine(manifest, findings, rule)
    prepared = Preparation(
        target,
        manifest,
        tuple(findings),
        pairing_of(manifest),
        found.normal_only,
        found.subjects_known,
        found.explain(),
        tuple(warnings),
    )
    write_findings(target.with_name("findings.csv"), findings)
    source = Path(root) if Path(root).is_dir() else Path(root).parent
    content = {**found.as_dict(), **prepared.as_dict(), "phantom": is_phantom(source)}
    write_json(target.with_name("preparation.json"), content)
    manifest.write_csv(target)
    return prepared


def pairing_of(manifest: Manifest) -> str:
    """Return ``paired`` when every case that is not kept apart has both modalities, ``single`` when no case has the
    other modality, else ``unpaired``."""
    used = {case.modalities for case in manifest if not is_quarantined(case)}
    held = {case.modalities for case in manifest}
    if (used or held) == {keys.MODALITIES}:
        return "paired"
    return "single" if len(held) == 1 else "unpaired"


def _checked_target(root: str | os.PathLike[str], out: str | os.PathLike[str], use_manifest: bool) -> Path:
    target = Path(os.path.abspath(out))
    if target.suffix.lower() != ".csv":
        raise InputError.about(out, "not a name for a manifest", "let --out end in .csv")
    if not Path(root).exists():
        raise InputError.about(root, "no such folder", "give a folder of images")
    source = Path(root) / "manifest.csv" if Path(root).is_dir() else Path(root)
    if source.exists() and target.exists() and os.path.samefile(source, target) and use_manifest:
        raise InputError.about(out, "is the manifest that would be read", "choose another --out, or --rediscover")
    return target


def _check_pictures(
    manifest: Manifest, stand_ins: Collection[str], workers: int, say: Progress
) -> tuple[list[Finding], list[list[int]]]:
    """Open every slice that is not kept apart yet; also the positions of cases that look alike."""
    from monai_ctmri.data.checks.inspection import inspect_files
    from monai_ctmri.data.quality import find_pair_problems, find_problems, known_subjects, look_alikes

    items = {
        path: modality
        for case in manifest
        if not is_quarantined(case)
        for modality in keys.MODALITIES
        if (path := getattr(case, modality)) is not None
    }
    facts = inspect_files(list(items.items()), workers, lambda done, total: say("Checking images", done, total))
    findings = find_problems(facts, items, known_subjects(manifest, stand_ins))
    findings += find_pair_problems(manifest, facts)
    findings += _mask_problems(manifest, {one.path: one.shape for one in facts if one.problem is None})
    owners: dict[Path, list[int]] = {}
    for position, case in enumerate(manifest):
        for path in (case.ct, case.mri):
            if path is not None:
                owners.setdefault(path, []).append(position)
    groups = [sorted({owner for path in group for owner in owners[path]}) for group in look_alikes(facts)]
    # A file that two cases name makes them alike, too.
    return findings, [*groups, *(places for places in owners.values() if len(places) > 1)]


def _mask_problems(manifest: Manifest, shapes: dict[Path, tuple[int, ...]]) -> list[Finding]:
    """Open every mask of a slice; ``shapes`` are those of the images that could be read."""
    from monai_ctmri.data.checks.failures import failures_of
    from monai_ctmri.data.verification import read_pixels

    findings: list[Finding] = []
    for case in manifest:
        if case.mask is None or is_quarantined(case):
            continue
        try:
            shape = read_pixels(case.mask).shape[:2]
        except InputError as error:
            findings += failures_of(case.mask, error)
            continue
        image = next((shapes[path] for path in (case.ct, case.mri) if path in shapes), shape)
        expected = tuple(length for length in image if length > 1)[:2] if len(image) > 2 else image
        if len(expected) == 2 and shape != expected:
            measure = f"mask {shape[0]} x {shape[1]}, image {expected[0]} x {expected[1]}"
            findings.append(Finding(case.mask, "size_mismatch", measure))
    return findings
