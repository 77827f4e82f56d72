"""Abnormal twins of normal cases on disk: images in the units and on the grid of the originals, masks, a manifest."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.data import MetaTensor

from monai_ctmri import keys
from monai_ctmri.data.files import relative_path, write_atomically, write_text
from monai_ctmri.data.manifest import COLUMNS, Case, Manifest
from monai_ctmri.data.quarantine import without_quarantined
from monai_ctmri.data.reading.volumes import write_volume
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.cases import FIELD_OF_VIEW_MM
from monai_ctmri.evaluation.judge import Progress
from monai_ctmri.transforms.anomalies import abnormal_twins
from monai_ctmri.transforms.brain import BrainMask
from monai_ctmri.transforms.ct import WindowCT
from monai_ctmri.transforms.lesion import ANOMALY, LesionTransform
from monai_ctmri.transforms.lesion_suite import SIZES, SUITE, lesion_suite
from monai_ctmri.transforms.loading import LoadSlice
from monai_ctmri.transforms.mri import NormalizeMRI

__all__ = ["TWIN_COLUMNS", "write_twins"]

TWIN_COLUMNS = (*COLUMNS, keys.CASE, "family", "kind", "size", "size_mm", "contrast", "contrast_to_noise", "original")
"""Columns of the manifest; readers of manifests leave those after ``case`` alone."""

_LEAST_BRAIN = 0.08
_DONORS = 5
_KEPT = 64


def write_twins(
    manifest_path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    kinds: Sequence[str] | None = None,
    sizes: Sequence[str] = ("medium",),
    contrast: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write an abnormal twin of every normal case for every kind and size.

    What is not touched by an anomaly keeps its stored value, bit for bit: the change is added to the original in its
    own units (grey levels, HU, signal). Pictures stay pictures of their bit depth, everything else becomes NIfTI with
    the original's place in space. The same arguments give the same files, whatever the order of the cases.

    Args:
        manifest_path: manifest of slices; its normal cases are used, or all where none has a label.
        out: folder for ``manifest.csv`` (:data:`TWIN_COLUMNS`; the clean originals first, then the twins, all in the
            test part), and ``<kind>_<size>/``.
        kinds: of :data:`~monai_ctmri.transforms.lesion_suite.SUITE`; None takes every kind the modalities can show.
        sizes: of :data:`~monai_ctmri.transforms.lesion_suite.SIZES`.
        contrast: factor on every change; 0 changes nothing (a control).
        seed: of everything that is drawn.
        progress: called with (what is being done, steps done, steps in all).

    Returns:
        The manifest.

    Raises:
        InputError: for bad input, an unknown kind or size, or when no case has brain enough.
    """
    say = progress or (lambda stage, done, total: None)
    _check(kinds, sizes)
    folder = Path(os.path.abspath(out))
    target = folder / "manifest.csv"
    manifest = without_quarantined(Manifest.read(manifest_path), manifest_path)
    if all(case.label is None for case in manifest):
        manifest = manifest.with_cases(replace(case, label=0) for case in manifest)
    normals = [case for case in manifest if case.label == 0]
    # A cohort does not fit into memory: what is known of each case is small, its images are read when needed.
    load = lru_cache(maxsize=_KEPT)(_loaded)
    outlines: dict[Case, _Outline] = {}
    for done, case in enumerate(normals, start=1):
        outline = _outline(load(case))
        if outline.area >= _LEAST_BRAIN * outline.height * outline.width:
            outlines[case] = outline
        say("Looking for brain", done, len(normals))
    if not outlines:
        raise InputError.about(manifest_path, "no normal case shows brain enough for a lesion", "give other slices")
    rows = [_row(case, folder) for case in normals]
    for done, case in enumerate(normals, start=1):
        if case in outlines:
            strangers, neighbours = _partners(case, outlines)
            donors, others = ([load(one) for one in group] for group in (strangers, neighbours))
            for size in sizes:
                for transform in _suite(load(case), donors, others, size, kinds, contrast):
                    rows.append(_write(case, load(case), transform, size, seed, folder))
        say("Injecting", done, len(normals))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, TWIN_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(target, text.getvalue())
    return target


def _check(kinds: Sequence[str] | None, sizes: Sequence[str]) -> None:
    for what, words, known in (("kind", kinds or (), SUITE), ("size", sizes, SIZES)):
        for word in words:
            if word not in known:
                raise InputError.about(f"{what} {word!r}", "unknown", f"use one of {', '.join(known)}")
    if not sizes:
        raise InputError.about("sizes", "none", f"use one of {', '.join(SIZES)}")


@dataclass(frozen=True)
class _Outline:
    """What choosing partners needs to know of a case: area of the brain in pixels, size of the picture."""

    area: float
    height: int
    width: int


def _outline(loaded: Mapping[str, Any]) -> _Outline:
    brain = np.asarray(loaded["brain"])
    return _Outline(float(brain.sum()), *brain.shape[-2:])


def _partners(case: Case, outlines: Mapping[Case, _Outline]) -> tuple[list[Case], list[Case]]:
    """Cases of other subjects at about the same level, and other slices of the same subject; both in an order that
    does not depend on the manifest's."""
    own = outlines[case]
    alike = sorted(
        (
            one
            for one, outline in outlines.items()
            if (outline.height, outline.width) == (own.height, own.width)
            and set(case.modalities) <= set(one.modalities)
            and one.name != case.name
        ),
        # A partner from another level would be too easy to see; the size of the brain stands for the level.
        key=lambda one: (abs(outlines[one].area - own.area), one.name),
    )
    strangers = [one for one in alike if one.subject != case.subject]
    neighbours = [one for one in alike if one.subject == case.subject]
    return strangers[:_DONORS], sorted(neighbours, key=lambda one: one.name)


