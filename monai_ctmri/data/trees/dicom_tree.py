"""DICOM files by their headers: whose they are, what they show, and which series belong together."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai_ctmri import keys
from monai_ctmri.data.trees import naming
from monai_ctmri.data.trees.evidence import Layout, Placed
from monai_ctmri.data.trees.listing import ImageFile

__all__ = ["dicom_tree", "subject_of"]

_SCOUT = {"localizer", "localiser", "loc", "scout", "topogram", "surview", "scanogram", "survey"}
_NOBODY = {
    "anonymous",
    "anonymized",
    "anonymised",
    "anon",
    "unknown",
    "none",
    "na",
    "removed",
    "deidentified",
    "patient",
}


def dicom_tree(files: Sequence[ImageFile], root: Path, progress: Callable[[int, int], None] | None = None) -> Layout:
    """Place DICOM series by Modality, SeriesInstanceUID, PatientID, FrameOfReferenceUID and StudyInstanceUID.

    A CT and an MRI series belong together when the PatientID is the same and so is the FrameOfReferenceUID or the
    StudyInstanceUID. The PatientID alone does not suffice: years may lie between.

    Args:
        files: the DICOM files below the root.
        root: the folder.
        progress: called after each folder with the number of folders read and of all.

    Returns:
        The layout; series that are neither CT nor MRI, or mere scouts, are left out with the reason.
    """
    from monai_ctmri.data.reading.dicom import find_series

    layout = Layout("dicom", linked=True)
    folders: dict[Path, list[ImageFile]] = defaultdict(list)
    for file in files:
        folders[file.path.parent].append(file)
    found: list[tuple[Any, Path]] = []
    for done, (folder, members) in enumerate(folders.items(), start=1):
        series = find_series(folder)
        named = {Path(path) for one in series for path in one.files}
        layout.ignored += [(f.path, "no readable DICOM image") for f in members if f.path not in named]
        kept = []
        for one in series:
            if reason := _left_out(one):
                layout.ignored += [(Path(path), reason) for path in one.files]
            else:
                kept.append(one)
        images = [one for one in series if one.modality]
        found += [(one, folder if len(images) == 1 else Path(one.files[0])) for one in kept]
        if progress is not None:
            progress(done, len(folders))
    links = _links([one for one, _ in found])
    for (one, path), link in zip(found, links, strict=True):
        relative = path.relative_to(root).parts
        contrast = naming.contrast_of(one.description or "") if one.modality == keys.MRI else ""
        subject = subject_of(one.patient)
        layout.images.append(Placed(path, relative[:-1], path.stem, "dicom", one.modality, contrast, link, subject))
    _explain(layout, [one for one, _ in found])
    return layout


def subject_of(patient: str | None) -> str | None:
    """Return a name for a patient that does not give away the PatientID: ``sub-`` and 8 digits of its SHA-256.

    None for an empty PatientID and for the words that anonymisers put in its place, which any number of patients share.
    """
    patient = (patient or "").strip()
    tokens = set(naming.tokens_of(patient))
    if not tokens or tokens <= _NOBODY or not patient.strip("0 -_"):
        return None
    return f"sub-{hashlib.sha256(patient.encode('utf-8')).hexdigest()[:8]}"


def _left_out(series: Any) -> str:
    if not series.modality:
        return "neither CT nor MRI by its DICOM header"
    scout = getattr(series, "localizer", False) or set(naming.tokens_of(series.description or "")) & _SCOUT
    return "a scout by its DICOM header" if scout else ""


def _study_of(series: Any) -> str:
    import pydicom

    header = pydicom.dcmread(series.files[0], stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
    return str(header.get("StudyInstanceUID", "") or "")


def _links(series: Sequence[Any]) -> list[tuple[str, ...]]:
    """Return for each series what it shares with its partners: a frame of reference, else a study; empty where none."""
    links: list[tuple[str, ...]] = [()] * len(series)
    for kind, identity in (("frame", lambda one: one.frame_of_reference), ("study", _study_of)):
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, one in enumerate(series):
            patient = subject_of(one.patient)
            if patient and not links[index] and (shared := identity(one)):
                groups[kind, patient, shared].append(index)
        for group, members in groups.items():
            if {series[index].modality for index in members} >= set(keys.MODALITIES):
                for index in members:
                    links[index] = group
    return links


def _explain(layout: Layout, series: Sequence[Any]) -> None:
    counts = Counter(one.modality for one in series)
    found = ", ".join(f"{counts[m]} {m.upper()}" for m in keys.MODALITIES)
    layout.say("DICOM tree", f"{len(series)} image series by their headers: {found}", "one series, one image")
    nobody = sum(image.subject is None for image in layout.images)
    if nobody:
        layout.say(
            "PatientID", f"empty or a stand-in in {nobody} series", "these series are not known to share a patient"
        )
    both: dict[str, set[str]] = defaultdict(set)
    for image in layout.images:
        if image.subject and not image.key:
            both[image.subject].add(image.modality)
    apart = sum(len(modalities) == 2 for modalities in both.values())
    if apart:
        layout.say(
            "patients with CT and MRI apart",
            f"{apart} with one PatientID but neither study nor frame of reference in common",
            "one subject, no pair: time may lie between",
        )
