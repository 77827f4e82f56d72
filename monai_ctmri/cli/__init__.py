"""The command line: one file a command, no logic of its own; heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from monai_ctmri.cli import benchmark, demo, download, explore, lesions, phantom, prepare, score, version
from monai_ctmri.errors import InputError, find_input_error

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """The commands; an interrupt is answered here, since typer's versions differ in the exit code and show nothing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("Interrupted. The same command continues where it stopped.", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="monai-ctmri",
    cls=_Commands,
    help="Unsupervised cross-modal anomaly detection in brain CT and MRI. For research only: not a medical device.",
    epilog="Example: monai-ctmri demo --out runs/demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.command("phantom", epilog=phantom.EXAMPLE)(phantom.phantom)
app.command("benchmark", epilog=benchmark.EXAMPLE)(benchmark.benchmark)
app.command("download", epilog=download.EXAMPLE)(download.download)
app.command("explore", epilog=explore.EXAMPLE)(explore.explore)
app.command("lesions", epilog=lesions.EXAMPLE)(lesions.lesions)
app.command("prepare", epilog=prepare.EXAMPLE)(prepare.prepare)
app.command("score", epilog=score.EXAMPLE)(score.score)
app.command("version", epilog=version.EXAMPLE)(version.version)


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2, an interrupt in 130."""
    try:
        app()
    except Exception as error:
        bad = error if isinstance(error, InputError) else find_input_error(error)
        if bad is None:
            raise
        typer.echo(f"Error: {bad}", err=True)
        sys.exit(2)
