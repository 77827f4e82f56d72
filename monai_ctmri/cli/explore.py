"""``monai-ctmri explore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_ctmri.cli.destination import check_destination

if TYPE_CHECKING:
    from monai_ctmri.data.exploration import Exploration

EXAMPLE = "Example: monai-ctmri explore data/ct-to-mri-cgan --out runs/explore"


def explore(
    data: Annotated[Path, typer.Argument(help="Folder of images, or a manifest (CSV or MONAI datalist JSON).")],
    out: Annotated[Path, typer.Option(help="Folder to write to.", callback=check_destination)],
    workers: Annotated[
        int, typer.Option(help="Processes that read images; with 2, a bad one cannot stop it.", min=1)
    ] = 1,
    a_is: Annotated[str | None, typer.Option(help="Modality of folders named A (trainA, testA): ct or mri.")] = None,
    allow_resample: Annotated[
        bool, typer.Option("--allow-resample", help="Bring uneven or tilted DICOM series to an even grid.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the libraries log.")] = False,
) -> None:
    """Look at a data set before any training: structure, properties, intensities, pairs, findings, one page."""
    from monai_ctmri.cli.console import command_given, quiet_libraries, stages

    quiet_libraries(verbose)
    from monai_ctmri.data import exploration as room
    from monai_ctmri.report.exploration_page import write_exploration

    room.check_apart(data, out)
    with stages() as advance:
        found = room.explore(data, workers=workers, progress=advance, allow_resample=allow_resample, a_is=a_is)
        page = write_exploration(found, out, command=command_given(), progress=advance)
    _show(found, page)


def _show(found: Exploration, page: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from monai_ctmri.report.exploration_page import answer_view

    console = Console()
    table = Table(title=Text(f"Data set {found.root}"), title_justify="left", show_header=False)
    for tile in answer_view(found.summary)["tiles"]:
        table.add_row(Text(tile["name"]), Text(tile["value"]), Text(tile["why"]))
    console.print(table)
    for finding in found.summary["findings"]["list"]:
        if finding["kind"] == "wrong_modality":
            line = f"Wrong modality: {finding['file']} ({finding['measure']})"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)
