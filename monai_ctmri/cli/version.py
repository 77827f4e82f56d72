"""``monai-ctmri version``."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

from monai_ctmri import __version__

EXAMPLE = "Example: monai-ctmri version"

_LIBRARIES = ("torch", "monai", "pytorch-ignite", "pyod", "scikit-learn", "numpy")


def version() -> None:
    """Print the versions of this package and of the libraries results depend on."""
    typer.echo(f"monai-ctmri {__version__}")
    typer.echo(f"python {platform.python_version()}")
    for name in _LIBRARIES:
        typer.echo(f"{name} {metadata.version(name)}")
