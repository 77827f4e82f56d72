"""``monai-ctmri download``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from monai_ctmri.cli.destination import check_destination

EXAMPLE = "Example: monai-ctmri download --out data"


def download(
    out: Annotated[Path, typer.Option(help="Folder to download into.", callback=check_destination)],
    dataset: Annotated[
        str, typer.Option(help="Data set of Kaggle: owner/name or owner/name/version.")
    ] = "darren2020/ct-to-mri-cgan",
    verify: Annotated[bool, typer.Option("--verify", help="Check content too, not sizes only.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Download again and replace an earlier download.")] = False,
) -> None:
    """Download a data set from Kaggle, check it and unpack it to OUT/name.

    The key comes from KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME and KAGGLE_KEY, or kaggle.json. A
    download that was cut off continues when the same command is given again.
    """
    from monai_ctmri.cli.console import stages
    from monai_ctmri.data import kaggle

    with _warnings_shown(), stages() as advance:
        try:
            folder = None if force else kaggle.find_download(dataset, out, verify=verify, progress=advance)
            held = folder is not None
            folder = folder or kaggle.download(dataset, out, force=force, progress=advance)
        except kaggle.DownloadError as error:
            typer.echo("To get the data by hand:", err=True)
            for number, step in enumerate(error.steps, 1):
                typer.echo(f"  {number}. {step}", err=True)
            raise
    typer.echo(f"{'Already there and intact' if held else 'Data'}: {folder}")
    typer.echo(f"Next: monai-ctmri prepare {folder}")


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Write the package's warnings to stderr as lines of their own."""
    logger, handler = logging.getLogger("monai_ctmri"), logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("Warning: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
