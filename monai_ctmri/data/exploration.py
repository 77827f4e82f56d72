"""Looking at a data set before anything is trained on it: found, opened once, counted, checked, summed up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ctmri import keys
from monai_ctmri.data.dataset_summary import summarise
from monai_ctmri.data.findings import SEVERITIES, Finding
from monai_ctmri.data.intensity import PooledIntensities
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.trees.folder_tree import folder_tree
from monai_ctmri.errors import InputError

if TYPE_CHECKING:
    from monai_ctmri.data.checks.inspection import Facts
    from monai_ctmri.data.discovery import Discovery

__all__ = ["Exploration", "check_apart", "explore"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Exploration:
    """What was found in a data set. No pixels are held.

    Attributes:
        root: folder of the data, as it was given.
        discovery: cases, layout, pairing, and the evidence for it.
        facts: one entry an image, in the order of the cases.
        modalities: stated modality of each image, by its path.
        findings: what is wrong or worth knowing, the gravest first.
        pools: intensities of all images of a modality on one scale, by (modality, unit).
        summary: content of ``dataset_summary.json``, see
            :func:`~monai_ctmri.data.dataset_summary.summary_schema`.
    """

    root: Path
    discovery: Discovery
    facts: tuple[Facts, ...]
    modalities: dict[Path, str]
    findings: tuple[Finding, ...]
    pools: dict[tuple[str | None, str], PooledIntensities]
    summary: dict[str, Any]


def check_apart(data: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Refuse to write into the data: the next look would take the figures for images of the set.

    Raises:
        InputError: when ``out`` is the data's folder or lies in it.
    """
    folder = Path(os.path.realpath(data))
    folder = folder if folder.is_dir() else folder.parent
    inside = Path(os.path.realpath(out))
    if Path(data).is_dir() and (inside == folder or folder in inside.parents):
        raise InputError.about(out, "lies in the data that are explored", "choose an --out outside of them")


def explore(
    root: str | os.PathLike[str],
    *,
    workers: int = 1,
    progress: Progress | None = None,
    allow_resample: bool = False,
    a_is: str | None = None,
) -> Exploration:
    """Explore a data set. Each image is decoded once and let go; time grows with the number of files, memory hardly.

    Args:
        root: folder of images, or a manifest.
        workers: processes that open images.
        progress: called with (what is being done, steps done, steps in all).
        allow_resample: bring tilted and unevenly spaced series to an even grid instead of finding fault with them.
        a_is: ``ct`` or ``mri``, the modality of folders named A, where nothing else tells.

    Raises:
        InputError: when there is no such folder or manifest, or no image in it.
    """
    from monai_ctmri.data.checks.inspection import inspect_files
    from monai_ctmri.data.discovery import discover
    from monai_ctmri.data.quality import find_pair_problems, find_problems, known_subjects

    if a_is is not None and a_is not in keys.MODALITIES:
        raise InputError.about("a_is", f"{a_is!r} is no modality", "use ct or mri")
    say = progress or (lambda stage, done, total: None)
    given = Path(root)
    found = discover(given, a_is=a_is, progress=lambda done, total: say("Looking through the folder", done, total))
    items = images_of(found.cases)
    if not items:
        raise InputError.about(given, "no image found", "give a folder of PNG, JPEG, TIFF, NPY, NIfTI or DICOM files")
    facts = inspect_files(
        list(items.items()),
        workers,
        lambda done, total: say("Examining images", done, total),
        allow_resample=allow_resample,
    )
    subjects = known_subjects(found.cases, found.stand_ins)
    findings = [*find_problems(facts, items, subjects), *find_pair_problems(found.cases, facts)]
    say("Summing up", 0, 1)
    pools = pool_intensities(facts, items)
    folder = given if given.is_dir() else given.parent
    ordered = sorted(findings, key=lambda one: (-SEVERITIES.index(one.severity), one.kind, str(one.file)))
    summary = summarise(folder, found, facts, ordered, pools, folder_tree(folder), items)
    say("Summing up", 1, 1)
    return Exploration(folder, found, tuple(facts), items, tuple(ordered), pools, summary)


def images_of(manifest: Manifest) -> dict[Path, str]:
    """Return the modality of every CT and MRI file of a manifest, each file once, in the order of the cases."""
    items: dict[Path, str] = {}
    for case in manifest:
        for modality in case.modalities:
            items.setdefault(getattr(case, modality), modality)
    return items


def pool_intensities(
    facts: Iterable[Facts], modalities: Mapping[Path, str]
) -> dict[tuple[str | None, str], PooledIntensities]:
    """Pool the intensities of all images that could be read, by modality and unit.

    The units are ``grey level`` (8-bit pictures), ``grey value, <type>`` (other pictures), ``HU`` (CT volumes), ``not
    HU`` (CT volumes whose values cannot be) and ``arbitrary unit``; values of different units are never pooled.
    """
    pools: dict[tuple[str | None, str], PooledIntensities] = {}
    for one in facts:
        if one.problem is not None or not one.histogram:
            continue
        modality = modalities.get(one.path)
        counts = np.asarray(one.histogram, dtype=np.int64)
        low, high = one.histogram_range
        # Volumes are read as floating point, and counted in bins whatever they were stored as.
        single = one.kind in ("picture", "array") and one.dtype in ("uint8", "bool")
        half = 0.0 if single else (high - low) / counts.size / 2
        pools.setdefault((modality, _unit(one, modality)), PooledIntensities()).add(
            np.linspace(low + half, high - half, counts.size),
            counts,
            exact=single,
            mean=one.mean,
            std=one.std,
            low=one.minimum,
            high=one.maximum,
        )
    return pools


def _unit(one: Facts, modality: str | None) -> str:
    if one.windowed:
        return "grey level" if one.bits <= 8 else f"grey value, {one.dtype}"
    if modality != keys.CT:
        return "arbitrary unit"
    return "not HU" if any(finding.kind == "implausible_hu" for finding in one.findings) else "HU"
