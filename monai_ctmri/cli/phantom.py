"""``monai-ctmri phantom``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ctmri.cli.destination import check_destination

EXAMPLE = "Example: monai-ctmri phantom --out data/phantom --subjects 50 --contrast T2"


def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write to.", callback=check_destination)],
    subjects: Annotated[int, typer.Option(help="Number of subjects.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the first subject; the others follow.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels along each side of a slice.")] = 128,
    slices: Annotated[int, typer.Option(help="Axial slices of a subject (not for volumes).")] = 12,
    contrast: Annotated[str, typer.Option(help="T1, T2, PD, FLAIR or mixed.")] = "T2",
    form: Annotated[str, typer.Option(help="slices (8-bit PNG) or volumes (NIfTI, CT in HU).")] = "slices",
    levels: Annotated[str, typer.Option(help="brain, or head: from skull base to vertex (not for volumes).")] = "brain",
    workers: Annotated[int, typer.Option(help="Processes that draw subjects.")] = 1,
) -> None:
    """Draw paired CT and MRI of normal heads, with tissue truth and a manifest."""
    from monai_ctmri.cli.console import stages
    from monai_ctmri.data.phantom import write_phantom

    with stages() as advance:
        manifest = write_phantom(
            out,
            subjects,
            seed,
            size=size,
            slices=slices,
            contrast=contrast,
            form=form,
            levels=levels,
            workers=workers,
            progress=lambda done, total: advance("Drawing subjects", done, total),
        )
    typer.echo(f"Manifest: {manifest}")
