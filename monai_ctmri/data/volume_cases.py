"""Cases of volumes -> cases of axial slices, each written as NIfTI with its place in space."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from monai_ctmri import keys
from monai_ctmri.data.checks.failures import failures_of
from monai_ctmri.data.files import write_text
from monai_ctmri.data.findings import Finding
from monai_ctmri.data.formats import kind_of
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.quarantine import quarantine
from monai_ctmri.data.reading.volumes import Volume, read_volume, same_grid, write_volume
from monai_ctmri.data.slices import AxialSlice, axial_order, cut_slices, select_levels
from monai_ctmri.errors import InputError

__all__ = ["Align", "Aligned", "SliceCutter", "holds_volumes"]

TABLE = "slices.csv"
COLUMNS = ("file", "case", "volume", "index", "height_mm")


@dataclass(frozen=True)
class Aligned:
    """What a registration gave.

    Attributes:
        volume: the moved volume on the grid of the fixed one, or None when it was not accepted.
        measure: kind and quality in a few words, or why it was not accepted.
        carry: moves a mask drawn on the moving volume's own grid along with it.
    """

    volume: Volume | None
    measure: str
    carry: Callable[[Volume], Volume] | None = None


Align = Callable[[Volume, Volume], Aligned]
"""Called with (fixed, moving); must return the moving volume on the fixed grid, or say why not."""


def holds_volumes(case: Case) -> bool:
    """Whether an image of the case is a volume or a DICOM series and not one slice."""
    return any(path is not None and _is_volume(path) for path in (case.ct, case.mri))


class SliceCutter:
    """Cuts the volumes of a manifest into slices.

    Args:
        folder: where slices go: ``<subject>/<case>/<case>_z<index>_<modality>.nii.gz``, and ``slices.csv``.
        allow_resample: bring tilted and unevenly spaced series to an even grid instead of refusing them.
        align: brings the MRI of a pair onto the grid of its CT; None leaves pairs on different grids apart.
        levels_mm: distance from the vertex of the first and last slice taken.
        every_mm: least distance between two slices; 0 takes every slice.
        rule: findings that keep a volume from being cut, see :func:`~monai_ctmri.data.quarantine.check_rule`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        allow_resample: bool = False,
        align: Align | None = None,
        levels_mm: tuple[float, float] = (20.0, 100.0),
        every_mm: float = 0.0,
        rule: Sequence[str] = ("error",),
    ) -> None:
        self.folder = Path(folder)
        self.allow_resample = allow_resample
        self.align = align
        self.levels_mm = levels_mm
        self.every_mm = every_mm
        self.rule = tuple(rule)

    def cut(
        self, manifest: Manifest, progress: Callable[[int, int], None] | None = None
    ) -> tuple[Manifest, list[Finding]]:
        """Replace every case of volumes by cases of slices; cases of pictures stay as they are.

        A volume that cannot be read or used stays in the manifest as it is, quarantined. A slice of a labelled volume
        is abnormal where the lesion mask says so, normal where the volume is; without a mask nobody knows which slices
        of an abnormal volume are abnormal, and their label stays empty.

        Returns:
            The cases in order, and what was found.
        """
        cases: list[Case] = []
        findings: list[Finding] = []
        rows: list[tuple[object, ...]] = []
        for done, case in enumerate(manifest, start=1):
            if holds_volumes(case):
                for part in self._parts(case, findings):
                    cases += self._write(part, findings, rows)
            else:
                cases.append(case)
            if progress is not None:
                progress(done, len(manifest))
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
        write_text(self.folder / TABLE, text.getvalue())
        return Manifest(cases), findings

    def _parts(self, case: Case, findings: list[Finding]) -> Iterator[_Part]:
        """Yield the volumes that are cut together: a pair on one grid, else each image alone."""
        volumes = {name: self._read(path, name, findings) for name in case.modalities if (path := getattr(case, name))}
        ct, mri = volumes.get(keys.CT), volumes.get(keys.MRI)
        if ct is not None and mri is not None:
            partner = self._on_grid(ct, mri, findings)
            if partner.volume is not None:
                yield _Part(case, {keys.CT: ct, keys.MRI: partner.volume}, mri, partner.carry)
                return
        for name, volume in volumes.items():
            alone = replace(case, ct=case.ct if name == keys.CT else None, mri=case.mri if name == keys.MRI else None)
            yield _Part(replace(alone, name=f"{case.name}_{name}") if len(volumes) > 1 else alone, {name: volume})

    def _read(self, path: Path, modality: str, findings: list[Finding]) -> Volume | None:
        try:
            volume = read_volume(path, modality, allow_resample=self.allow_resample)
        except (InputError, MemoryError) as error:
            findings += failures_of(path, error)
            return None
        findings.extend(volume.findings)
        return volume

    def _on_grid(self, ct: Volume, mri: Volume, findings: list[Finding]) -> Aligned:
        if same_grid(ct, mri):
            return Aligned(mri, "")
        if self.align is None:
            # No error: each stays usable alone.
            findings.append(Finding(mri.path, "geometry_mismatch", "other grid than its CT: not paired", "warning"))
            return Aligned(None, "")
        aligned = self.align(ct, mri)
        kind = "registration_failed" if aligned.volume is None else "registered"
        severity = "warning" if aligned.volume is None else ""
        findings.append(Finding(mri.path, kind, aligned.measure, severity))
        return aligned

    def _write(self, part: _Part, findings: list[Finding], rows: list[tuple[object, ...]]) -> list[Case]:
        case = part.case
        marked = quarantine(Manifest([case]), findings, self.rule)[0]
        first = next((volume for volume in part.volumes.values() if volume is not None), None)
        if first is None or marked.note != case.note:
            return [marked]
        indices = self._thinned(first, select_levels(first, *self.levels_mm))
        if not indices:
            findings.append(Finding(first.path, "not_brain_level", "no slice at brain level", "error"))
            return [quarantine(Manifest([case]), findings, self.rule)[0]]
        mask = self._mask(part, first, findings)
        stacks = {
            name: {one.index: one for one in cut_slices(volume, indices)}
            for name, volume in part.volumes.items()
            if volume
        }
        lesions = {} if mask is None else {one.index: one for one in cut_slices(mask, indices)}
        return [self._write_slice(case, index, stacks, lesions.get(index), rows) for index in indices]

    def _write_slice(
        self,
        case: Case,
        index: int,
        stacks: dict[str, dict[int, AxialSlice]],
        lesion: AxialSlice | None,
        rows: list[tuple[object, ...]],
    ) -> Case:
        name = f"{case.name}_z{index:03d}"
        files: dict[str, Path] = {}
        planes = {modality: stack[index] for modality, stack in stacks.items()}
        if lesion is not None:
            planes[keys.MASK] = lesion
        for role, plane in planes.items():
            files[role] = self.folder / _safe(case.subject) / case.name / f"{name}_{role}.nii.gz"
            write_volume(files[role], _compact(plane.values, role), plane.affine)
            if role != keys.MASK:
                source = getattr(case, role)
                relative = os.path.relpath(files[role], self.folder)
                rows.append((Path(relative).as_posix(), name, source, index, f"{plane.height_mm:.3f}"))
        label = case.label
        if lesion is not None:
            label = int(bool((lesion.values > 0).any()))
        elif case.label == 1:
            label = None
        return replace(
            case,
            name=name,
            label=label,
            ct=files.get(keys.CT),
            mri=files.get(keys.MRI),
            mask=files.get(keys.MASK),
        )

    def _mask(self, part: _Part, image: Volume, findings: list[Finding]) -> Volume | None:
        path = part.case.mask
        if path is None:
            return None
        try:
            mask = read_volume(path)
        except InputError as error:
            findings += [replace(one, severity="warning") for one in failures_of(path, error)]
            return None
        if same_grid(mask, image):
            return mask
        if part.carry is not None and part.moved is not None and same_grid(mask, part.moved):
            return part.carry(mask)
        findings.append(Finding(path, "geometry_mismatch", "other grid than its image: not used", "warning"))
        return None

    def _thinned(self, volume: Volume, indices: list[int]) -> list[int]:
        if self.every_mm <= 0 or not indices:
            return indices
        from nibabel.affines import voxel_sizes

        axis = int(np.flatnonzero(axial_order(volume.affine)[:, 0] == 2)[0])
        step = max(1, int(np.ceil(self.every_mm / float(voxel_sizes(volume.affine)[axis]) - 1e-6)))
        return indices[::step]


@dataclass(frozen=True)
class _Part:
    """A case, and its volumes by modality; None for one that could not be read.

    Where the MRI was registered, ``moved`` is what it was before, and ``carry`` moves a mask along.
    """

    case: Case
    volumes: dict[str, Volume | None]
    moved: Volume | None = None
    carry: Callable[[Volume], Volume] | None = None


def _is_volume(path: Path) -> bool:
    """Whether the path is a series or a volume of more than one slice; what cannot be read counts as one."""
    if path.is_dir() or kind_of(path) == "dicom":
        return True
    if kind_of(path) != "volume":
        return False
    from monai_ctmri.data.reading.volumes import read_header

    try:
        return sum(length > 1 for length in read_header(path).shape) > 2
    except InputError:
        return True


def _compact(values: np.ndarray, role: str) -> np.ndarray:
    """Whole numbers as int16, a mask as uint8, everything else as float32."""
    if role == keys.MASK:
        return (values > 0).astype(np.uint8)
    whole = np.round(values)
    if np.array_equal(whole, values) and abs(values).max(initial=0) < 2**15:
        return whole.astype(np.int16)
    return values.astype(np.float32)


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name) or "subject"
