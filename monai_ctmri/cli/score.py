"""``monai-ctmri score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_ctmri.cli.destination import check_destination

if TYPE_CHECKING:
    from monai_ctmri.evaluation.scoring_run import ScoringRun

EXAMPLE = "Example: monai-ctmri score data/new/manifest.csv --model runs/brain_ctmri_crossmodal --out runs/new"


def score(
    manifest: Annotated[
        Path, typer.Argument(help="Manifest of slices (CSV or MONAI datalist JSON), or a folder with manifest.csv.")
    ],
    model: Annotated[
        Path, typer.Option(help="What a training run wrote, or a bundle; a bundle's configuration is code: trust it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.", callback=check_destination)],
    alpha: Annotated[float, typer.Option(help="False-alarm rate for flagged cases.")] = 0.05,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the libraries log.")] = False,
) -> None:
    """Judge every case of a manifest, CT, MRI or both: a score, a p-value and a heatmap each, and a report.

    A run that was interrupted continues when the same command is given again. Exit code 3: some cases could not be
    judged, failures.csv says why.
    """
    from monai_ctmri.cli.console import command_given, quiet_libraries, show_report, stages

    quiet_libraries(verbose)
    from monai_ctmri.data.phantom import is_phantom
    from monai_ctmri.evaluation.scoring_run import score_manifest
    from monai_ctmri.report.scoring_report import write_scoring_report

    with stages() as advance:
        run = score_manifest(manifest, model, out, alpha=alpha, progress=advance)
    folder = (manifest if manifest.is_dir() else manifest.parent).resolve()
    report = write_scoring_report(run, command=command_given(), phantom=is_phantom(folder))
    _show(run)
    show_report(report)
    if run.failures:
        raise typer.Exit(3)


def _show(run: ScoringRun) -> None:
    from rich.console import Console

    console = Console()
    lines = [f"Cases judged: {len(run.outcomes)}"]
    if run.decision is not None:
        flagged = sum(bool(outcome.flagged) for outcome in run.outcomes)
        lines.append(f"Flagged at alpha {run.alpha:g} (calibrated on {run.decision.cases} normals): {flagged}")
    lines += run.notes
    if run.failures:
        lines.append(f"Not judged: {len(run.failures)}, see {run.folder / 'failures.csv'}")
    for line in (*lines, f"Scores: {run.folder / 'scores.csv'}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
