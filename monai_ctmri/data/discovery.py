"""A folder tree becomes a manifest of paired or unpaired cases, with the reason for each decision."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai_ctmri import keys
from monai_ctmri.data.manifest import Case, Manifest, case_names
from monai_ctmri.data.trees import layouts
from monai_ctmri.data.trees.dicom_tree import dicom_tree
from monai_ctmri.data.trees.evidence import DraftCase, Evidence, Layout
from monai_ctmri.data.trees.labelling import attach_masks, judge_normal, label_cases
from monai_ctmri.data.trees.listing import ImageFile, list_images
from monai_ctmri.data.trees.pairing import form_cases
from monai_ctmri.errors import InputError

__all__ = ["HOW_TO_PAIR", "Discovery", "Evidence", "discover"]

_MANIFEST = "manifest.csv"
_EXAMPLES = 3
HOW_TO_PAIR = (
    "To state pairs, write a CSV and give it in place of the folder:",
    "  ct,mri,subject,label",
    "  ct/p01_slice10.png,mri/p01_slice10.png,p01,0",
    "  ct/p02_slice07.png,,p02,",
    "  (paths relative to the CSV; one row a case; label 0 normal, 1 abnormal, empty unknown)",
)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a folder tree was found to hold.

    Attributes:
        root: the folder, or the manifest file; absolute.
        layout: ``manifest``, ``cyclegan``, ``synthrad``, ``bids``, ``dicom``, ``folders`` and ``names`` (modality by
            whole words), ``unnamed`` (modality by content or by the root's name); two joined by ``+`` where a tree
            holds DICOM and other files.
        pairing: ``paired`` when some cases hold CT and MRI, ``unpaired`` when there are both but apart, ``single`` when
            there is one modality only.
        cases: the manifest.
        evidence: the reasons, in the order of the decisions.
        ignored: (path, reason) of everything below the root that is in no case.
        normal_only: whether all cases are normal; None where that is unknown.
        subjects_known: whether the subject of every case is stated by something. Where it is not, each such case is a
            subject of its own, and slices of one patient may be among them.
        stand_ins: the names of those subjects that stand for one case each.
    """

    root: Path
    layout: str
    pairing: str
    cases: Manifest
    evidence: tuple[Evidence, ...]
    ignored: tuple[tuple[Path, str], ...]
    normal_only: bool | None
    subjects_known: bool
    stand_ins: frozenset[str] = frozenset()

    def counts(self) -> dict[str, int]:
        """Return the number of cases, pairs, CT-only and MRI-only cases, subjects and files left out."""
        held = Counter(case.modalities for case in self.cases)
        return {
            "cases": len(self.cases),
            "pairs": held[keys.MODALITIES],
            "ct_only": held[(keys.CT,)],
            "mri_only": held[(keys.MRI,)],
            "subjects": len(self.cases.subjects),
            "ignored": len(self.ignored),
        }

    def explain(self) -> str:
        """Return the reasons as text of several lines; where nothing is paired, also how to state pairs."""
        counts = self.counts()
        known = {True: "yes", False: "no", None: "unknown"}
        lines = [
            f"Layout: {self.layout}",
            f"Result: {self.pairing}; {counts['cases']} cases ({counts['pairs']} pairs, {counts['ct_only']} CT only, "
            f"{counts['mri_only']} MRI only)",
            f"Subjects: {counts['subjects']}, {'known' if self.subjects_known else 'not known for every case'}",
            f"Normal cases only: {known[self.normal_only]}",
            "Evidence:",
            *(f"  {item.claim} - {item.basis} - {item.verdict}" for item in self.evidence),
        ]
        reasons: dict[str, list[Path]] = {}
        for path, reason in self.ignored:
            reasons.setdefault(reason, []).append(path)
        lines += ["Left out:"] if reasons else []
        for reason, paths in reasons.items():
            shown = ", ".join(_relative(path, self.root) for path in paths[:_EXAMPLES])
            more = f" and {len(paths) - _EXAMPLES} more" if len(paths) > _EXAMPLES else ""
            lines.append(f"  {len(paths)} x {reason}: {shown}{more}")
        if self.pairing == "unpaired":
            lines += HOW_TO_PAIR
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; paths as text, cases as in :meth:`Manifest.datalist`."""
        return {
            "root": str(self.root),
            "layout": self.layout,
            "pairing": self.pairing,
            "normal_only": self.normal_only,
            "subjects_known": self.subjects_known,
            "counts": self.counts(),
            "evidence": [asdict(item) for item in self.evidence],
            "ignored": [[str(path), reason] for path, reason in self.ignored],
            "cases": self.cases.datalist(),
        }


def discover(
    root: str | os.PathLike[str],
    *,
    a_is: str | None = None,
    use_manifest: bool = True,
    check_content: bool = True,
    seed: int = 0,
    exclude: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Discovery:
    """Find out what a folder holds. A pair is never invented: where it is in doubt, the images stay apart.

    Args:
        root: a folder; or a manifest, CSV or datalist.
        a_is: modality of ``trainA`` and ``testA`` in a CycleGAN layout, ``ct`` or ``mri``; None lets names or content
            tell.
        use_manifest: take a ``manifest.csv`` in the root as its author's statement, in place of all that follows.
        check_content: look into files where names do not settle modality, pairs or labels. Without, only headers that
            state the size are read, names alone make no pair, and masks give no label.
        seed: of the samples that are looked at.
        exclude: folders that are not entered.
        progress: called with the number of steps done and of all that are known of at that time; both start anew with
            each stage (folders, DICOM folders, pairs, labels).

    Returns:
        The discovery. Its cost grows linearly with the number of files.

    Raises:
        InputError: the root is missing or holds no image, its manifest is wrong, or nothing tells CT from MRI.
    """
    if a_is not in (None, *keys.MODALITIES):
        raise InputError.about(f"A is {a_is!r}", "no modality", "say ct or mri")
    top = Path(os.path.abspath(root))
    if use_manifest and (top.is_file() or (top / _MANIFEST).is_file()):
        return _by_manifest(top, progress, exclude)
    files, ignored = list_images(top, progress, exclude)
    if not files:
        raise InputError.about(root, "no image below this folder", "give the folder that holds the data")
    found = _recognise(files, top, a_is, check_content, seed, progress)
    drafts: list[DraftCase] = []
    for layout in found:
        drafts += (formed := form_cases(layout, check_content=check_content, seed=seed, progress=progress))
        attach_masks(layout, formed)
        ignored += layout.ignored
    if not drafts:
        raise InputError.about(root, "no CT and no MRI below this folder", f"check it, or {layouts.HOW_TO_STATE}")
    last = found[-1]
    label_cases(last, drafts, check_content=check_content, progress=progress)
    last.named_set = any(layout.named_set for layout in found)
    cases = _named(drafts, top)
    known = [draft.subject is not None for draft in drafts]
    verdict = "known" if all(known) else "the others stand each for itself; slices of one patient may be among them"
    last.say("subjects", f"stated for {sum(known)} of {len(known)} cases", verdict)
    normal_only = judge_normal(last, [case.label for case in cases])
    pairing = _pairing(cases)
    last.say("result", _held(cases), pairing)
    return Discovery(
        root=top,
        layout="+".join(layout.name for layout in found),
        pairing=pairing,
        cases=cases,
        evidence=tuple(item for layout in found for item in layout.evidence),
        ignored=tuple(ignored),
        normal_only=normal_only,
        subjects_known=all(known),
        stand_ins=frozenset(case.subject for case, sure in zip(cases, known, strict=True) if not sure),
    )


def _recognise(
    files: Sequence[ImageFile], root: Path, a_is: str | None, check_content: bool, seed: int, progress: Progress | None
) -> list[Layout]:
    """Return the layout that takes the whole tree; else DICOM by its headers and the other files by their names."""
    whole = (
        layouts.cyclegan(files, a_is=a_is, check_content=check_content, seed=seed)
        or layouts.synthrad(files, root)
        or layouts.bids(files)
    )
    if whole:
        return [whole]
    dicom = [file for file in files if file.kind == "dicom"]
    series_folders = {file.folders for file in dicom}
    others: list[ImageFile] = []
    beside: list[ImageFile] = []
    for file in files:
        if file.kind != "dicom":
            (beside if file.kind == "picture" and file.folders in series_folders else others).append(file)
    found = [dicom_tree(dicom, root, progress)] if dicom else []
    if beside:
        found[0].ignored += [(file.path, "a picture beside DICOM files") for file in beside]
    if others:
        try:
            found.append(layouts.named(others, root, check_content=check_content, seed=seed))
        except InputError:
            if not any(layout.images for layout in found):
                raise
            found[0].ignored += [(file.path, "nothing tells whether it is CT or MRI") for file in others]
    return found


def _by_manifest(top: Path, progress: Progress | None, exclude: Sequence[str | os.PathLike[str]]) -> Discovery:
    cases = Manifest.read(top)
    file = top / _MANIFEST if top.is_dir() else top
    ignored: list[tuple[Path, str]] = []
    if top.is_dir():
        files, ignored = list_images(top, progress, exclude)
        named = {getattr(case, key) for case in cases for key in (*keys.MODALITIES, keys.MASK)}
        ignored = [(path, reason) for path, reason in ignored if path != file]
        ignored += [(f.path, f"not named in {_MANIFEST}") for f in files if not named & {f.path, f.path.parent}]
    layout = Layout("manifest")
    layout.say(
        "manifest", f"{file.name} states {len(cases)} cases", "taken as its author's statement, nothing inferred"
    )
    normal_only = judge_normal(layout, [case.label for case in cases])
    pairing = _pairing(cases)
    layout.say("result", _held(cases), pairing)
    return Discovery(top, "manifest", pairing, cases, tuple(layout.evidence), tuple(ignored), normal_only, True)


def _pairing(cases: Manifest) -> str:
    held = {case.modalities for case in cases}
    return "paired" if keys.MODALITIES in held else "unpaired" if len(held) > 1 else "single"


def _held(cases: Manifest) -> str:
    held = Counter(case.modalities for case in cases)
    return f"{held[keys.MODALITIES]} pairs, {held[(keys.CT,)]} CT only, {held[(keys.MRI,)]} MRI only"


def _named(drafts: Sequence[DraftCase], root: Path) -> Manifest:
    """Name the cases; one whose subject is not known is a subject of its own."""
    # A series that lies in the root itself has no name below it.
    files = [_relative(draft.images[0].path, root.parent if draft.images[0].path == root else root) for draft in drafts]
    names = case_names(files, [draft.subject or "" for draft in drafts])
    cases = []
    for draft, name in zip(drafts, names, strict=True):
        held = "pair" if len(draft.images) > 1 else draft.images[0].modality
        cases.append(
            Case(
                name,
                draft.subject or f"{held}-{name}",
                ct=draft.ct.path if draft.ct else None,
                mri=draft.mri.path if draft.mri else None,
                label=draft.label,
                mask=draft.mask.path if draft.mask else None,
                note=draft.note,
            )
        )
    return Manifest(cases)


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root if root.is_dir() else root.parent).as_posix()
    except ValueError:
        return str(path)
