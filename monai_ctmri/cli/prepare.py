"""``monai-ctmri prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ctmri.cli.destination import check_destination

EXAMPLE = "Example: monai-ctmri prepare data/my_scans --out data/my_scans.csv --explain"


def prepare(
    data: Annotated[Path, typer.Argument(help="Folder of images (pictures, NIfTI, DICOM, ...), or a manifest.")],
    out: Annotated[Path, typer.Option(help="The manifest to write; findings.csv goes beside it.")],
    explain: Annotated[bool, typer.Option("--explain", help="Show what each decision rests on.")] = False,
    a_is: Annotated[
        str | None, typer.Option(help="Modality of trainA and testA (ct or mri), if nothing tells.")
    ] = None,
    rediscover: Annotated[bool, typer.Option("--rediscover", help="Look at the files, not at a manifest.csv.")] = False,
    register: Annotated[
        str, typer.Option(help="Bring the MRI of a pair of volumes onto its CT's grid: none, rigid or affine.")
    ] = "none",
    allow_resample: Annotated[
        bool, typer.Option("--allow-resample", help="Bring tilted or unevenly spaced series to an even grid.")
    ] = False,
    levels: Annotated[
        tuple[float, float], typer.Option(help="First and last slice of a volume, in mm below the vertex.")
    ] = (20.0, 100.0),
    every_mm: Annotated[float, typer.Option(help="Least distance between slices of a volume; 0 takes all.")] = 0.0,
    quarantine: Annotated[
        str, typer.Option(help="Findings that keep a case apart: severities or kinds, with commas; or none.")
    ] = "error",
    seed: Annotated[int, typer.Option(help="Of the registration's sampling.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that open files; with 2, a bad one cannot stop it.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the libraries log.")] = False,
) -> None:
    """Find the images of a folder, check each, and write a manifest that benchmark and the bundles take.

    Nothing of the folder is changed. Volumes are cut into axial slices beside the manifest.
    """
    from monai_ctmri.cli.console import quiet_libraries, show_preparation, stages

    check_destination(out.parent)
    quiet_libraries(verbose)
    from monai_ctmri.data.preparation import prepare as prepare_folder
    from monai_ctmri.errors import InputError

    if register not in ("none", "rigid", "affine"):
        raise InputError.about(f"--register {register}", "unknown", "use none, rigid or affine")
    align = None
    if register != "none":
        from monai_ctmri.transforms.volume_alignment import VolumeAligner

        align = VolumeAligner(register, seed=seed)
    with stages() as advance:
        prepared = prepare_folder(
            data,
            out,
            a_is=a_is,
            use_manifest=not rediscover,
            allow_resample=allow_resample,
            align=align,
            levels_mm=levels,
            every_mm=every_mm,
            rule=quarantine.split(","),
            workers=workers,
            progress=advance,
        )
    show_preparation(prepared, explain)
