"""From what a configuration names to lists of cases: a manifest, or the embedded phantom where none is named."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai_ctmri import keys
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.data.quarantine import without_quarantined
from monai_ctmri.data.splits import DEFAULT_FRACTIONS, assign_splits, guard_splits
from monai_ctmri.errors import InputError

__all__ = ["UNKNOWN_LABEL", "datalist", "load_dataset"]

UNKNOWN_LABEL = -1
"""Stands for a label that is not known, since a batch cannot hold a mixture of numbers and nothing."""

_PHANTOM_SLICES = {"brain": 12, "head": 18}
_PHANTOM_CONTRAST, _PHANTOM_FORM, _PHANTOM_LEVELS = "T2", "slices", "brain"
_REQUIREMENTS = {"all": (all, " and "), "any": (any, " or ")}
_NORMAL_PARTS = ("train", "validation", "calibration")
logger = logging.getLogger(__name__)


def load_dataset(
    dataset_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    phantom_subjects: int = 24,
    image_size: int = 128,
    assume_normal: bool | None = None,
    divide: bool = True,
    fractions: Mapping[str, float] | None = None,
    phantom_contrast: str = _PHANTOM_CONTRAST,
    phantom_form: str = _PHANTOM_FORM,
    phantom_levels: str = _PHANTOM_LEVELS,
) -> Manifest:
    """Read the manifest a configuration names, with a division that is fit to train on.

    Args:
        dataset_dir: a manifest file, a folder with ``manifest.csv``, or None for the embedded phantom.
        cache_dir: where the phantom is drawn once, in a folder named after its settings.
        seed: of the phantom and of the division.
        phantom_subjects: number of phantom subjects.
        image_size: size of the phantom's slices in pixels.
        assume_normal: whether a manifest without any label is taken as normal; None does so with a warning, False
            refuses it.
        divide: assign splits to a manifest that has none, and guard the division; False takes the manifest as it is,
            which is what inference needs.
        fractions: shares of the normal subjects for a manifest without splits; None takes 60/10/10/20.
        phantom_contrast: MRI contrast of the phantom: T1, T2, PD, FLAIR, or ``mixed`` (drawn for each subject).
        phantom_form: ``slices`` (8-bit pictures) or ``volumes`` (NIfTI, CT in HU) of ``image_size`` voxels a row.
        phantom_levels: ``brain`` (12 slices a subject) or ``head``, from skull base to vertex (18 slices).

    Returns:
        The manifest without its quarantined cases. With ``divide`` every part but ``test`` holds no abnormal case, and
        no subject, file or picture is in two parts.

    Raises:
        InputError: for what is no manifest, or a division that trains on abnormal cases or leaks.
    """
    if not isinstance(assume_normal, bool | None):  # a command line's "false" is a text, and true
        raise InputError.about("assume_normal", f"{assume_normal!r} is no truth value", "write True, False or None")
    if phantom_levels not in _PHANTOM_SLICES:
        problem = f"{phantom_levels!r} is unknown"
        raise InputError.about("phantom_levels", problem, f"use {' or '.join(_PHANTOM_SLICES)}")
    if dataset_dir is None:
        with _first_process_first():
            name = f"{phantom_subjects}-subjects-{image_size}px-seed-{seed}"
            name += "" if phantom_contrast == _PHANTOM_CONTRAST else f"-{phantom_contrast}"
            name += "" if phantom_form == _PHANTOM_FORM else f"-{phantom_form}"
            name += "" if phantom_levels == _PHANTOM_LEVELS else f"-{phantom_levels}"
            source = write_phantom(
                Path(cache_dir) / "phantom" / name,
                subjects=phantom_subjects,
                seed=seed,
                size=image_size,
                slices=_PHANTOM_SLICES[phantom_levels],
                contrast=phantom_contrast,
                form=phantom_form,
                levels=phantom_levels,
            )
        logger.info("No dataset_dir given: using the phantom in %s", source.parent)
    else:
        source = Path(dataset_dir)
    manifest = without_quarantined(Manifest.read(source), source)
    if not divide:
        return manifest
    if assume_normal is None and all(case.label is None for case in manifest):
        logger.warning("%s: no case has a label; all are taken as normal, which nobody checked", source)
        assume_normal = True
    if all(case.split is None for case in manifest):
        try:
            shares = DEFAULT_FRACTIONS if fractions is None else fractions
            manifest = assign_splits(manifest, shares, seed, assume_normal=bool(assume_normal), allow_empty=True)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    undivided = sum(case.split is None for case in manifest)
    if undivided:
        logger.warning("%s: %d cases have no split and take no part", source, undivided)
    for case in manifest:
        if case.split in _NORMAL_PARTS and case.label == 1:
            problem = f"abnormal case {case.name!r} is in the {case.split} part"
            raise InputError.about(source, problem, "put all cases of its subject in the test part")
    guard_splits(manifest)
    return manifest


def datalist(
    manifest: Manifest,
    split: str | None = None,
    modalities: Sequence[str] = keys.MODALITIES,
    *,
    fallback: str | None = None,
    require: str = "all",
) -> list[dict[str, Any]]:
    """List the cases of one part as MONAI data dictionaries that collate.

    Args:
        manifest: the cases.
        split: a part, or None for all cases.
        modalities: what a case must have; cases that lack it are left out, and a warning counts them.
        fallback: part to take instead, with a warning, when this one is empty.
        require: ``all`` of the modalities, or ``any`` of them: then a case lists those it has.

    Returns:
        One dictionary a case with ``case``, ``subject``, ``label`` (``UNKNOWN_LABEL`` where unknown) and the path of
        each modality.

    Raises:
        InputError: for an unknown modality or requirement, or when nothing is left.
    """
    if require not in _REQUIREMENTS:
        raise InputError.about("require", f"got {require!r}", f"use {' or '.join(_REQUIREMENTS)}")
    for modality in modalities:
        if modality not in keys.MODALITIES:
            raise InputError.about(f"modality {modality!r}", "unknown", f"use {' and '.join(keys.MODALITIES)}")
    if not modalities:
        raise InputError.about("modalities", "empty", f"name {' or '.join(keys.MODALITIES)}, or both")
    enough, conjunction = _REQUIREMENTS[require]
    selected = manifest.select(split=split).datalist()
    items = [
        {
            keys.CASE: item[keys.CASE],
            keys.SUBJECT: item[keys.SUBJECT],
            keys.LABEL: item.get(keys.LABEL, UNKNOWN_LABEL),
            **{modality: item[modality] for modality in modalities if item.get(modality)},
        }
        for item in selected
        if enough(item.get(modality) for modality in modalities)
    ]
    if len(items) < len(selected):
        needed = conjunction.join(modalities)
        logger.warning("%d of %d cases lack %s and are left out", len(selected) - len(items), len(selected), needed)
    if items:
        return items
    part = f"the {split} part" if split else "the manifest"
    if fallback is not None:
        logger.warning("%s is empty; taking the %s part instead", part, fallback)
        return datalist(manifest, fallback, modalities, require=require)
    remedy = "check the manifest, its splits and modalities"
    alone = [name for name in modalities if any(item.get(name) for item in selected)]
    if len(modalities) > 1 and alone:
        remedy = f"the set is unpaired: take one modality, modalities=['{alone[0]}']"
    raise InputError.about(part, f"no case has {conjunction.join(modalities)}", remedy)


@contextmanager
def _first_process_first() -> Iterator[None]:
    """Let the first process of a distributed run through before the others, so that only one draws the phantom."""
    from torch import distributed

    together = distributed.is_available() and distributed.is_initialized()
    if together and distributed.get_rank() != 0:
        distributed.barrier()
    try:
        yield
    finally:
        if together and distributed.get_rank() == 0:
            distributed.barrier()
