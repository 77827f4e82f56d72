"""What one step of discovery hands to the next: images put in their place, masks, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["DraftCase", "Evidence", "Layout", "Placed"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One reason for what discovery decided.

    Attributes:
        claim: what is claimed.
        basis: what was seen that speaks for or against it.
        verdict: what follows.
    """

    claim: str
    basis: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Placed:
    """An image, or a mask, whose place in the data set is known.

    Attributes:
        path: the file; for a DICOM series its folder, or its first file.
        folders: folders between the root and the file.
        stem: the file's name without suffix.
        kind: ``picture``, ``array``, ``volume`` or ``dicom``.
        modality: ``ct`` or ``mri``; empty for a mask.
        contrast: contrast that a name states, or empty.
        key: what images of one place in one head share; empty where nothing is shared.
        subject: whom it shows, or None where nothing says so.
    """

    path: Path
    folders: tuple[str, ...]
    stem: str
    kind: str
    modality: str = ""
    contrast: str = ""
    key: tuple[str, ...] = ()
    subject: str | None = None


@dataclass
class Layout:
    """What a layout made of the files.

    Attributes:
        name: of the layout.
        images: in the order of the files.
        masks: lesion masks, not yet attached.
        linked: whether the layout itself states that images of one key show one patient at one time.
        named_set: whether it is the public set ``darren2020/ct-to-mri-cgan`` by its names.
        evidence: the reasons.
        ignored: (path, reason) of files that were not placed.
    """

    name: str
    images: list[Placed] = field(default_factory=list)
    masks: list[Placed] = field(default_factory=list)
    linked: bool = False
    named_set: bool = False
    evidence: list[Evidence] = field(default_factory=list)
    ignored: list[tuple[Path, str]] = field(default_factory=list)

    def say(self, claim: str, basis: str, verdict: str) -> None:
        """Add a reason."""
        self.evidence.append(Evidence(claim, basis, verdict))


@dataclass
class DraftCase:
    """A case without its name: at least one of ``ct`` and ``mri``."""

    ct: Placed | None = None
    mri: Placed | None = None
    note: str = ""
    mask: Placed | None = None
    label: int | None = None

    @property
    def images(self) -> list[Placed]:
        """The images, CT first."""
        return [image for image in (self.ct, self.mri) if image is not None]

    @property
    def subject(self) -> str | None:
        """Whom the images show, or None where nothing says so."""
        return next((image.subject for image in self.images if image.subject), None)
