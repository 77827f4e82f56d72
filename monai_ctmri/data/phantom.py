"""The embedded data set: paired CT and MRI of normal heads with tissue truth, drawn from a seed; nothing is downloaded.

One seed is one subject. What is drawn for a subject depends on its own seed alone, never on how many others are
written, in which order or by how many workers. A result on this data is a phantom result and has to be called one.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from monai_ctmri.data.anatomy import TISSUES, Head
from monai_ctmri.data.contrast import MR_CONTRASTS, ct_slice, mr_slice
from monai_ctmri.data.files import write_atomically, write_json
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError

__all__ = ["PhantomSettings", "PhantomSubject", "draw_subject", "is_phantom", "write_phantom"]

CT_WINDOW = (40.0, 80.0)
LEVELS_MM = {"brain": (-30.0, 47.0), "head": (-52.0, 60.0)}
"""Lowest and highest axial level in head coordinates: from the basal cisterns to below the vertex, all at brain level;
or from the skull base, with its sinuses and petrous bones, to the vertex."""


@dataclass(frozen=True)
class PhantomSettings:
    """How subjects are drawn and sampled.

    Attributes:
        size: pixels along each side of an axial slice.
        slices: axial slices of a subject, evenly spaced over ``levels``; for ``volumes`` the number of planes follows
            from ``spacing_mm`` instead.
        contrast: T1, T2, PD, FLAIR, or ``mixed`` (drawn for each subject).
        field_of_view_mm: width of the square slice.
        asymmetry: amplitude of the part of the deformation that is not mirror-symmetric, as a share of the symmetric
            part.
        form: ``slices`` (8-bit PNG, CT windowed 40/80 HU) or ``volumes`` (NIfTI, CT in HU).
        levels: what slices cover, ``brain`` or ``head`` (:data:`LEVELS_MM`); volumes cover the head whatever it is.
    """

    size: int = 128
    slices: int = 12
    contrast: str = "T2"
    field_of_view_mm: float = 240.0
    asymmetry: float = 0.4
    form: str = "slices"
    levels: str = "brain"

    def __post_init__(self) -> None:
        if self.contrast not in (*MR_CONTRASTS, "mixed"):
            raise InputError(f"contrast: {self.contrast!r} is unknown; choose {', '.join(MR_CONTRASTS)} or mixed")
        if self.form not in ("slices", "volumes"):
            raise InputError(f"form: {self.form!r} is unknown; choose slices or volumes")
        if self.levels not in LEVELS_MM:
            raise InputError(f"levels: {self.levels!r} is unknown; choose {' or '.join(LEVELS_MM)}")
        if self.size < 16 or self.slices < 1:
            raise InputError(f"size {self.size}, slices {self.slices}: too small; need at least 16 pixels and 1 slice")

    @property
    def spacing_mm(self) -> float:
        """Pixel size in millimetres; for volumes also the distance between planes."""
        return self.field_of_view_mm / self.size


@dataclass(frozen=True)
class PhantomSubject:
    """One drawn subject, slices in picture orientation (row 0 anterior, column 0 the patient's right).

    Attributes:
        seed: the subject's seed.
        ct: Hounsfield units, float32 (slices, H, W).
        mri: relative signal >= 0, float32 (slices, H, W).
        tissue: index into :data:`~monai_ctmri.data.anatomy.TISSUES` of the commonest tissue, uint8 (slices, H, W).
        contrast: T1, T2, PD or FLAIR.
        levels_mm: position of each slice in head coordinates, superior positive.
    """

    seed: int
    ct: np.ndarray
    mri: np.ndarray
    tissue: np.ndarray
    contrast: str
    levels_mm: np.ndarray

    @property
    def name(self) -> str:
        """Subject identifier, the same in every data set that holds this seed."""
        return f"phantom-{self.seed:06d}"


def draw_subject(seed: int, settings: PhantomSettings | None = None) -> PhantomSubject:
    """Draw the subject of a seed.

    Args:
        seed: any integer >= 0.
        settings: sampling and contrast; defaults to :class:`PhantomSettings`.
    """
    settings = settings or PhantomSettings()
    rng = np.random.default_rng([seed, 2])
    drawn_contrast = MR_CONTRASTS[int(rng.integers(len(MR_CONTRASTS)))]
    contrast = drawn_contrast if settings.contrast == "mixed" else settings.contrast
    if settings.form == "volumes":
        low, high = LEVELS_MM["brain"]
        levels = np.arange(low - 15, high + 35, settings.spacing_mm)
    else:
        levels = np.linspace(*LEVELS_MM[settings.levels], settings.slices) + rng.uniform(-3, 3)
    axis = (np.arange(settings.size) - (settings.size - 1) / 2) * settings.spacing_mm
    # Rows run from anterior to posterior and columns from the patient's right to left, as radiologists hang pictures.
    z, y, x = np.meshgrid(levels, -axis, -axis, indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), z.ravel()])
    fractions = Head(seed, settings.asymmetry).tissue_fractions(points).reshape(len(TISSUES), *z.shape)
    return PhantomSubject(
        seed=seed,
        ct=ct_slice(fractions, settings.spacing_mm, np.random.default_rng([seed, 3])),
        mri=mr_slice(fractions, settings.spacing_mm, contrast, np.random.default_rng([seed, 4])),
        tissue=fractions.argmax(0).astype(np.uint8),
        contrast=contrast,
        levels_mm=levels,
    )


def _picture(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.round(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _write_slices(subject: PhantomSubject, out: Path) -> list[Case]:
    from PIL import Image

    centre, width = CT_WINDOW
    pictures = {
        "ct": _picture(subject.ct, centre - width / 2, centre + width / 2),
        "mri": _picture(subject.mri, 0, float(np.percentile(subject.mri, 99.9))),
        "tissue": subject.tissue,
    }
    cases = []
    for index in range(len(subject.levels_mm)):
        name = f"{subject.name}_{index:02d}"
        for folder, stack in pictures.items():
            with write_atomically(out / folder / f"{name}.png") as temporary:
                Image.fromarray(stack[index]).save(temporary, format="PNG")
        cases.append(_case(name, subject, out, ".png"))
    return cases


def _write_volumes(subject: PhantomSubject, out: Path, spacing_mm: float) -> list[Case]:
    import nibabel

    size = subject.ct.shape[-1]
    # Pictures run from the patient's right to left and anterior to posterior; a RAS file runs the other way on both
    # axes.
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (-(size - 1) / 2 * spacing_mm, -(size - 1) / 2 * spacing_mm, subject.levels_mm[0])
    volumes = {"ct": np.round(subject.ct).astype(np.int16), "mri": subject.mri, "tissue": subject.tissue}
    for folder, stack in volumes.items():
        image = nibabel.Nifti1Image(np.ascontiguousarray(stack[:, ::-1, ::-1].transpose(2, 1, 0)), affine)
        image.header.set_xyzt_units("mm")
        with write_atomically(out / folder / f"{subject.name}.nii.gz") as temporary:
            nibabel.save(image, temporary)
    return [_case(subject.name, subject, out, ".nii.gz")]


def _case(name: str, subject: PhantomSubject, out: Path, suffix: str) -> Case:
    return Case(
        name=name,
        subject=subject.name,
        ct=out / "ct" / f"{name}{suffix}",
        mri=out / "mri" / f"{name}{suffix}",
        label=0,
        mask=None,
        split=None,
        note=subject.contrast,
    )


def _write_subject(seed: int, settings: PhantomSettings, out: Path) -> list[Case]:
    subject = draw_subject(seed, settings)
    if settings.form == "volumes":
        return _write_volumes(subject, out, settings.spacing_mm)
    return _write_slices(subject, out)


def write_phantom(
    out: str | Path,
    subjects: int = 50,
    seed: int = 0,
    *,
    size: int = 128,
    slices: int = 12,
    contrast: str = "T2",
    asymmetry: float = 0.4,
    form: str = "slices",
    levels: str = "brain",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a phantom data set: ``ct/``, ``mri/``, ``tissue/`` (truth), ``phantom.json`` and, last, ``manifest.csv``.

    A folder that already holds the very same data set is left as it is, so a run cut off or repeated costs nothing
    twice.

    Args:
        out: folder to write to.
        subjects: number of subjects; their seeds are ``seed``, ``seed + 1``, ...
        seed: seed of the first subject.
        size, slices, contrast, asymmetry, form, levels: see :class:`PhantomSettings`.
        workers: processes that draw subjects.
        progress: called with (subjects done, subjects in all).

    Returns:
        Path of the manifest.

    Raises:
        InputError: for settings out of range, or when the folder holds a different phantom.
    """
    settings = PhantomSettings(size, slices, contrast, asymmetry=asymmetry, form=form, levels=levels)
    if subjects < 1 or seed < 0 or workers < 1:
        raise InputError(f"subjects {subjects}, seed {seed}, workers {workers}: need >= 1, >= 0 and >= 1")
    folder = Path(out).resolve()
    manifest_path, description_path = folder / "manifest.csv", folder / "phantom.json"
    description = {
        "subjects": subjects,
        "first_seed": seed,
        "settings": asdict(settings),
        "spacing_mm": settings.spacing_mm,
        "ct": {"window_centre_hu": CT_WINDOW[0], "window_width_hu": CT_WINDOW[1]}
        if form == "slices"
        else {"unit": "HU"},
        "tissue_labels": {str(label): name for label, name in enumerate(TISSUES)},
    }
    if description_path.is_file() and json.loads(description_path.read_text(encoding="utf-8")) != description:
        raise InputError.about(
            folder, "holds a phantom with other settings", "choose another folder or remove this one"
        )
    if description_path.is_file() and manifest_path.is_file():
        return manifest_path
    write_json(description_path, description)
    drawn: dict[int, list[Case]] = {}
    seeds = range(seed, seed + subjects)
    if workers == 1:
        for one in seeds:
            drawn[one] = _write_subject(one, settings, folder)
            if progress:
                progress(len(drawn), subjects)
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(_write_subject, one, settings, folder): one for one in seeds}
            for future in as_completed(futures):
                drawn[futures[future]] = future.result()
                if progress:
                    progress(len(drawn), subjects)
    Manifest([case for one in seeds for case in drawn[one]]).write_csv(manifest_path)
    return manifest_path


def is_phantom(folder: str | Path) -> bool:
    """Whether a folder holds a phantom data set, or a manifest that was prepared from one: a result on it has to be
    called a phantom result."""
    if (Path(folder) / "phantom.json").is_file():
        return True
    try:
        return json.loads((Path(folder) / "preparation.json").read_text(encoding="utf-8")).get("phantom") is True
    except (OSError, ValueError, AttributeError):
        return False