def _loaded(case: Case) -> dict[str, Any]:
    """The case as lesions take it, with the stored values beside it."""
    entry: dict[str, Any] = {keys.CASE: case.name, keys.SUBJECT: case.subject, "stored": {}, "scale": {}}
    windowed: list[torch.Tensor] = []
    for name in case.modalities:
        stored = LoadSlice(name)(getattr(case, name))
        entry["stored"][name] = stored
        if name == keys.CT:
            windowed.append(torch.as_tensor(WindowCT()(stored)))
            entry[name], entry["scale"][name] = (windowed[-1], 255.0) if _is_windowed(stored) else (stored, 1.0)
        else:
            entry[name] = NormalizeMRI()(stored)
            windowed.append(entry[name])
            positive = (entry[name] > 0) & (entry[name] < 1)
            ratio = (stored / entry[name].clamp(min=1e-12))[positive]
            entry["scale"][name] = float(ratio.median()) if ratio.numel() else 0.0
    entry["brain"] = BrainMask(ct_channel=0 if keys.CT in case.modalities else None)(torch.cat(list(windowed)))
    contrast = case.note.partition(";")[0].strip()
    if contrast in ("T1", "T2", "PD", "FLAIR"):
        entry["mri_contrast"] = contrast
    return entry


def _suite(
    case: Mapping[str, Any],
    donors: Sequence[Mapping[str, Any]],
    neighbours: Sequence[Mapping[str, Any]],
    size: str,
    kinds: Sequence[str] | None,
    contrast: float,
) -> list[LesionTransform]:
    return lesion_suite(
        [name for name in keys.MODALITIES if name in case],
        size,
        kinds=kinds,
        donors=donors,
        neighbours=neighbours,
        contrast=contrast,
        pixel_spacing_mm=_pixel_mm(case),
        allow_missing_keys=True,
    )


def _pixel_mm(case: Mapping[str, Any]) -> float:
    """From the file where it says so (NIfTI); else a head's usual field of view over the longer side."""
    for stored in case["stored"].values():
        affine = np.asarray(stored.affine)
        if not np.allclose(affine, np.eye(4)):
            return float(np.linalg.norm(affine[:3, 0]))
    return FIELD_OF_VIEW_MM / max(case["brain"].shape[-2:])


def _write(
    case: Case, loaded: Mapping[str, Any], transform: LesionTransform, size: str, seed: int, folder: Path
) -> dict[str, Any]:
    given = {name: value for name, value in loaded.items() if name not in ("stored", "scale")}
    drawn = int.from_bytes(hashlib.sha256(f"{seed}|{size}".encode()).digest()[:4], "big")
    (twin,) = abnormal_twins([cast("Mapping[Hashable, Any]", given)], [transform], drawn)
    place = folder / f"{transform.kind}_{size}"
    name = f"{case.name}__{transform.kind}_{size}"
    files: dict[str, Path] = {}
    for modality in case.modalities:
        stored, scale = loaded["stored"][modality], loaded["scale"][modality]
        change = np.asarray(twin[modality][0], dtype=np.float64) - np.asarray(given[modality][0], dtype=np.float64)
        values = np.asarray(stored[0], dtype=np.float64) + scale * change
        files[modality] = _save(place / f"{name}_{modality}", np.where(change == 0, stored[0], values), stored)
    mask = np.asarray(twin[keys.MASK][0]) > 0.5
    files[keys.MASK] = _save(place / f"{name}_mask", np.where(mask, 255.0, 0.0), None)
    facts = twin[ANOMALY]
    row = _row(replace(case, name=name, label=1, mask=files[keys.MASK], **_images(files)), folder)
    return row | {
        "family": facts["family"],
        "kind": facts["kind"],
        "size": size,
        "size_mm": f"{facts['size_mm']:.2f}",
        "contrast": f"{facts['contrast']:g}",
        "contrast_to_noise": f"{facts['contrast_to_noise']:.3f}",
        "original": case.name,
    }


def _images(files: Mapping[str, Path]) -> dict[str, Any]:
    return {name: files.get(name) for name in keys.MODALITIES}


def _save(stem: Path, values: np.ndarray, like: torch.Tensor | None) -> Path:
    """Write grey levels as PNG (8 or 16 bit), everything else as NIfTI; returns the file."""
    from PIL import Image

    if like is None or _is_windowed(like):
        with write_atomically(stem.with_name(stem.name + ".png")) as temporary:
            Image.fromarray(np.uint8(np.clip(np.round(values), 0, 255))).save(temporary, format="PNG")
        return stem.with_name(stem.name + ".png")
    path = stem.with_name(stem.name + ".nii.gz")
    affine = np.asarray(like.affine) if isinstance(like, MetaTensor) else np.eye(4)
    write_volume(path, np.float32(values)[..., None], _placed(affine))
    return path


def _is_windowed(stored: torch.Tensor) -> bool:
    return isinstance(stored, MetaTensor) and bool(stored.meta["windowed"])


def _placed(affine: np.ndarray) -> np.ndarray:
    """A slice without a place in space (a floating-point array) gets the one that reads back as it lies."""
    if not np.allclose(affine, np.eye(4)):
        return affine
    # Rows run to posterior, columns to the patient's left.
    return np.array([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def _row(case: Case, folder: Path) -> dict[str, Any]:
    def relative(path: Path | None) -> str:
        return "" if path is None else relative_path(path, folder)

    return {
        keys.CT: relative(case.ct),
        keys.MRI: relative(case.mri),
        keys.SUBJECT: case.subject,
        keys.LABEL: case.label,
        keys.MASK: relative(case.mask),
        keys.SPLIT: "test",
        keys.NOTE: case.note,
        keys.CASE: case.name,
    }
