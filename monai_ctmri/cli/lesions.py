"""``monai-ctmri lesions``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ctmri.cli.destination import check_destination

EXAMPLE = "Example: monai-ctmri lesions data/phantom/manifest.csv --out data/lesions --kinds hemorrhage,tumour"


def lesions(
    manifest: Annotated[
        Path, typer.Argument(help="Manifest (CSV or MONAI datalist JSON), or a folder with manifest.csv.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.", callback=check_destination)],
    kinds: Annotated[str | None, typer.Option(help="Kinds, with commas; all that can be shown by default.")] = None,
    sizes: Annotated[str, typer.Option(help="small, medium, large, with commas.")] = "medium",
    contrast: Annotated[float, typer.Option(help="Factor on every change; 0 changes nothing.", min=0.0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", min=0)] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the libraries log.")] = False,
) -> None:
    """Write abnormal twins of the normal cases of a manifest, with masks: anomalies that only test."""
    from monai_ctmri.cli.console import quiet_libraries, stages

    quiet_libraries(verbose)
    from monai_ctmri.evaluation.lesion_twins import write_twins

    with stages() as advance:
        path = write_twins(
            manifest,
            out,
            kinds=None if kinds is None else [kind.strip() for kind in kinds.split(",")],
            sizes=[size.strip() for size in sizes.split(",")],
            contrast=contrast,
            seed=seed,
            progress=advance,
        )
    typer.echo(f"Manifest: {path}")
